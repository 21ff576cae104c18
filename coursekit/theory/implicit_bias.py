"""Which solution does gradient descent choose? Least squares from zero, and logistic regression on separable data."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor


def least_squares_descent(
    features: Tensor, targets: Tensor, *, steps: int, step: float | None = None, start: Tensor | None = None
) -> Tensor:
    """Gradient descent on ||Phi w - t||^2 / (2 N), from zero unless ``start`` is given.

    w <- w - (h / N) Phi^T (Phi w - t); features (N, M), targets (N,) or (N, R) for R regressions at once; returns w
    (M,) or (M, R). The default step is 1 / (largest eigenvalue of Phi^T Phi / N). The limit is the solution nearest to
    the start: from zero the one of minimum norm, pinv(Phi) t.

    Raises ValueError if the shapes do not fit or the step is outside (0, 2 / largest eigenvalue).

    >>> least_squares_descent(torch.tensor([[1.0, 1.0]]), torch.tensor([2.0]), steps=50)
    tensor([1., 1.])
    """
    if features.ndim != 2 or len(features) != len(targets):
        raise ValueError(
            f"expected features (N, M) and targets (N, ...), got {tuple(features.shape)}, {tuple(targets.shape)}"
        )
    n = len(features)
    largest = float(torch.linalg.matrix_norm(features, 2) ** 2 / n)
    step = 1 / largest if step is None else step
    if not 0 < step < 2 / largest:
        raise ValueError(f"step must lie in (0, {2 / largest:.4g}) for descent to converge, got {step}")
    w = features.new_zeros(features.shape[1], *targets.shape[1:]) if start is None else start
    for _ in range(steps):
        w = w - step / n * (features.T @ (features @ w - targets))
    return w


def max_margin(points: Tensor) -> Tensor:
    """The hard-margin direction through the origin: argmin ||w||^2 subject to z_n . w >= 1 for all n.

    points z_n = y_n x_n (N, D) with labels y_n = +-1; returns w (D,) with margin 1 / ||w||. Exact, by trying the
    supports: w = sum_{n in S} a_n z_n with a > 0, z_n . w = 1 on S, and all constraints held, is the solution (KKT).
    Meant for small sets: it tries all subsets of at most D points.

    Raises ValueError if the points cannot be separated by a hyperplane through the origin.

    >>> max_margin(torch.tensor([[2.0, 0.0], [2.0, 3.0]]))
    tensor([0.5000, 0.0000])
    """
    if points.ndim != 2 or len(points) == 0:
        raise ValueError(f"expected points (N, D) with N >= 1, got {tuple(points.shape)}")
    tol = 1e3 * torch.finfo(points.dtype).eps
    for size in range(1, min(points.shape) + 1):
        for support in combinations(range(len(points)), size):
            z = points[list(support)]
            gram = z @ z.T
            if torch.linalg.matrix_rank(gram, hermitian=True) < size:
                continue
            weights = torch.linalg.solve(gram, points.new_ones(size))
            w = weights @ z
            if bool((weights > 0).all()) and bool((points @ w >= 1 - tol).all()):
                return w
    raise ValueError("the points are not separable by a hyperplane through the origin")


def logistic_descent(points: Tensor, *, step: float, times: Sequence[int]) -> Tensor:
    """Gradient descent from zero on sum_n log(1 + exp(-z_n . w)), recorded after the given numbers of steps.

    w <- w + h sum_n z_n / (1 + exp(z_n . w)); points z_n = y_n x_n (N, D); returns (len(times), D).
    On separable points ||w|| grows like log t and w / ||w|| tends to the direction of ``max_margin``.

    Raises ValueError if times is not increasing or step is not in (0, 8 / ||Z||^2), where descent is stable.

    >>> float(logistic_descent(torch.tensor([[1.0]]), step=1.0, times=[1]))
    0.5
    """
    times = list(times)
    if times != sorted(set(times)) or not times or times[0] < 1:
        raise ValueError(f"times must be increasing and positive, got {times}")
    limit = 8 / float(torch.linalg.matrix_norm(points, 2) ** 2)
    if not 0 < step < limit:
        raise ValueError(f"step must lie in (0, {limit:.4g}), got {step}")
    w, path = points.new_zeros(points.shape[1]), []
    for k in range(1, times[-1] + 1):
        w = torch.addmv(w, points.T, torch.sigmoid(-(points @ w)), alpha=step)
        if k == times[len(path)]:
            path.append(w)
    return torch.stack(path)
