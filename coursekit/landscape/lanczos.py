"""The Lanczos process on a matrix given by its products, with full reorthogonalisation."""

from collections.abc import Callable

import torch
from torch import Tensor


class Lanczos:
    r"""Orthonormal :math:`v_1, \dots, v_m` with :math:`A V_m = V_m T_m + \beta_m v_{m+1} e_m^\top`, T_m tridiagonal.

    Every new vector is orthogonalised against all earlier ones (two matrix-vector products on a basis that is
    allocated once), so that no eigenvalue appears twice by rounding ("ghosts"). If the process meets an invariant
    subspace it goes on from a random vector orthogonal to it, with a zero in T.

    Args:
        product: v (P,) -> A v (P,), A symmetric.
        start: (P,) first vector; need not be normalised.
        against: (k, P) orthonormal vectors to stay orthogonal to; the process then sees A on their complement.
        generator: for the restarts.

    Memory: the basis, which doubles when it is full; (k + m + 1) P numbers in use.

    Source: Golub and Van Loan, "Matrix computations", chapter on Lanczos methods.
    """

    def __init__(
        self,
        product: Callable[[Tensor], Tensor],
        start: Tensor,
        *,
        against: Tensor | None = None,
        generator: torch.Generator | None = None,
    ):
        self._product, self._generator = product, generator
        self._locked = 0 if against is None else len(against)
        self._basis = start.new_empty(min(self._locked + 64, start.numel()), start.numel())
        if against is not None:
            self._basis[: self._locked] = against
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self.closed = False  # the basis spans the whole space
        start = self._orthogonalize(self._orthogonalize(start, self._locked), self._locked)
        self._append(start, float(start.norm()), scale=0.0)

    def __len__(self) -> int:
        """Number of steps taken, m."""
        return len(self.alpha)

    @property
    def basis(self) -> Tensor:
        """(m, P) the Lanczos vectors."""
        return self._basis[self._locked : self._locked + len(self)]

    def step(self) -> None:
        """One product, one new vector."""
        j = self._locked + len(self)
        v = self._basis[j]
        w = self._product(v)
        alpha = torch.dot(v, w)
        w = torch.sub(w, v * alpha)
        if self.beta and self.beta[-1] > 0:
            w.sub_(self._basis[j - 1], alpha=self.beta[-1])
        w = self._orthogonalize(w, j + 1)
        # One transfer a step: both numbers at once.
        alpha, beta = torch.stack([alpha, w.norm()]).tolist()
        self.alpha.append(alpha)
        scale = max(map(abs, [*self.alpha, *self.beta]))
        self.beta.append(self._append(w, beta, scale=scale))

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values (m,) ascending, their vectors in the basis (m, m) as columns, residual norms (m,); float64."""
        t = torch.diag(torch.tensor(self.alpha, dtype=torch.float64))
        if len(self) > 1:
            off = torch.tensor(self.beta[:-1], dtype=torch.float64)
            t += torch.diag(off, 1) + torch.diag(off, -1)
        values, vectors = torch.linalg.eigh(t)
        return values, vectors, self.beta[-1] * vectors[-1].abs()

    def _orthogonalize(self, w: Tensor, count: int) -> Tensor:
        earlier = self._basis[:count]
        return torch.addmv(w, earlier.T, earlier @ w, alpha=-1)

    def _append(self, w: Tensor, norm: float, *, scale: float) -> float:
        """Put w / norm into the basis and return norm; at the end of an invariant subspace restart and return 0."""
        j = self._locked + len(self)
        if j == w.numel():
            self.closed = True
            return 0.0
        if j == len(self._basis):
            room = min(2 * j, w.numel()) - j
            self._basis = torch.cat([self._basis, w.new_empty(room, w.numel())])
        if norm <= 10 * torch.finfo(w.dtype).eps * scale * w.numel() ** 0.5:
            device = w.device if self._generator is None else self._generator.device
            w = torch.randn(w.shape, dtype=w.dtype, device=device, generator=self._generator).to(w.device)
            w = self._orthogonalize(self._orthogonalize(w, j), j)
            torch.mul(w, 1 / w.norm(), out=self._basis[j])
            return 0.0
        torch.mul(w, 1 / norm, out=self._basis[j])
        return norm
