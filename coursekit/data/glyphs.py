"""Letters drawn from the fonts that ship with matplotlib: a foreign set for networks that know digits, offline."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from coursekit.data.images import normalize as _normalize

LETTERS = "ABCEFGHJKLMNPQRTUVWXY"
"""The capital letters without D, I, O, S and Z, whose shapes are those of the digits 0, 1, 0, 5 and 2."""
_FONTS = tuple(
    f"{name}.ttf"
    for name in (
        *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
        *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
        *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
        *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    )
)
_ROTATION, _SHEAR, _STRETCH, _SHIFT = 15.0, 0.2, 0.15, 1.5  # degrees, -, -, pixels: how far a letter may stray


def glyphs(
    n: int = 2000,
    *,
    letters: str = LETTERS,
    normalize: bool = False,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Random letters that look like MNIST: white on black, 20 pixels high, centred by mass in 28 x 28 pixels.

    Letter and font are drawn uniformly, then rotated by up to 15 degrees, sheared, stretched and moved a little.
    No file is downloaded, and the same generator state gives the same images.

    Args:
        n: number of images.
        letters: the letters to draw from.
        normalize: return (x - 0.1307) / 0.3081 instead of pixels in [0, 1].
        generator: source of randomness; ``None``: a fresh one with seed 0, so the set is the same each time.
        device: where to put both tensors; ``None``: the CPU.

    Returns:
        x (n, 1, 28, 28) float32 and y (n,) int64, the index into ``letters``.

    Raises:
        ValueError: n < 1, or no letters.

    >>> x, y = glyphs(4, letters="AB")
    >>> x.shape, float(x.min()), bool(x.max() <= 1), set(y.tolist()) <= {0, 1}
    (torch.Size([4, 1, 28, 28]), 0.0, True, True)
    """
    if n < 1 or not letters:
        raise ValueError(f"n={n} images of letters={letters!r}: write n >= 1 and at least one letter")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    stencils = _stencils(letters).to(generator.device)  # (letters, fonts, 1, 56, 56)

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(n, generator=generator, device=generator.device) - 1) * limit

    y = torch.randint(len(letters), (n,), generator=generator, device=generator.device)
    font = torch.randint(len(_FONTS), (n,), generator=generator, device=generator.device)
    angle, shear = torch.deg2rad(uniform(_ROTATION)), uniform(_SHEAR)
    width, height = 1 + uniform(_STRETCH), 1 + uniform(_STRETCH)
    cos, sin = angle.cos(), angle.sin()
    # rows of the matrix that takes a pixel of the new image to the place it is read from (rotation x shear x scale)
    matrix = torch.stack(
        [
            torch.stack([cos * width, (shear * cos - sin) * height, uniform(_SHIFT / 14)], -1),
            torch.stack([sin * width, (shear * sin + cos) * height, uniform(_SHIFT / 14)], -1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, [n, 1, 28, 28], align_corners=False)
    x = F.grid_sample(stencils[y, font], grid, align_corners=False).clamp_(0, 1)
    if normalize:
        x = _normalize(x)
    return x.to(device or "cpu"), y.to(device or "cpu")


@lru_cache(maxsize=8)
def _stencils(letters: str) -> Tensor:
    """(letters, fonts, 1, 56, 56): each letter in each font, at twice the size of the final image."""
    from pathlib import Path

    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(folder / name, size=160) for name in _FONTS]
    return torch.stack([torch.stack([_draw(letter, font) for font in fonts]) for letter in letters])


def _draw(letter: str, font) -> Tensor:
    """(1, 56, 56): one letter, its longer side 40 pixels, its centre of mass in the middle."""
    import numpy as np
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (320, 320))
    ImageDraw.Draw(canvas).text((160, 160), letter, fill=255, font=font, anchor="mm")
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"letters: {letter!r} leaves no ink on the page")
    canvas = canvas.crop(box)
    scale = 40 / max(canvas.size)
    canvas = canvas.resize([max(1, round(side * scale)) for side in canvas.size], Image.Resampling.BOX)
    ink = torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255)
    rows, columns = (torch.arange(side, dtype=torch.float32) + 0.5 for side in ink.shape)
    top = round(28 - float((ink.sum(1) @ rows) / ink.sum()))
    left = round(28 - float((ink.sum(0) @ columns) / ink.sum()))
    page = torch.zeros(1, 56, 56)
    # an unbalanced letter (an L, say) may reach over the edge when centred by mass: keep all of it on the page
    top, left = min(max(top, 0), 56 - ink.shape[0]), min(max(left, 0), 56 - ink.shape[1])
    page[0, top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return page
