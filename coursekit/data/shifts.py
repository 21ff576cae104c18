"""Graded shifts of images: the same pictures, less and less like those the network was trained on.

Each function takes images x (N, 1, H, W) with pixels in [0, 1] and gives back new ones of the same kind; normalise
after shifting. ``shift(x, kind, severity)`` grades them from 0 (unchanged) to 5.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFTS: dict[str, tuple[float, ...]] = {
    "permuted": (0.1, 0.25, 0.5, 0.75, 1.0),  # share of the pixels that change place
    "inverted": (0.2, 0.4, 0.6, 0.8, 1.0),  # weight of the negative
    "rotated": (15.0, 30.0, 45.0, 60.0, 90.0),  # degrees, anticlockwise
    "blurred": (0.5, 1.0, 1.5, 2.0, 3.0),  # standard deviation in pixels
    "noisy": (0.1, 0.2, 0.3, 0.5, 0.8),  # standard deviation in units of white
}
"""Strength of each kind of shift at severity 1, 2, 3, 4, 5."""


def shift(x: Tensor, kind: str, severity: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Images shifted by one of the five grades of a kind; grade 0 leaves them as they are.

    Args:
        x: (N, 1, H, W) pixels in [0, 1].
        kind: ``"permuted"``, ``"inverted"``, ``"rotated"``, ``"blurred"`` or ``"noisy"``.
        severity: 0 to 5; :data:`SHIFTS` says what each means.
        generator: source of randomness of ``"permuted"`` and ``"noisy"``.

    Raises:
        TypeError, ValueError: not such images, an unknown kind, or another severity.

    >>> x = torch.rand(2, 1, 28, 28)
    >>> torch.equal(shift(x, "inverted", 5), 1 - x), torch.equal(shift(x, "noisy", 0), x)
    (True, True)
    """
    if kind not in SHIFTS:
        raise ValueError(f"kind={kind!r}: choose from {', '.join(SHIFTS)}")
    if severity not in range(6):
        raise ValueError(f"severity={severity!r}: a whole number from 0 (unchanged) to 5")
    _check_images(x)
    if severity == 0:
        return x.clone()
    strength = SHIFTS[kind][severity - 1]
    if kind == "permuted":
        return permute(x, strength, generator=generator)
    if kind == "noisy":
        return noise(x, strength, generator=generator)
    return {"inverted": invert, "rotated": rotate, "blurred": blur}[kind](x, strength)


def permute(x: Tensor, share: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
    """Move a share of the pixels to each other's places, the same way in every image.

    At ``share=1`` the places are a uniformly random permutation: every pixel value is kept, every shape is lost.

    Args:
        share: share of the pixels taken part in the permutation, in [0, 1].
        generator: source of randomness; ``None``: a fresh one with seed 0, so train and test get the same permutation.

    >>> x = torch.rand(3, 1, 4, 4)
    >>> torch.equal(permute(x).flatten(1).sort(1).values, x.flatten(1).sort(1).values)
    True
    """
    _check_images(x)
    _check_between("share", share, 0, 1)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    pixels = x[0].numel()
    chosen = torch.randperm(pixels, generator=generator, device=generator.device)[: round(share * pixels)]
    order = torch.arange(pixels, device=generator.device)
    order[chosen] = chosen[torch.randperm(len(chosen), generator=generator, device=generator.device)]
    return x.flatten(1)[:, order.to(x.device)].view_as(x)


def invert(x: Tensor, amount: float = 1.0) -> Tensor:
    """Blend with the negative: (1 - a) x + a (1 - x).

    >>> invert(torch.zeros(1, 1, 1, 2), 0.5).tolist()
    [[[[0.5, 0.5]]]]
    """
    _check_images(x)
    _check_between("amount", amount, 0, 1)
    return ((1 - amount) * x + amount * (1 - x)).clamp_(0, 1)


def rotate(x: Tensor, degrees: float = 90.0) -> Tensor:
    """Rotate anticlockwise about the centre (bilinear); what comes in from outside is black.

    >>> x = torch.rand(1, 1, 5, 5)
    >>> bool(torch.allclose(rotate(x, 90), torch.rot90(x, 1, (2, 3)), atol=1e-5))
    True
    """
    _check_images(x)
    angle = math.radians(degrees)
    rows, columns = x.shape[-2:]
    # affine_grid measures both axes from -1 to 1: the ratio of the sides keeps circles round
    matrix = x.new_tensor(
        [
            [math.cos(angle), -math.sin(angle) * rows / columns, 0],
            [math.sin(angle) * columns / rows, math.cos(angle), 0],
        ]
    )
    grid = F.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp_(0, 1)


def blur(x: Tensor, sigma: float = 1.0) -> Tensor:
    """Convolve with a Gaussian of ``sigma`` pixels (cut at 4 sigma, normalised); outside is black.

    >>> x = torch.zeros(1, 1, 27, 27); x[..., 13, 13] = 1
    >>> round(float(blur(x, 1.5).sum()), 5)
    1.0
    """
    _check_images(x)
    _check_between("sigma", sigma, 0, math.inf)
    if sigma == 0:
        return x.clone()
    radius = math.ceil(4 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    channels = x.flatten(0, 1).unsqueeze(1)  # each channel by itself
    channels = F.conv2d(channels, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    channels = F.conv2d(channels, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return channels.view_as(x).clamp_(0, 1)


def noise(x: Tensor, std: float = 0.3, *, generator: torch.Generator | None = None) -> Tensor:
    """Add independent Gaussian noise to each pixel and cut to [0, 1].

    >>> x = torch.full((1, 1, 200, 200), 0.5)
    >>> round(float(noise(x, 0.1, generator=torch.Generator().manual_seed(0)).std()), 2)
    0.1
    """
    _check_images(x)
    _check_between("std", std, 0, math.inf)
    place = x.device if generator is None else generator.device
    draw = torch.randn(x.shape, generator=generator, device=place, dtype=x.dtype).to(x.device)
    return (x + std * draw).clamp_(0, 1)


def _check_images(x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a float tensor of images (N, C, H, W), got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(f"x must be images (N, C, H, W), got shape {tuple(x.shape)}")
    low, high = (float(v) for v in x.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"x has values from {low:.3g} to {high:.3g}, expected pixels in [0, 1]: shift first, then normalize()"
        )


def _check_between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value}: expected a number from {low} to {high}")
