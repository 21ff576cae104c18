"""How many labellings a class can produce, and how well it fits random signs: dichotomies and Rademacher averages."""

from collections.abc import Callable
from itertools import product
from math import comb

import numpy as np
import torch
from torch import Tensor


def cover_count(points: int, dimension: int) -> int:
    """Number of dichotomies of N points of R^d in general position by affine hyperplanes (Cover 1965).

    C(N, d) = 2 sum_{k=0}^{d} binom(N - 1, k); it is 2^N iff N <= d + 1, the VC dimension.

    Raises ValueError if points < 1 or dimension < 0.

    >>> [cover_count(n, 2) for n in (3, 4, 6)]
    [8, 14, 32]
    """
    if points < 1 or dimension < 0:
        raise ValueError(f"needs points >= 1 and dimension >= 0, got {points} and {dimension}")
    return 2 * sum(comb(points - 1, k) for k in range(dimension + 1))


def is_separable(x: Tensor, y: Tensor) -> bool:
    """Is there an affine function with sign y_n at each x_n? A linear programme: y_n (w . x_n + b) >= 1 feasible.

    x (N, D), y (N,) of -1 and +1.

    Raises ValueError for other labels or shapes. Needs SciPy.

    >>> square = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    >>> is_separable(square, torch.tensor([1, 1, -1, -1])), is_separable(square, torch.tensor([1, -1, -1, -1]))
    (False, True)
    """
    from scipy.optimize import linprog  # here, not above: only the pages that count need SciPy

    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"expected x (N, D) and y (N,), got {tuple(x.shape)} and {tuple(y.shape)}")
    if not bool(((y == 1) | (y == -1)).all()):
        raise ValueError("labels must be -1 or +1")
    rows = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64, device=x.device)], dim=1)
    constraint = -(y.double()[:, None] * rows).cpu().numpy()
    result = linprog(
        np.zeros(constraint.shape[1]), A_ub=constraint, b_ub=-np.ones(len(x)), bounds=(None, None), method="highs"
    )
    if result.status not in (0, 2):  # optimal, infeasible
        raise RuntimeError(f"the linear programme ended without an answer: {result.message}")
    return result.status == 0


def linear_dichotomies(x: Tensor) -> Tensor:
    """All labellings of the points x (N, D) by affine hyperplanes: (R, N) of -1 and +1, by 2^{N-1} linear programmes.

    Raises ValueError for more than 16 points. Needs SciPy.

    >>> linear_dichotomies(torch.tensor([[0.0], [1.0], [2.0]])).shape  # 2 * (1 + 2): an interval cut once
    torch.Size([6, 3])
    """
    if x.ndim != 2 or not 1 <= len(x) <= 16:
        raise ValueError(f"expected 1 to 16 points (N, D), got {tuple(x.shape)}")
    found = [
        (1, *rest)
        for rest in product((1, -1), repeat=len(x) - 1)
        if is_separable(x, torch.tensor((1, *rest), device=x.device))
    ]
    half = torch.tensor(found, device=x.device)
    return torch.cat([half, -half])  # flipping (w, b) flips all labels


def rademacher(
    supremum: Callable[[Tensor], Tensor],
    points: int,
    *,
    samples: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> tuple[float, float]:
    """Empirical Rademacher average (1/n) E sup_f sum_i eps_i f(x_i) of a class, and its standard error.

    ``supremum`` maps signs (S, n), float64, to sup_f sum_i eps_i f(x_i) (S,): for {w . x : ||w|| <= M} it is
    ``lambda e: M * (e @ x).norm(dim=1)``, for a finite class with values V (K, n) ``lambda e: (e @ V.T).amax(1)``.
    With ``samples=None`` the mean runs over all 2^n signs and the standard error is 0. The signs live on ``device``, by
    default that of the generator, or the CPU.

    Raises ValueError if all signs are asked for more than 20 points, or a shape is wrong.

    >>> rademacher(lambda e: e.abs().sum(1), 3)  # a class that fits all signs
    (1.0, 0.0)
    """
    if device is None:
        device = generator.device if generator else "cpu"
    if samples is None:
        if not 1 <= points <= 20:
            raise ValueError(f"the mean over all signs needs 1 to 20 points, got {points}; give samples=")
        bits = torch.arange(2**points, device=device)[:, None] >> torch.arange(points, device=device) & 1
        signs = 1.0 - 2.0 * bits.double()
    else:
        bits = torch.randint(2, (samples, points), generator=generator, device=device)
        signs = 1.0 - 2.0 * bits.double()
    values = supremum(signs)
    if values.shape != (len(signs),):
        raise ValueError(f"supremum must map signs (S, n) to (S,), it returned {tuple(values.shape)}")
    error = 0.0 if samples is None else float(values.std() / samples**0.5) / points
    return float(values.mean()) / points, error
