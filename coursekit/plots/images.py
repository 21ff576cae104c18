"""Grids of images with a line of text each: what is this, what did the model say, how sure was it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from coursekit.plots.regression import array
from coursekit.plots.style import COLORS


def image_grid(
    x: Tensor,
    *,
    captions: Sequence[str] | None = None,
    scores: Tensor | None = None,
    wrong: Tensor | None = None,
    columns: int = 8,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Grey images in rows, in the order given, white on black; captions and scores stand under each.

    Args:
        x: (N, 1, H, W) or (N, H, W) images, normalised or not.
        captions: N short texts, ``"7 -> 1"`` say.
        scores: (N,) numbers, written with two significant digits.
        wrong: (N,) booleans: frames these images in orange.
        columns: images a row.
        limits: pixel values drawn black and white; ``None``: the smallest and the largest of all the images.

    Raises:
        ValueError: no images, or captions, scores or flags that are not N.
    """
    images = array(x)
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 3 or len(images) == 0:
        raise ValueError(f"x must be grey images (N, 1, H, W) or (N, H, W), got {tuple(np.shape(array(x)))}")
    count, height, width = images.shape
    for name, values in (("captions", captions), ("scores", scores), ("wrong", wrong)):
        if values is not None and len(values) != count:
            raise ValueError(f"{name} must have one entry for each of {count} images, got {len(values)}")
    ax = ax or plt.gca()
    columns = min(columns, count)
    rows = -(-count // columns)
    texts = [[] for _ in range(count)]
    if captions is not None:
        texts = [[caption] for caption in captions]
    if scores is not None:
        texts = [[*text, f"{score:#.2g}"] for text, score in zip(texts, array(scores), strict=True)]
    step_x, step_y = width + 2, height + 2 + (0.28 * height * (bool(texts[0])))
    low, high = limits or (images.min(), images.max())
    for n, image in enumerate(images):
        left, top = n % columns * step_x, n // columns * step_y
        ax.imshow(
            image,
            cmap="gray",
            vmin=low,
            vmax=high,
            extent=(left, left + width, top + height, top),
            interpolation="nearest",
        )
        if wrong is not None and bool(wrong[n]):
            frame = plt.Rectangle((left, top), width, height, fill=False, ec=COLORS["orange"], lw=2)
            ax.add_patch(frame)
        ax.text(left + width / 2, top + height + 1, "  ".join(texts[n]), ha="center", va="top", fontsize="x-small")
    ax.set(xlim=(-1, columns * step_x - 1), ylim=(rows * step_y - 1, -1), aspect="equal")
    ax.set_axis_off()
    return ax
