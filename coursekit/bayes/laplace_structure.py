r"""Curvature of the loss in the weights, in three structures: full, Kronecker-factored (KFAC), diagonal.

All are the generalised Gauss-Newton matrix :math:`H = \sum_n J_n^\top \Lambda_n J_n` with :math:`\Lambda_n` the Hessian
of the negative log-likelihood in the outputs, or an approximation of it. With the columns of a root,
:math:`\Lambda_n = \sum_j r_{n,j} r_{n,j}^\top`, and :math:`g_j = (\partial z/\partial\,\cdot)^\top` applied to them
(see :mod:`coursekit.bayes.laplace_layers`), one layer contributes

.. math::
    \text{full } \sum_{n,j} v v^\top,\ v = \operatorname{vec}\textstyle\sum_t g_{j,n,t} a_{n,t}^\top; \qquad
    \text{diagonal: its diagonal}; \qquad
    \text{KFAC } \tfrac1{NT}\Big(\sum_{j,n,t} g g^\top\Big) \otimes \Big(\sum_{n,t} a a^\top\Big).

A posterior covariance is :math:`(H + \tau I)^{-1}`, up to a factor that the caller keeps.
"""

import math
from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor

from coursekit.bayes.laplace_layers import Block, Trace

_MAX_FULL_BYTES = 2**30  # in float64; factorising it takes about three times as much for a moment


def check_full_size(parameters: int) -> None:
    """A dense P x P matrix in float64 must fit: say so before the memory runs out."""
    if 8 * parameters**2 > _MAX_FULL_BYTES:
        raise ValueError(
            f"a full matrix of {parameters} parameters takes {8 * parameters**2 / 2**30:.0f} GiB; "
            'take structure="kfac" or "diag", or weights="last_layer"'
        )


