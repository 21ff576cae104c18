"""Curvature of a loss at a network: extreme eigenvalues, trace, spectral density; Hessian or Gauss-Newton."""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from coursekit.device import draw_device
from coursekit.landscape._model import Loss
from coursekit.landscape.lanczos import Lanczos
from coursekit.landscape.operators import CurvatureOperator, Matrix

#: A later search may end without a find once its best pair has this relative residual.
_PROBE = 0.2


@dataclass(frozen=True)
class Eigenpairs:
    """Some eigenvalues of a symmetric matrix, with what is known of their error.

    Args:
        values: (k,) Ritz values, the wanted end first.
        vectors: (k, P) orthonormal, rows.
        residuals: (k,) norms of A u - lambda u: each value is within its residual of an eigenvalue of A.
        products: number of matrix-vector products spent.
        converged: whether all residuals met the tolerance.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool


@dataclass(frozen=True)
class TraceEstimate:
    """A trace and its standard error, both (), after ``products`` matrix-vector products."""

    value: Tensor
    standard_error: Tensor
    products: int


@dataclass(frozen=True)
class Spectrum:
    r"""A spectral density as R quadrature rules of m nodes each.

    .. math:: \frac1P \operatorname{tr} g(A) \approx \frac1R \sum_{r,i} w_{ri}\, g(\lambda_{ri})

    Args:
        nodes: (R, m) real nodes :math:`\lambda_{ri}`.
        weights: (R, m) weights >= 0; each row sums to one.
        size: P.
    """

    nodes: Tensor
    weights: Tensor
    size: int

    def moment(self, power: int) -> Tensor:
        """() the mean of lambda^power over the spectrum, tr A^power / P."""
        return (self.weights * self.nodes**power).sum(1).mean()

    def density(self, points: Tensor, *, width: float) -> Tensor:
        """(K,) density at ``points`` (K,), each node widened to a normal law of standard deviation ``width`` > 0."""
        if not width > 0:
            raise ValueError(f"width={width}: the standard deviation of the smoothing must be positive")
        z = (points.to(self.nodes)[:, None, None] - self.nodes) / width
        bumps = torch.exp(-0.5 * z.square()) / (width * math.sqrt(2 * math.pi))
        return (bumps * self.weights).sum(-1).mean(-1)


def top_eigenvalues(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    *,
    k: int = 10,
    tol: float = 1e-3,
    which: Literal["largest", "smallest", "magnitude"] = "largest",
    matrix: Matrix = "hessian",
    max_products: int = 500,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Eigenpairs:
    r"""The k extreme eigenvalues of the Hessian (or GGN) of a loss in the parameters, by Lanczos.

    Stops when every wanted pair has :math:`\|A u - \lambda u\| \le \text{tol}\,|\lambda|`, so the error of a value
    is at most ``tol * |value|``, and by far less where eigenvalues are apart (it is quadratic in the residual).
    A single Krylov space holds one copy of a multiple eigenvalue; so a second search from a random vector orthogonal
    to all found looks for further copies, roughly at first (relative residual 0.2), and goes on if it meets one.

    Args:
        model, loss, x, y: as in :class:`~coursekit.landscape.operators.CurvatureOperator`.
        k: how many, at most P.
        tol: relative residual.
        which: ``"largest"`` (descending), ``"smallest"`` (ascending: negative curvature first) or ``"magnitude"``
            (largest absolute value first).
        max_products: stop there with a warning; ``converged`` is then False.

    Raises:
        ValueError: k not in 1..P, tol <= 0, data that do not fit the model.

    Cost: about 2k to 5k products; memory (m + 1) P numbers for the m vectors of the basis.

    Source: Golub and Van Loan, "Matrix computations", chapter on Lanczos methods.

    Example: the loss mean_n (w . x_n)^2 / 2 has the Hessian X'X/N.

    >>> x = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    >>> layer = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    >>> def half(outputs, targets):
    ...     return 0.5 * (outputs - targets).square().mean()
    >>> top = top_eigenvalues(layer, half, x, x.new_zeros(3, 1), k=2)
    >>> [round(v, 6) for v in top.values.tolist()]
    [3.0, 1.333333]
    """
    operator = CurvatureOperator(model, loss, x, y, matrix=matrix, batch_size=batch_size)
    size = operator.size
    if not 1 <= k <= size:
        raise ValueError(f"k={k}: the matrix has {size} eigenvalues, ask for 1 to {size}")
    if not tol > 0:
        raise ValueError(f"tol={tol}: the relative residual must be positive")
    if which not in ("largest", "smallest", "magnitude"):
        raise ValueError(f"which={which!r}: choose 'largest', 'smallest' or 'magnitude'")
    key = {"largest": lambda t: t, "smallest": lambda t: -t, "magnitude": torch.abs}[which]
    values = residuals = torch.empty(0, dtype=torch.float64)
    vectors = operator.like.new_empty(0, size)
    spent, complete = 0, False
    while not complete and spent < max_products:
        floor = None if len(values) == 0 else float(key(values).topk(k).values[-1])
        lanczos = Lanczos(operator.__matmul__, _normal(operator, generator), against=vectors, generator=generator)
        found = None
        while found is None and not lanczos.closed and spent < max_products:
            lanczos.step()
            spent += 1
            if len(lanczos) % max(1, len(lanczos) // 20) == 0:  # in a long run, a look now and then
                found = _settled(lanczos, key, k, tol, floor)
        new, s, r = lanczos.ritz()
        if found is None:  # the space is exhausted, or the budget is: keep the best there is
            found = key(new).argsort(descending=True)[:k]
            complete = lanczos.closed
        else:
            complete = len(found) == 0 or lanczos.closed
        values, residuals = torch.cat([values, new[found]]), torch.cat([residuals, r[found]])
        vectors = torch.cat([vectors, s[:, found].T.to(vectors) @ lanczos.basis])
    order = key(values).argsort(descending=True)[:k]
    if not complete:
        warnings.warn(
            f"{max_products} products were not enough for {k} eigenvalues at tol={tol}: relative residuals reach "
            f"{float((residuals / values.abs())[order].max()):.1e}; raise max_products or tol",
            UserWarning,
            stacklevel=2,
        )
    like = operator.like
    return Eigenpairs(values[order].to(like), vectors[order], residuals[order].to(like), spent, complete)


def hessian_trace(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    *,
    products: int = 99,
    matrix: Matrix = "hessian",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> TraceEstimate:
    r"""The trace of the Hessian (or GGN) by Hutch++, with its standard error.

    A third of the products finds an orthonormal Q for the range of A, a third gives the trace there exactly, and the
    last third estimates the small rest with n random sign vectors g:

    .. math:: \operatorname{tr} A \approx \operatorname{tr}(Q^\top A Q) + \frac1n\sum_{i=1}^n h_i^\top A h_i,
        \qquad h_i = (I - QQ^\top) g_i.

    Unbiased; the standard error is the standard deviation of the n summands divided by the square root of n. Where the
    products suffice for it (P of them), the trace is exact and its error 0.

    Args:
        model, loss, x, y: as in :class:`~coursekit.landscape.operators.CurvatureOperator`.
        products: matrix-vector products to spend, at least 6.

    Raises:
        ValueError: fewer than 6 products, data that do not fit the model.

    Cost: ``products`` products; memory P * products / 3 numbers.

    Source: Meyer, Musco, Musco and Woodruff, "Hutch++: optimal stochastic trace estimation" (SOSA 2021).

    Example: the loss mean_n (w . x_n)^2 / 2 has the trace of X'X/N.

    >>> x = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    >>> layer = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    >>> def half(outputs, targets):
    ...     return 0.5 * (outputs - targets).square().mean()
    >>> trace = hessian_trace(layer, half, x, x.new_zeros(3, 1))
    >>> round(float(trace.value), 6), float(trace.standard_error)
    (4.666667, 0.0)
    """
    if products < 6:
        raise ValueError(f"products={products}: Hutch++ needs at least 6, two for each of its three parts")
    operator = CurvatureOperator(model, loss, x, y, matrix=matrix, batch_size=batch_size)
    if operator.size <= products:
        return TraceEstimate(operator.dense().trace(), operator.like.new_zeros(()), operator.size)
    n = products // 3
    q, _ = torch.linalg.qr(operator @ _signs(operator, n, generator))
    inside = ((operator @ q) * q).sum()
    g = _signs(operator, n, generator)
    g = g - q @ (q.T @ g)
    summands = ((operator @ g) * g).sum(0)
    return TraceEstimate(inside + summands.mean(), summands.std() / math.sqrt(n), 3 * n)


def spectral_density(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    *,
    samples: int = 10,
    steps: int = 50,
    matrix: Matrix = "hessian",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Spectrum:
    r"""The density of all eigenvalues of the Hessian (or GGN), by stochastic Lanczos quadrature.

    From a random unit vector, m steps of Lanczos give a tridiagonal T; its eigenvalues are the nodes, and the squared
    first entries of its eigenvectors the weights, of the Gauss rule for :math:`v^\top g(A) v`: exact for polynomials g
    up to degree 2m - 1. The average over random v estimates :math:`\operatorname{tr} g(A) / P`.

    Args:
        model, loss, x, y: as in :class:`~coursekit.landscape.operators.CurvatureOperator`.
        samples: R random vectors, a run of Lanczos from each.
        steps: m, cut to P.

    Raises:
        ValueError: ``samples`` or ``steps`` < 1, data that do not fit the model.

    Cost: R m products; memory (m + 1) P numbers.

    Source: Ghorbani, Krishnan and Xiao, "An investigation into neural net optimization via Hessian eigenvalue
    density" (ICML 2019).

    Example: the Hessian 2 w'w has one eigenvalue, 2.

    >>> layer = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    >>> x = torch.eye(3, dtype=torch.float64)
    >>> def squares(outputs, targets):
    ...     return (outputs - targets).square().sum()
    >>> spectrum = spectral_density(layer, squares, x, x.new_zeros(3, 1), samples=2)
    >>> round(float(spectrum.moment(1)), 6), round(float(spectrum.moment(2)), 6)
    (2.0, 4.0)
    """
    if samples < 1 or steps < 1:
        raise ValueError(f"samples={samples}, steps={steps}: both must be at least 1")
    operator = CurvatureOperator(model, loss, x, y, matrix=matrix, batch_size=batch_size)
    steps = min(steps, operator.size)
    nodes = torch.zeros(samples, steps, dtype=torch.float64)
    weights = torch.zeros_like(nodes)  # a run that ends early leaves nodes of weight zero
    for r in range(samples):
        lanczos = Lanczos(operator.__matmul__, _normal(operator, generator), generator=generator)
        while len(lanczos) < steps and not lanczos.closed:
            lanczos.step()
        values, vectors, _ = lanczos.ritz()
        nodes[r, : len(values)], weights[r, : len(values)] = values, vectors[0].square()
    return Spectrum(nodes.to(operator.like), weights.to(operator.like), operator.size)


def _settled(lanczos: Lanczos, key, k: int, tol: float, floor: float | None) -> Tensor | None:
    """Indices of the Ritz pairs to take, once they are good enough; ``None``: go on.

    In the first search (no floor) these are the k best. In a later one they are those above the floor, the k-th best
    so far: none, if the probe saw none.
    """
    if len(lanczos) < (k if floor is None else 2):
        return None
    values, _, residuals = lanczos.ritz()
    order = key(values).argsort(descending=True)[:k]
    if floor is not None:
        if float(residuals[order[0]]) > _PROBE * float(values[order[0]].abs()):
            return None  # the best of this search is not clear enough to say that nothing was missed
        above = key(values)[order] > floor + tol * abs(floor)
        if bool(above.all()):
            return None  # there may be more of them
        order = order[above]
    # An eigenvalue that is zero has no relative accuracy: its scale is then the rounding of the largest.
    rounding = torch.finfo(lanczos.basis.dtype).eps * values.abs().max()
    bound = tol * torch.maximum(values[order].abs(), rounding / tol)
    return order if bool((residuals[order] <= bound).all()) else None


def _normal(operator: CurvatureOperator, generator: torch.Generator | None) -> Tensor:
    like = operator.like
    device = draw_device(like, generator)
    return torch.randn(operator.size, dtype=like.dtype, device=device, generator=generator).to(like.device)


def _signs(operator: CurvatureOperator, count: int, generator: torch.Generator | None) -> Tensor:
    like = operator.like
    device = draw_device(like, generator)
    bits = torch.randint(0, 2, (count, operator.size), device=device, generator=generator)
    return bits.to(like).mul_(2).sub_(1).T
