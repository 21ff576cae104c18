r"""Where the Laplace evidence of a fixed mode is largest, in the prior precision and in the noise.

With the eigenvalues :math:`\lambda_i` of the curvature and :math:`\gamma = \sum_i \lambda_i/(\lambda_i + \delta)`, the
number of well-determined weights,

.. math::
    2\,\frac{\partial \log p}{\partial \log \delta} = \gamma - \delta\|\theta_*\|^2, \qquad
    2\,\frac{\partial \log p}{\partial \log \beta} = N - \beta\,\mathrm{RSS} - \gamma,

and both right-hand sides fall in their variable: each has one root, found by bisection to rounding.
"""

import math
from collections.abc import Callable

from torch import Tensor


def best_prior(values: Tensor, norm: float) -> float:
    """The prior precision for curvature eigenvalues (P,) and squared norm of the weights."""
    if norm == 0 or not bool(values.max() > 0):
        raise ValueError("the evidence has no finite maximum in the prior precision: weights or curvature are zero")

    def slope(delta: float) -> float:
        return float((values / (values + delta)).sum()) - delta * norm

    return _falling_root(slope, len(values) / norm)  # gamma <= P


def best_noise(values: Tensor, count: int, squares: float, prior: float) -> float:
    """The noise std for unit-noise eigenvalues (P,), N data and their residual sum of squares."""
    if not squares > 0:
        raise ValueError("the model fits the targets without error: give noise_std, it cannot be fitted")

    def slope(beta: float) -> float:
        scaled = beta * values
        return count - beta * squares - float((scaled / (scaled + prior)).sum())

    return _falling_root(slope, count / squares) ** -0.5


def best_prior_and_noise(
    values: Tensor, norm: float, count: int, squares: float, noise_std: float
) -> tuple[float, float]:
    """Both, one after the other until neither moves: the evidence rises at each step."""
    prior, noise = best_prior(values / noise_std**2, norm), noise_std
    for _ in range(500):
        before = prior, noise
        noise = best_noise(values, count, squares, prior)
        prior = best_prior(values / noise**2, norm)
        if abs(math.log(prior / before[0])) + abs(math.log(noise / before[1])) < 1e-12:
            break
    return prior, noise


def _falling_root(slope: Callable[[float], float], high: float) -> float:
    """The root of a falling function, positive near 0 and <= 0 at ``high``: bisection on a log scale."""
    low = high
    while slope(low) <= 0:
        high, low = low, low / 16
    for _ in range(200):
        middle = math.sqrt(low * high)
        if not low < middle < high:
            break
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.sqrt(low * high)