class Full:
    """The whole matrix, (P, P); blocks one after the other, each row by row with its bias as last column."""

    def __init__(self, blocks: list[Block], matrix: Tensor):
        self.blocks = blocks
        self.matrix = matrix
        self._factors: tuple[float, Tensor, float] | None = None
        self._own: tuple[float, Tensor] | None = None

    @classmethod
    def fit(cls, blocks: list[Block], traces: Iterable[list[Trace]]) -> "Full":
        matrix = None
        for trace in traces:
            rows = _jacobian(trace).flatten(0, 1)  # (J n, P)
            matrix = rows.mT @ rows if matrix is None else matrix.addmm_(rows.mT, rows)
        return cls(blocks, matrix)

    @classmethod
    def fit_last_layer(cls, block: Block, traces: Iterable[list[Trace]]) -> "Full":
        """One layer whose outputs are the model's: block (k, l) is sum_n Lambda_n[k, l] a_n a_n^T, k <= l."""
        rows, columns = block.rows, block.columns
        matrix = None
        for (trace,) in traces:
            a, root = trace.inputs[:, 0], trace.gradients[:, :, 0]
            if matrix is None:
                matrix = a.new_zeros(rows, columns, rows, columns)
            weights = torch.einsum("jnk,jnl->nkl", root, root)
            for k in range(rows):
                right = (weights[:, k, k:, None] * a[:, None, :]).flatten(1)  # (n, (rows - k) columns)
                matrix[k, :, k:] += (a.mT @ right).view(columns, rows - k, columns)
        for k in range(rows):
            matrix[k + 1 :, :, k] = matrix[k, :, k + 1 :].permute(1, 2, 0)
        return cls([block], matrix.reshape(block.size, block.size))

    @cached_property
    def eigenvalues(self) -> Tensor:
        """(P,) in float64, those below zero by rounding set to zero."""
        return torch.linalg.eigvalsh(self.matrix.double()).clamp_min(0)

    def dense(self) -> Tensor:
        return self.matrix

    def log_det(self, tau: float) -> float:
        """log det(I + H / tau), from the Cholesky factor of the predictive: no eigenvalues needed."""
        self._cholesky(tau)
        return self._factors[2] - len(self.matrix) * math.log(tau)

    def variance(self, traces: list[Trace], tau: float) -> Tensor:
        """(N, J) the variances g^T (H + tau)^{-1} g of the traced outputs."""
        if traces[0].gradients is None:  # the last layer: the outputs of class k move with row k of the weights only
            (block,), a = self.blocks, traces[0].inputs[:, 0]
            return (a @ self._own_blocks(tau)).view(len(a), block.rows, block.columns).mul_(a[:, None]).sum(-1)
        jacobian = _jacobian(traces)  # (J, n, P)
        half = torch.linalg.solve_triangular(self._cholesky(tau), jacobian.flatten(0, 1).mT, upper=False)
        return half.square().sum(0).view(jacobian.shape[:2]).mT

    def rotate(self, traces: list[Trace]) -> list[Trace]:
        """Traces in the coordinates of :meth:`draw`: here those of the weights."""
        return traces

    def draw(self, noise: Tensor, tau: float) -> list[Tensor]:
        """Draws of N(0, (H + tau)^{-1}) from standard normal noise (S, P): for each block (S, rows, columns)."""
        draws = torch.linalg.solve_triangular(self._cholesky(tau).mT, noise.mT, upper=True).mT
        return _split(draws, self.blocks)

    def unrotate(self, draws: list[Tensor]) -> list[Tensor]:
        """Draws in the coordinates of the weights."""
        return draws

    def _cholesky(self, tau: float) -> Tensor:
        if self._factors is None or self._factors[0] != tau:
            damped = self.matrix.to(torch.float64, copy=True)
            damped.diagonal().add_(tau)
            lower, info = torch.linalg.cholesky_ex(damped)
            if int(info) > 0:
                raise ValueError(
                    f"the posterior precision is not positive definite in {self.matrix.dtype}: "
                    "use a float64 model and data, or a larger prior_precision"
                )
            log_det = 2 * float(lower.diagonal().log().sum())
            self._factors = tau, lower.to(self.matrix.dtype), log_det
        return self._factors[1]

    def _own_blocks(self, tau: float) -> Tensor:
        """(columns, rows * columns) for one layer: the covariance blocks (k, k) side by side."""
        if self._own is None or self._own[0] != tau:
            (block,) = self.blocks
            inverse = torch.cholesky_inverse(self._cholesky(tau).double()).to(self.matrix.dtype)
            own = inverse.view((block.rows, block.columns) * 2).diagonal(dim1=0, dim2=2)  # (columns, columns, rows)
            self._own = tau, own.transpose(1, 2).flatten(1)
        return self._own[1]


