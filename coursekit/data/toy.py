"""The small sets of the course: regression on a line, classification in the plane. Same generator, same points."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Regression(NamedTuple):
    """Inputs x (N,), targets t (N,)."""

    x: Tensor
    t: Tensor


class Classification(NamedTuple):
    """Inputs x (N, 2), labels y (N,) in 0, 1, ..."""

    x: Tensor
    y: Tensor


#: Intercept and slope of :func:`line` and :func:`hole`: t = -0.3 + 0.5 x + noise.
LINE_WEIGHTS = (-0.3, 0.5)


def line_truth(x: Tensor) -> Tensor:
    """The noiseless line -0.3 + 0.5 x.

    >>> line_truth(torch.tensor([0.0, 2.0], dtype=torch.float64))
    tensor([-0.3000,  0.7000], dtype=torch.float64)
    """
    return LINE_WEIGHTS[0] + LINE_WEIGHTS[1] * x


def sinus_truth(x: Tensor) -> Tensor:
    """The noiseless curve sin(2 pi x) + x.

    >>> sinus_truth(torch.tensor([0.25], dtype=torch.float64))
    tensor([1.2500], dtype=torch.float64)
    """
    return torch.sin(2 * math.pi * x) + x


def line(n: int = 25, *, noise_std: float = 0.2, generator: torch.Generator) -> Regression:
    """t = -0.3 + 0.5 x + N(0, noise_std^2), x uniform on [0, 2]; float64, on the generator's device."""
    return _noisy(2 * _uniform(n, generator), line_truth, noise_std, generator)


def hole(n: int = 20, *, noise_std: float = 0.2, generator: torch.Generator) -> Regression:
    """The line of :func:`line` seen on [-3, -1] and [1, 3], half of the points each: a hole in the middle."""
    u = _uniform(n, generator)
    x = torch.cat([-3 + 2 * u[: n // 2], 1 + 2 * u[n // 2 :]])
    return _noisy(x, line_truth, noise_std, generator)


def sinus(n: int = 50, *, noise_std: float = 0.2, generator: torch.Generator) -> Regression:
    """t = sin(2 pi x) + x + N(0, noise_std^2), x uniform on [0, 1]."""
    return _noisy(_uniform(n, generator), sinus_truth, noise_std, generator)


def blobs(
    n: int = 400,
    *,
    centres: tuple[tuple[float, float], ...] = ((-2.0, -2.0), (2.0, 2.0)),
    std: float = 0.8,
    generator: torch.Generator,
) -> Classification:
    """Gaussian clouds of equal size (up to one point), shuffled; label = index of the centre."""
    middle = torch.tensor(centres, dtype=torch.float64, device=generator.device)
    y = torch.arange(_positive(n), device=generator.device) % len(centres)
    x = middle[y] + _positive_std(std) * _normal((n, 2), generator)
    return _shuffled(x, y, generator)


def moons(n: int = 1000, *, noise_std: float = 0.05, generator: torch.Generator) -> Classification:
    """Two interleaved half circles of radius 1 with Gaussian noise; label 1 is the lower one."""
    y = torch.arange(_positive(n), device=generator.device) % 2
    angle = math.pi * _uniform(n, generator)
    upper = torch.stack([angle.cos(), angle.sin()], -1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], -1)
    x = torch.where(y[:, None] == 1, lower, upper) + _positive_std(noise_std) * _normal((n, 2), generator)
    return _shuffled(x, y, generator)


def rings(n: int = 400, *, radii: tuple[float, ...] = (1.0, 2.5), noise_std: float = 0.0, generator: torch.Generator):
    """Concentric circles, one class each; label = index of the radius."""
    y = torch.arange(_positive(n), device=generator.device) % len(radii)
    angle = 2 * math.pi * _uniform(n, generator)
    radius = torch.tensor(radii, dtype=torch.float64, device=generator.device)[y]
    x = radius[:, None] * torch.stack([angle.cos(), angle.sin()], -1)
    return _shuffled(x + _positive_std(noise_std) * _normal((n, 2), generator), y, generator)


def _noisy(x: Tensor, truth, noise_std: float, generator: torch.Generator) -> Regression:
    return Regression(x, truth(x) + _positive_std(noise_std) * _normal(x.shape, generator))


def _shuffled(x: Tensor, y: Tensor, generator: torch.Generator) -> Classification:
    order = torch.randperm(len(y), generator=generator, device=generator.device)
    return Classification(x[order], y[order])


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(_positive(n), generator=generator, device=generator.device, dtype=torch.float64)


def _normal(shape, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)


def _positive(n: int) -> int:
    if n < 0:
        raise ValueError(f"n={n}: a number of points is at least 0")
    return n


def _positive_std(std: float) -> float:
    if not std >= 0:
        raise ValueError(f"standard deviation {std}: it must be >= 0")
    return std
