r"""Bayesian linear regression in closed form: :math:`t = \phi(x)^\top w + \varepsilon`, one Cholesky factor.

Prior :math:`w \sim \mathcal N(0, I/\alpha)`, noise :math:`\varepsilon \sim \mathcal N(0, 1/\beta)`; alpha and beta are
precisions (inverse variances). The derivation is in session 5 of the book.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from coursekit._inputs import check_count, refuse_half, refuse_idle
from coursekit.device import draw_device
from coursekit.predictive import NormalPredictive

Features = Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class LinearPosterior:
    r"""The Gaussian posterior :math:`\mathcal N(m, \Lambda^{-1})` of the M weights; immutable.

    Attributes:
        features: the map x -> (N, M); ``None``: x is the design matrix (..., N, M) itself.
        mean: (..., M) posterior mean m; leading axes are independent problems.
        precision: (..., M, M) posterior precision :math:`\Lambda = \alpha I + \beta \Phi^\top \Phi`.
        cholesky: (..., M, M) its lower Cholesky factor L, :math:`\Lambda = L L^\top`.
        alpha: prior precision, in 1/[w]^2.
        beta: noise precision, in 1/[t]^2.
        log_evidence: (...) log p(t | x, alpha, beta) of all targets seen, in nats.
        count: number of targets seen.
    """

    features: Features
    mean: Tensor
    precision: Tensor
    cholesky: Tensor
    alpha: float
    beta: float
    log_evidence: Tensor
    count: int

    @cached_property
    def covariance(self) -> Tensor:
        """(..., M, M) inverse of the precision, from its Cholesky factor."""
        return torch.cholesky_inverse(self.cholesky)

    def update(self, x: Tensor, t: Tensor) -> "LinearPosterior":
        r"""The posterior after more data: this posterior is the prior of the next step.

        .. math::
            \Lambda' = \Lambda + \beta\Phi^\top\Phi, \qquad
            \Lambda' m' = \Lambda m + \beta\Phi^\top t, \\
            \log p(t \mid \text{past}) = \tfrac N2\log\tfrac{\beta}{2\pi} - \tfrac12\log\tfrac{|\Lambda'|}{|\Lambda|}
            - \tfrac\beta2\|t - \Phi m'\|^2 - \tfrac12 (m'-m)^\top\Lambda(m'-m).

        In any order and in any number of steps the result is the batch posterior, up to rounding.

        Args:
            x: (N,) or (N, D) inputs, or with ``features=None`` the design matrix (..., N, M).
            t: (..., N) targets; leading axes are independent sets of targets.
        """
        design = self._design(x)
        t = _targets(t, design)
        if t.shape[-1] == 0:
            return self
        gram = design.mT @ design
        precision = self.precision + self.beta * gram
        cholesky, info = torch.linalg.cholesky_ex(precision)
        if bool((info > 0).any()):
            raise ValueError(
                "the posterior precision is not positive definite in this dtype: use float64, scale the inputs, "
                f"or raise alpha (alpha={self.alpha:g}, beta={self.beta:g})"
            )
        # Solve for the step from the old mean: exact cancellation-free form of both equations above.
        residual = t - _apply(design, self.mean)
        step = _solve(cholesky, self.beta * _apply(design.mT, residual))
        mean = self.mean + step
        quadratic = self.beta * (t - _apply(design, mean)).square().sum(-1)
        quadratic = quadratic + _apply(self.cholesky.mT, step).square().sum(-1)
        log_prob = 0.5 * (
            t.shape[-1] * math.log(self.beta / (2 * math.pi)) - _logdet(cholesky) + _logdet(self.cholesky) - quadratic
        )
        return LinearPosterior(
            self.features,
            mean,
            precision,
            cholesky,
            self.alpha,
            self.beta,
            self.log_evidence + log_prob,
            self.count + t.shape[-1],
        )

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """(n, ..., M) draws of the weights: m + L^{-T} e, e standard normal."""
        if n < 0:
            raise ValueError(f"n={n}: a number of samples is at least 0")
        shape, place = (n, *self.mean.shape), draw_device(self.mean, generator)
        noise = torch.randn(shape, generator=generator, dtype=self.mean.dtype, device=place).to(self.mean.device)
        step = torch.linalg.solve_triangular(self.cholesky.mT, noise.unsqueeze(-1), upper=True)
        return self.mean + step.squeeze(-1)

    def predict(
        self, x: Tensor, *, samples: int | None = None, generator: torch.Generator | None = None
    ) -> NormalPredictive:
        r"""The predictive law :math:`\mathcal N(\phi^\top m,\ 1/\beta + \phi^\top\Lambda^{-1}\phi)` at x.

        Args:
            samples: S draws of the weights, each one function on all of x; ``None``: the closed form, S = 1.
            generator: source of the draws.

        Returns:
            predictive with arrays (..., N): ``aleatoric`` is 1/beta, ``epistemic`` the variance of the mean.

        Raises:
            TypeError, ValueError: bad inputs, samples < 1, or a generator for the closed form.
        """
        refuse_idle(generator=None if samples is not None else generator, why="without samples nothing is drawn")
        design = self._design(x)
        if samples is not None:
            check_count("samples", samples)
            means = _apply(design, self.sample(samples, generator=generator))
            return NormalPredictive(means, torch.full_like(means, 1 / self.beta))
        mean = _apply(design, self.mean)
        whitened = torch.linalg.solve_triangular(self.cholesky, design.mT, upper=False)  # (..., M, N)
        epistemic = whitened.square().sum(-2).expand(mean.shape)
        noise = torch.full_like(mean, 1 / self.beta)
        return NormalPredictive(mean[None], noise[None], mean_variances=epistemic[None])

    def _to(self, dtype: torch.dtype) -> "LinearPosterior":
        names = ("mean", "precision", "cholesky", "log_evidence")
        return replace(self, **{name: getattr(self, name).to(dtype) for name in names})

    def _design(self, x: Tensor) -> Tensor:
        return _design(self.features, x, columns=self.mean.shape[-1])


def fit_linear(features: Features, x: Tensor, t: Tensor, *, alpha: float, beta: float) -> LinearPosterior:
    r"""Posterior of the weights of :math:`t = \phi(x)^\top w + \varepsilon` under the prior N(0, I/alpha).

    .. math::
        \Lambda = \alpha I + \beta\Phi^\top\Phi, \qquad m = \beta\Lambda^{-1}\Phi^\top t.

    Without data the posterior is the prior. One Cholesky factorisation, O(N M^2 + M^3); no inverse is formed.

    Args:
        features: the map x -> (N, M) (see :mod:`coursekit.bayes.features`); ``None``: x is the design matrix
            (..., N, M), for many regressions at once.
        x: (N,) or (N, D) inputs.
        t: (..., N) targets; leading axes are independent sets of targets on the same inputs.
        alpha: prior precision > 0.
        beta: noise precision 1/sigma^2 > 0 (not 1/(2 sigma^2)).

    Raises:
        TypeError: not floating-point tensors, or of different dtypes.
        ValueError: shapes that do not fit, NaN or infinity, different devices, alpha or beta <= 0.

    Source: Bishop, Pattern Recognition and Machine Learning, section 3.3.

    Example: one observation t = 2 of a constant, alpha = beta = 1: half-way between prior and data.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> p = fit_linear(None, one[:, None], 2 * one, alpha=1.0, beta=1.0)
    >>> round(float(p.mean), 12), round(float(p.covariance), 12)
    (1.0, 0.5)
    """
    design = _design(features, x)
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}={value}: a precision (inverse variance) is finite and > 0")
    alpha, beta = float(alpha), float(beta)
    batch, columns = design.shape[:-2], design.shape[-1]
    eye = torch.eye(columns, dtype=design.dtype, device=design.device).expand(*batch, columns, columns)
    zero = torch.zeros(*batch, columns, dtype=design.dtype, device=design.device)
    prior = LinearPosterior(features, zero, alpha * eye, math.sqrt(alpha) * eye, alpha, beta, zero.sum(-1), count=0)
    return prior.update(x, t)


def maximize_evidence(features: Features, x: Tensor, t: Tensor) -> LinearPosterior:
    r"""The posterior at the precisions alpha, beta that maximise the evidence p(t | x, alpha, beta).

    With :math:`\Phi = U\,\mathrm{diag}(s)\,V^\top`, :math:`z = U^\top t` and :math:`\rho = \alpha/\beta`, the best beta
    for a given ratio is :math:`\beta = N / Q(\rho)` with
    :math:`Q(\rho) = \sum_i \frac{\rho z_i^2}{s_i^2+\rho} + \|t\|^2 - \|z\|^2`, and what is left is a function
    of one number,

    .. math::
        \log p = -\tfrac12\sum_i\log(1 + s_i^2/\rho) - \tfrac N2\log Q(\rho) + \text{const},

    maximised over a grid of log rho and then to rounding by bisection of its derivative: the global optimum, where
    fixed-point updates stop early or at a local one. One singular value decomposition, in float64 whatever the dtype.

    Args:
        features, x, t: as for :func:`fit_linear`, one problem at a time (t of shape (N,)).

    Raises:
        ValueError: as :func:`fit_linear`; or the evidence has no finite maximum: the targets carry no signal of these
            features (alpha grows without bound) or are fitted without any error (beta does); or features of so
            different scales that float64 cannot hold the posterior.
    """
    design = _design(features, x)
    t = _targets(t, design)
    if design.ndim != 2 or t.ndim != 1:
        raise ValueError(f"maximize_evidence takes one problem: t of shape (N,), got {tuple(t.shape)}")
    if len(t) == 0:
        raise ValueError("maximize_evidence needs data: t is empty")
    wide = x.to(torch.float64)  # small singular values drown in the rounding of float32
    design64, t64 = _design(features, wide), t.to(torch.float64)
    u, s, _ = torch.linalg.svd(design64, full_matrices=False)
    epsilon = torch.finfo(torch.float64).eps
    s = torch.where(s > epsilon * max(design.shape) * s.max(), s, 0.0)  # below: no more than rounding
    columns = design64 / design64.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    if int(torch.linalg.matrix_rank(columns)) > int((s > 0).sum()):
        raise ValueError(
            "the features are scaled too differently: float64 cannot tell the small ones from rounding; "
            "standardise the inputs"
        )
    s2, z2 = s.square(), (u.mT @ t64).square()
    rest = (t64 - u @ (u.mT @ t64)).square().sum()
    if not bool(s2.max() > 0):
        raise ValueError("the features vanish on every input: the evidence does not depend on alpha")

    def objective(log_rho: Tensor) -> Tensor:  # (K,) -> (K,)
        rho = log_rho.exp()[:, None]
        q = (rho * z2 / (s2 + rho)).sum(-1) + rest
        return -0.5 * torch.log1p(s2 / rho).sum(-1) - 0.5 * len(t) * q.log()

    def slope(log_rho: Tensor) -> Tensor:  # () -> ()
        rho = log_rho.exp()
        q = (rho * z2 / (s2 + rho)).sum() + rest
        return 0.5 * (s2 / (s2 + rho)).sum() - 0.5 * len(t) * (rho * z2 * s2 / (s2 + rho).square()).sum() / q

    used = s2 > 0
    # Below ``low`` the slope is positive: its first term is then near rank/2, its second no more than a fraction.
    low = s2[used].min()
    steep = len(t) * (z2[used] / s2[used]).sum()
    if bool(rest > (epsilon * len(t)) ** 2 * t64.square().sum()) and bool(steep > 0):
        low = torch.minimum(low, rest / steep) / 16
    else:
        low = low * epsilon
    low, high = low.log(), s2.max().log() - math.log(epsilon)
    grid = torch.linspace(float(low), float(high), 1 + math.ceil(float(high - low) / 0.18), dtype=s.dtype)
    grid = grid.to(design.device)
    values = objective(grid)
    best = int(values.argmax())
    without_signal = -0.5 * len(t) * t64.square().sum().log()  # limit of the objective as alpha grows
    what = None
    if not bool(t.any()) or bool(values[best] <= without_signal + 1e-9):  # nats: not a maximum to speak of
        what = "alpha grows without bound: the features explain nothing of the targets"
    elif best == 0 and bool(rest <= (epsilon * len(t)) ** 2 * t64.square().sum()):
        what = "beta grows without bound: the features fit the targets without error"
    if what is not None:
        raise ValueError(f"the evidence has no finite maximum ({what}); use fit_linear with a fixed alpha and beta")
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    for _ in range(100):
        middle = (low + high) / 2
        rising = slope(middle) > 0
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
    rho = ((low + high) / 2).exp()
    beta = len(t) / ((rho * z2 / (s2 + rho)).sum() + rest)
    best_value = float(objective(rho.log()[None])[0]) + 0.5 * len(t) * (math.log(len(t) / (2 * math.pi)) - 1)
    posterior = fit_linear(features, wide, t64, alpha=float(rho * beta), beta=float(beta))
    if not abs(float(posterior.log_evidence) - best_value) <= 1e-3 + 1e-6 * abs(best_value):
        raise ValueError(
            f"the features are scaled too differently for float64 (singular values {float(s.max()):.2g} to "
            f"{float(s[used].min()):.2g}): the posterior at the best alpha and beta would be wrong; "
            "standardise the inputs"
        )
    return posterior._to(design.dtype)


def _design(features: Features, x: Tensor, *, columns: int | None = None) -> Tensor:
    """The design matrix (..., N, M), checked."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    refuse_half("x", x)
    design = x if features is None else features(x)
    if design.ndim < 2 or (features is not None and design.shape[0] != x.shape[0]) or design.shape[-1] == 0:
        raise ValueError(
            f"the design matrix must have shape (..., N, M), got {tuple(design.shape)} from x {tuple(x.shape)}"
        )
    if columns is not None and design.shape[-1] != columns:
        raise ValueError(f"x gives {design.shape[-1]} features, the posterior has {columns} weights")
    if not bool(torch.isfinite(design).all()):
        raise ValueError("x or its features hold NaN or infinity: clean the inputs or scale them")
    return design


def _targets(t: Tensor, design: Tensor) -> Tensor:
    if not isinstance(t, Tensor) or t.dtype != design.dtype:
        raise TypeError(f"t must be a {design.dtype} tensor like x, got {getattr(t, 'dtype', type(t).__name__)}")
    if t.device != design.device:
        raise ValueError(f"t is on {t.device}, x on {design.device}: move one with .to(...)")
    if t.ndim == 0 or t.shape[-1] != design.shape[-2]:
        raise ValueError(f"t must have shape (..., N) with N = {design.shape[-2]} inputs, got {tuple(t.shape)}")
    if not bool(torch.isfinite(t).all()):
        raise ValueError("t holds NaN or infinity: drop or fill the missing targets")
    return t


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """matrix (..., N, M) times vector (..., M), leading axes broadcast."""
    if matrix.ndim == 2:  # one matrix, many vectors: one product
        return vector @ matrix.mT
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _solve(cholesky: Tensor, vector: Tensor) -> Tensor:
    if cholesky.ndim == 2:
        return torch.cholesky_solve(vector.reshape(-1, vector.shape[-1]).mT, cholesky).mT.reshape(vector.shape)
    return torch.cholesky_solve(vector.unsqueeze(-1), cholesky).squeeze(-1)


def _logdet(cholesky: Tensor) -> Tensor:
    return 2 * cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