class Factored:
    """Per block a matrix of eigenvalues (rows, columns), in rotated coordinates for KFAC, as they are for diag.

    ``bases``: per block (left (rows, rows), right (columns, columns)) with vec(left^T X right) the rotated weights.
    """

    def __init__(self, blocks: list[Block], values: list[Tensor], bases: list[tuple[Tensor, Tensor]] | None):
        self.blocks = blocks
        self.values = values
        self.bases = bases

    @classmethod
    def fit_diagonal(cls, blocks: list[Block], traces: Iterable[list[Trace]]) -> "Factored":
        values = None
        for chunk in traces:
            values = values or [t.inputs.new_zeros(b.rows, b.columns) for b, t in zip(blocks, chunk, strict=True)]
            for value, trace in zip(values, chunk, strict=True):
                if trace.inputs.shape[1] == 1:  # (sum_t g a)^2 = g^2 a^2, and the sum over j is free
                    squares = trace.gradients[:, :, 0].square().sum(0)
                    value.addmm_(squares.mT, trace.inputs[:, 0].square())
                else:
                    value += _products(trace).square_().sum((0, 1))
        return cls(blocks, values, None)

    @classmethod
    def fit_kronecker(cls, blocks: list[Block], traces: Iterable[list[Trace]]) -> "Factored":
        sums: list[list[Tensor]] | None = None
        places = 0
        for chunk in traces:
            if sums is None:
                sums = [
                    [t.inputs.new_zeros(b.rows, b.rows), t.inputs.new_zeros(b.columns, b.columns)]
                    for b, t in zip(blocks, chunk, strict=True)
                ]
            for (left, right), trace in zip(sums, chunk, strict=True):
                gradients, inputs = trace.gradients.flatten(0, 2), trace.inputs.flatten(0, 1)
                left.addmm_(gradients.mT, gradients)
                right.addmm_(inputs.mT, inputs)
            places += len(chunk[0].inputs)
            counts = [t.inputs.shape[1] for t in chunk]
        values, bases = [], []
        for (left, right), count in zip(sums, counts, strict=True):
            left_values, left_basis = torch.linalg.eigh(left)
            right_values, right_basis = torch.linalg.eigh(right / (places * count))
            values.append(left_values.clamp_min(0)[:, None] * right_values.clamp_min(0))
            bases.append((left_basis, right_basis))
        return cls(blocks, values, bases)

    @cached_property
    def eigenvalues(self) -> Tensor:
        """(P,) in float64."""
        return torch.cat([value.flatten() for value in self.values]).double()

    def log_det(self, tau: float) -> float:
        """log det(I + H / tau)."""
        return float(torch.log1p(self.eigenvalues / tau).sum())

    def dense(self) -> Tensor:
        """(P, P), block diagonal; for small P."""
        if self.bases is None:
            return torch.cat([value.flatten() for value in self.values]).diag()
        parts = []
        for value, (left, right) in zip(self.values, self.bases, strict=True):
            basis = torch.kron(left, right)
            parts.append((basis * value.flatten()) @ basis.mT)
        return torch.block_diag(*parts)

    def variance(self, traces: list[Trace], tau: float) -> Tensor:
        """(N, J) the variances g^T (H + tau)^{-1} g of the traced outputs."""
        total = None
        for value, trace in zip(self.values, self.rotate(traces), strict=True):
            gradients, inputs = trace.gradients, trace.inputs
            if gradients is None:
                gradients = torch.eye(len(value), dtype=value.dtype, device=value.device)[:, None, None]
            inverse = (value + tau).reciprocal_()
            if inputs.shape[1] == 1:
                scale = inputs[:, 0].square() @ inverse.mT  # (n, rows)
                part = (gradients[:, :, 0].square() * scale).sum(-1).mT
            else:
                part = (_products(Trace(inputs, gradients)).square_() * inverse).sum((2, 3)).mT
            total = part if total is None else total + part
        return total

    def rotate(self, traces: list[Trace]) -> list[Trace]:
        """Traces in the coordinates of :meth:`draw`, the eigenbasis: cheaper to turn than P numbers a sample."""
        if self.bases is None:
            return traces
        turned = []
        for trace, (left, right) in zip(traces, self.bases, strict=True):
            gradients = left[:, None, None] if trace.gradients is None else trace.gradients @ left
            turned.append(Trace(trace.inputs @ right, gradients))
        return turned

    def draw(self, noise: Tensor, tau: float) -> list[Tensor]:
        """Draws of N(0, (H + tau)^{-1}) from standard normal noise (S, P), rotated: per block (S, rows, columns)."""
        parts = _split(noise, self.blocks)
        return [part * (value + tau).rsqrt_() for part, value in zip(parts, self.values, strict=True)]

    def unrotate(self, draws: list[Tensor]) -> list[Tensor]:
        """Draws in the coordinates of the weights."""
        if self.bases is None:
            return draws
        return [left @ draw @ right.mT for draw, (left, right) in zip(draws, self.bases, strict=True)]


Curvature = Full | Factored


def _products(trace: Trace) -> Tensor:
    """(J, N, rows, columns) the Jacobian of one block: sum over places of gradient times input."""
    return trace.gradients.mT @ trace.inputs


def _jacobian(traces: list[Trace]) -> Tensor:
    """(J, N, P) the Jacobian of all blocks."""
    return torch.cat([_products(trace).flatten(2) for trace in traces], 2)


def _split(flat: Tensor, blocks: list[Block]) -> list[Tensor]:
    """(S, P) -> for each block (S, rows, columns)."""
    parts = flat.split([block.size for block in blocks], 1)
    return [part.view(-1, block.rows, block.columns) for part, block in zip(parts, blocks, strict=True)]
