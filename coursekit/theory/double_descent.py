"""Exact risks of least squares past the point of interpolation: the two sides of double descent.

Data: y = x . theta + noise with x ~ N(0, I). The fit has minimum norm among the least-squares solutions.
"""

import math

import torch
from torch import Tensor


def subset_risk(n: int, p: int, *, used: float, unused: float = 0.0, noise: float = 1.0) -> float:
    """Exact expected test error of the minimum-norm fit on p of the features (Belkin, Hsu and Xu 2020).

    With s = unused + noise: s (1 + p / (n - p - 1)) for p <= n - 2, used (1 - n/p) + s (1 + n / (p - n - 1)) for
    p >= n + 2, infinite between.

    Args:
        n, p: numbers of data and of features used.
        used, unused: squared norms of theta on the features used and on the others.
        noise: variance of the noise; it is part of the test error.

    Raises ValueError for a negative argument or n < 1.

    >>> subset_risk(10, 0, used=0.0, unused=3.0), subset_risk(10, 4, used=1.0), subset_risk(10, 11, used=1.0)
    (4.0, 1.8, inf)
    """
    if n < 1 or min(p, used, unused, noise) < 0:
        raise ValueError(f"needs n >= 1 and nothing negative, got n={n}, p={p}, {used=}, {unused=}, {noise=}")
    s = unused + noise
    if p <= n - 2:
        return s * (1 + p / (n - p - 1))
    if p <= n + 1:
        return math.inf
    return used * (1 - n / p) + s * (1 + n / (p - n - 1))


def isotropic_risk(gamma: Tensor, *, signal: float, noise: float) -> Tensor:
    """Limit of the excess risk E||theta_hat - theta||^2 as p, n -> infinity with p/n -> gamma (see Hastie et al. 2022).

    noise g / (1 - g) for g < 1; signal (1 - 1/g) + noise / (g - 1) for g > 1; infinite at 1.

    Args:
        gamma: ratios p/n > 0, any shape.
        signal: ||theta||^2.
        noise: variance of the noise (not part of this risk).

    Raises ValueError if a ratio, the signal or the noise is out of range.

    >>> isotropic_risk(torch.tensor([0.5, 1.0, 2.0]), signal=4.0, noise=1.0)
    tensor([1., inf, 3.])
    """
    _require_problem(gamma, signal, noise)
    under = noise * gamma / (1 - gamma).clamp_min(0)
    over = signal * (1 - 1 / gamma) + noise / (gamma - 1).clamp_min(0)
    return torch.where(gamma < 1, under, torch.where(gamma > 1, over, torch.inf))


def isotropic_ridge_risk(gamma: Tensor, penalty: Tensor | float, *, signal: float, noise: float) -> Tensor:
    """Limit of the excess risk of ridge, as p/n -> gamma (see Hastie et al. 2022).

    For (X^T X / n + lambda I)^{-1} X^T y / n it is
    signal lambda^2 m' + noise gamma (m - lambda m') with m(z) the Stieltjes transform of the Marchenko-Pastur law and
    m' its derivative at z = -lambda: gamma lambda m^2 + (1 - gamma + lambda) m = 1. The best penalty is
    lambda = noise gamma / signal, and its risk noise gamma m(-lambda).

    Args:
        gamma: ratios p/n > 0; penalty: lambda > 0; they broadcast.

    Raises ValueError if an argument is out of range.

    >>> g = torch.tensor(0.5, dtype=torch.float64)
    >>> round(float(isotropic_ridge_risk(g, 1e-9, signal=4.0, noise=1.0)), 6)  # no penalty: least squares
    1.0
    """
    _require_problem(gamma, signal, noise)
    penalty = torch.as_tensor(penalty, dtype=gamma.dtype, device=gamma.device)
    if not bool((penalty > 0).all()):
        raise ValueError(f"the penalty must be positive, got {penalty}")
    b = 1 - gamma + penalty
    root = (b**2 + 4 * gamma * penalty).sqrt()
    # Of the two forms of the positive root, the one that adds numbers of the same sign.
    m = torch.where(b > 0, 2 / (b + root), (root - b) / (2 * gamma * penalty))
    slope = m * (1 + gamma * m) / root  # dm/dz at z = -lambda: minus the derivative of m in lambda
    return signal * penalty**2 * slope + noise * gamma * (m - penalty * slope)


def sample_risk(
    n: int, p: int, theta: Tensor, *, noise: float, samples: int, penalty: float = 0.0, generator: torch.Generator
) -> Tensor:
    """Test errors of fits on the first p features, for ``samples`` training sets of n data: (samples,).

    theta (D,), D >= p; penalty lambda adds n lambda ||w||^2 to the squared errors, 0 gives the minimum-norm fit.
    The test error of w, exact given the training set, is ||w - theta_p||^2 + ||theta_rest||^2 + noise.

    Raises ValueError if p is not in 1..D or samples < 1.

    >>> g = torch.Generator().manual_seed(0)
    >>> theta = torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> sample_risk(5, 2, theta, noise=0.0, samples=2, generator=g).allclose(torch.zeros(2, dtype=torch.float64))
    True
    """
    if not 1 <= p <= len(theta) or samples < 1:
        raise ValueError(f"needs 1 <= p <= {len(theta)} and samples >= 1, got p={p}, samples={samples}")
    factory = {"generator": generator, "dtype": theta.dtype, "device": generator.device}
    x = torch.randn(samples, n, p, **factory).to(theta.device)
    rest = float(theta[p:].square().sum())
    # The other features are independent of x: seen from here they are noise.
    y = x @ theta[:p] + (rest + noise) ** 0.5 * torch.randn(samples, n, **factory).to(theta.device)
    if p <= n:
        gram = x.mT @ x + n * penalty * torch.eye(p, dtype=theta.dtype, device=theta.device)
        w = torch.linalg.solve(gram, (x.mT @ y[..., None])[..., 0])
    else:
        gram = x @ x.mT + n * penalty * torch.eye(n, dtype=theta.dtype, device=theta.device)
        w = (x.mT @ torch.linalg.solve(gram, y)[..., None])[..., 0]
    return (w - theta[:p]).square().sum(1) + rest + noise


def _require_problem(gamma: Tensor, signal: float, noise: float) -> None:
    if not bool((gamma > 0).all()) or signal < 0 or noise < 0:
        raise ValueError(f"needs gamma > 0, signal >= 0 and noise >= 0, got {gamma}, {signal}, {noise}")
