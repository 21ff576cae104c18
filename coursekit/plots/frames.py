"""A figure the reader can move on a static page: frames drawn beforehand and a slider, no server, no library."""

import base64
import hashlib
import html
import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

_serial = itertools.count()


@dataclass(frozen=True)
class Slider:
    """Frames and their labels; shows itself as an image above a range input, in a notebook and on a page."""

    images: tuple[str, ...]
    labels: tuple[str, ...]
    name: str
    alt: str
    start: int

    def _repr_html_(self) -> str:
        digest = hashlib.sha256("".join(self.images).encode()).hexdigest()[:12]
        key = f"ck-slider-{digest}-{next(_serial)}"  # unique on a page, and the same in each build of it
        first = self.labels[self.start]
        # The label of the frame is part of the alternative text, so that it changes with the slider.
        script = (
            f"(function(){{const root=document.getElementById('{key}');const frames={json.dumps(self.images)};"
            f"const labels={json.dumps(self.labels)};const alt={json.dumps(self.alt)};"
            "const image=root.querySelector('img'),output=root.querySelector('output');"
            "const input=root.querySelector('input');"
            "input.addEventListener('input',function(){const k=Number(input.value);"
            "image.src='data:image/png;base64,'+frames[k];output.textContent=labels[k];"
            f"image.alt=alt+' ('+{json.dumps(self.name)}+' = '+labels[k]+')';"
            "input.setAttribute('aria-valuetext',labels[k]);});})();"
        ).replace("</", "<\\/")
        alt = html.escape(f"{self.alt} ({self.name} = {first})", quote=True)
        return (
            f'<div class="ck-slider" id="{key}" role="group" style="margin:1em 0;text-align:center">'
            f'<img src="data:image/png;base64,{self.images[self.start]}" alt="{alt}" style="max-width:100%">'
            '<div style="display:flex;gap:.8em;align-items:center;justify-content:center">'
            f'<label for="{key}-input">{html.escape(self.name)}</label>'
            f'<input id="{key}-input" type="range" min="0" max="{len(self.images) - 1}" value="{self.start}" '
            f'aria-valuetext="{html.escape(first, quote=True)}" style="width:min(60%,24em)">'
            f'<output for="{key}-input" style="min-width:4em;text-align:left">{html.escape(first)}</output></div>'
            f"<script>{script}</script></div>"
        )


def slider(
    draw: Callable[..., Figure],
    values: Sequence,
    *,
    label: str,
    alt: str,
    start: int = 0,
    text: Callable[[object], str] = str,
    dpi: int = 90,
) -> Slider:
    """Draw one figure a value and put them under a slider; each figure is closed after it is drawn.

    Args:
        draw: value -> matplotlib Figure; keep axis limits fixed, so that only the idea moves.
        values: at most 60 of them: each costs some 20 to 50 kB of page.
        label: the name of what moves, written beside the slider.
        alt: what the picture shows, for someone who cannot see it.
        start: index of the frame shown first (and on paper).
        text: how a value is written.

    Raises:
        ValueError: no value, too many, an empty alt text, or a start outside the values.
    """
    values = list(values)
    if not 1 <= len(values) <= 60:
        raise ValueError(f"a slider takes 1 to 60 values, got {len(values)}")
    if not alt.strip():
        raise ValueError("alt is empty: say what the picture shows, for someone who cannot see it")
    if not 0 <= start < len(values):
        raise ValueError(f"start={start} is no index of {len(values)} values")
    images = []
    for value in values:
        figure = draw(value)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        plt.close(figure)
        images.append(base64.b64encode(buffer.getvalue()).decode())
    return Slider(tuple(images), tuple(text(v) for v in values), label, alt, start)
