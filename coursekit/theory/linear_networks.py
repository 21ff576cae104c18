"""Two-layer linear networks x -> A B x: all critical points, negative curvature, and the learning curves of the modes.

After whitening the inputs the square loss is, up to a constant, L(A, B) = ||M - A B||_F^2 / 2 with M the target map,
so everything here speaks of M = sum_i s_i u_i v_i^T with distinct positive singular values s_1 > s_2 > ...
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def factorization_loss(target: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """L(A, B) = ||M - A B||_F^2 / 2 for target M (m, d), left A (..., m, p), right B (..., p, d); shape (...).

    >>> float(factorization_loss(torch.eye(2), torch.zeros(2, 1), torch.ones(1, 2)))
    1.0
    """
    return (target - left @ right).square().sum((-2, -1)) / 2


def whitened_target(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix M and the whitener C with ||Y - A B X||_F^2 = ||M - A B C||_F^2 + ||Y - Y X^+ X||_F^2.

    C = (X X^T)^{1/2} and M = Y X^T C^{-1}; the columns of x (d, N) and y (m, N) are the examples.
    Returns M (m, d) and C (d, d). M M^T = S_yx S_xx^{-1} S_xy is the matrix whose eigenvalues give the critical values.

    Raises ValueError if the rows of x are linearly dependent.

    >>> M, C = whitened_target(2 * torch.eye(2), torch.tensor([[2.0, 4.0]]))
    >>> M, C
    (tensor([[2., 4.]]), tensor([[2., 0.], [0., 2.]]))
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"expected x (d, N) and y (m, N), got {tuple(x.shape)} and {tuple(y.shape)}")
    values, vectors = torch.linalg.eigh(x @ x.T)
    if bool(values[0] <= values[-1] * x.shape[1] * torch.finfo(x.dtype).eps):
        raise ValueError("the rows of x are linearly dependent: X X^T has no inverse; drop inputs or add examples")
    whitener = vectors * values.sqrt() @ vectors.T
    return y @ x.T @ (vectors / values.sqrt() @ vectors.T), whitener


def critical_point(target: Tensor, subset: Sequence[int], *, mixing: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A critical point (A, B) of L whose product is sum_{i in I} s_i u_i v_i^T.

    A = U_I Q and B = Q^{-1} S_I V_I^T with Q (p, p) invertible (default: the identity), p = |I|.
    target (m, d), subset I of {0, ..., min(m, d) - 1}; returns A (m, p), B (p, d).

    Raises ValueError for repeated or unknown indices.

    >>> A, B = critical_point(torch.diag(torch.tensor([3.0, 2.0, 1.0])), [0, 2])
    >>> (A @ B).diagonal().abs()
    tensor([3., 0., 1.])
    """
    chosen = list(subset)
    if len(set(chosen)) != len(chosen) or not all(0 <= i < min(target.shape) for i in chosen):
        raise ValueError(f"expected distinct indices in 0..{min(target.shape) - 1}, got {chosen}")
    u, s, vh = torch.linalg.svd(target, full_matrices=False)
    left, right = u[:, chosen], s[chosen, None] * vh[chosen]
    if mixing is None:
        return left, right
    return left @ mixing, torch.linalg.solve(mixing, right)


def escape_direction(
    target: Tensor, subset: Sequence[int], *, mixing: Tensor | None = None
) -> tuple[Tensor, Tensor, float]:
    """A direction of negative curvature at the critical point of I, when I is not the top p singular values.

    With i in I, j not in I, s_j > s_i: dA = u_j q_i^T, dB = s_i Q^{-1} e_i v_j^T (q_i: row i of Q) turns u_i
    towards u_j, and d^2/dt^2 L(A + t dA, B + t dB) at t = 0 is -2 s_i (s_j - s_i) < 0.
    The pair with the smallest value is taken.
    Returns dA (m, p), dB (p, d) and the second derivative.

    Raises ValueError if I holds the largest singular values: there the point is a global minimum.

    >>> escape_direction(torch.diag(torch.tensor([3.0, 2.0, 1.0])), [0, 2])[2]
    -2.0
    """
    chosen = list(subset)
    u, s, vh = torch.linalg.svd(target, full_matrices=False)
    pairs = [(k, j) for k, i in enumerate(chosen) for j in range(len(s)) if j not in chosen and s[j] > s[i]]
    if not pairs:
        raise ValueError(f"{chosen} are the largest singular values: the point is a global minimum, not a saddle")
    curvature = {(k, j): float(-2 * s[chosen[k]] * (s[j] - s[chosen[k]])) for k, j in pairs}
    k, j = min(curvature, key=curvature.get)
    q = torch.eye(len(chosen), dtype=target.dtype, device=target.device) if mixing is None else mixing
    d_left = torch.outer(u[:, j], q[k])
    d_right = s[chosen[k]] * torch.outer(torch.linalg.inv(q)[:, k], vh[j])
    return d_left, d_right, curvature[k, j]


def saxe_mode(t: Tensor, strength: float, start: float) -> Tensor:
    """Strength s(t) of one mode under gradient flow from a balanced start: ds/dt = 2 s (a - s), s(0) = s0.

    s(t) = a e^{2 a t} / (e^{2 a t} - 1 + a / s0), from near 0 to a around t = log(a / s0) / (2 a).
    Computed as a / (1 + (a / s0 - 1) e^{-2 a t}), which does not overflow.

    Raises ValueError unless strength and start are positive.

    >>> saxe_mode(torch.tensor([0.0, 100.0]), 2.0, 0.5)
    tensor([0.5000, 2.0000])
    """
    if strength <= 0 or start <= 0:
        raise ValueError(f"strength and start must be positive, got {strength} and {start}")
    return strength / (1 + (strength / start - 1) * torch.exp(-2 * strength * t))


def descend(target: Tensor, left: Tensor, right: Tensor, *, step: float, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient descent on L: A <- A + h (M - A B) B^T, B <- B + h A^T (M - A B), both at once.

    left (..., m, p), right (..., p, d): several starts at once if there are batch dimensions. Returns A, B and the
    product A B at each step (steps + 1, ..., m, d); with h -> 0 this is gradient flow at t = k h.

    Raises ValueError if step is not positive.

    >>> A, B, path = descend(torch.eye(1), 0.5 * torch.ones(1, 1), 0.5 * torch.ones(1, 1), step=0.1, steps=200)
    >>> round(float(path[-1]), 4), len(path)
    (1.0, 201)
    """
    if step <= 0:
        raise ValueError(f"step must be positive, got {step}")
    path = [left @ right]
    for _ in range(steps):
        residual = target - path[-1]
        left, right = left + step * residual @ right.mT, right + step * left.mT @ residual
        path.append(left @ right)
    return left, right, torch.stack(path)
