"""Products of the Hessian and of the generalised Gauss-Newton matrix with vectors; the matrices are never formed."""

from typing import Literal

import torch
from torch import Tensor, nn

from coursekit.landscape._model import FlatModel, Loss, check_data

Matrix = Literal["hessian", "ggn"]


class CurvatureOperator:
    r"""The Hessian or the generalised Gauss-Newton matrix of a loss as the map :math:`v \mapsto A v`, v (P,).

    .. math::
        A = \nabla^2_\theta\, L(f_\theta(X), y) \quad\text{(hessian)}, \qquad
        A = J^\top\, \nabla^2_f L\; J,\ \ J = \partial f_\theta(X) / \partial\theta \quad\text{(ggn)}.

    P counts the parameters that require a gradient, in the order of ``model.named_parameters()``. The graph of the
    gradient is built once and kept; a product is one backward pass through it (for the GGN: two linear passes through
    the network and one through the loss). With ``batch_size`` nothing is kept: each product goes through the data
    in batches, twice the time at the memory of one batch. The network is in evaluation mode; its model is not touched.

    Args:
        model: the network.
        loss: ``loss(outputs, targets)``, a scalar, twice differentiable in the outputs.
        x, y: N examples and their targets.
        matrix: ``"hessian"`` or ``"ggn"``. The two agree where the loss is convex in the outputs and the network
            is affine in its parameters, and wherever the residual is zero.
        batch_size: examples at a time; needs a loss that averages over the examples.

    Raises:
        ValueError: data that do not fit the model, NaN, or an unknown matrix.

    Example: the Hessian of (w . x)^2 is 2 x x'.

    >>> layer = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    >>> x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    >>> A = CurvatureOperator(layer, nn.functional.mse_loss, x, torch.zeros(1, 1, dtype=torch.float64))
    >>> A.dense().tolist()
    [[2.0, 4.0], [4.0, 8.0]]
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        x: Tensor,
        y: Tensor,
        *,
        matrix: Matrix = "hessian",
        batch_size: int | None = None,
    ):
        if matrix not in ("hessian", "ggn"):
            raise ValueError(f"matrix={matrix!r}: choose 'hessian' or 'ggn'")
        with torch.inference_mode(False):
            self._flat = FlatModel(model, trainable_only=True)
        if self._flat.vector.dtype in (torch.float16, torch.bfloat16):
            raise TypeError(
                f"the model is {self._flat.vector.dtype}: second derivatives need model.float() and x.float()"
            )
        self._loss, self._x, self._y, self._matrix = loss, x, y, matrix
        self.centre = check_data(self._flat, loss, x, y, batch_size=batch_size)
        self.size = self._flat.vector.numel()
        self.like = self._flat.vector  # dtype and device of all products
        for p in self._flat.parameters:
            p.requires_grad_(True)
        whole = batch_size is None or batch_size >= len(x)
        self._batch_size = None if whole else batch_size
        with torch.inference_mode(False), torch.enable_grad():
            self._kept = self._linearize(x, y) if whole else None

    def __matmul__(self, v: Tensor) -> Tensor:
        """A v for v (P,), or A V for V (P, m)."""
        if v.shape[:1] != (self.size,) or v.ndim > 2:
            raise ValueError(f"the vector must have shape ({self.size},) or ({self.size}, m), got {tuple(v.shape)}")
        with torch.inference_mode(False), torch.enable_grad():
            return self._product(v.to(self.like)).detach()

    def _product(self, v: Tensor) -> Tensor:
        v = v.clone() if v.is_inference() else v
        if v.ndim == 2:
            return self._products(v)
        if self._kept is not None:
            return self._kept(v)
        result = torch.zeros_like(v)
        pairs = zip(self._x.split(self._batch_size), self._y.split(self._batch_size), strict=True)
        for x, y in pairs:
            result.add_(self._linearize(x, y)(v), alpha=len(x) / len(self._x))
        return result

    def dense(self) -> Tensor:
        """(P, P) the matrix itself: P products, for small networks and for tests."""
        return self @ torch.eye(self.size, dtype=self.like.dtype, device=self.like.device)

    def _products(self, v: Tensor) -> Tensor:
        # On a GPU one batched pass beats m launches; on a CPU batched weights are slower than a loop.
        if self.like.is_cuda and self._kept is not None:
            return self._kept(v.T.contiguous(), batched=True).T
        # Rows in memory, columns to the caller: a product reads and writes one stretch.
        return torch.stack([self._product(row) for row in v.T.contiguous()]).T

    def _linearize(self, x: Tensor, y: Tensor):
        x, y = (t.clone() if t.is_inference() else t for t in (x, y))
        return (_hessian if self._matrix == "hessian" else _ggn)(self._flat, self._loss, x, y)


def _hessian(flat: FlatModel, loss: Loss, x: Tensor, y: Tensor):
    """v -> H v through the kept graph of the gradient."""
    value = loss(flat.module(x), y)
    gradients = torch.autograd.grad(value, flat.parameters, create_graph=True, materialize_grads=True)

    def product(v: Tensor, batched: bool = False) -> Tensor:
        return _pull_back(gradients, flat, _split(flat, v, batched), v, batched)

    return product


def _ggn(flat: FlatModel, loss: Loss, x: Tensor, y: Tensor):
    """v -> J' H_f J v; J v is the derivative of the linear map u -> J' u, transposed by a second backward pass."""
    outputs = flat.module(x)
    seed = torch.zeros_like(outputs, requires_grad=True)
    transposed = torch.autograd.grad(outputs, flat.parameters, seed, create_graph=True, materialize_grads=True)
    leaf = outputs.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(leaf, y), leaf, create_graph=True)

    def product(v: Tensor, batched: bool = False) -> Tensor:
        used = [(t, w) for t, w in zip(transposed, _split(flat, v, batched), strict=True) if t.requires_grad]
        if not used or not slope.requires_grad:
            return torch.zeros_like(v)
        t, w = zip(*used, strict=True)
        options = {"retain_graph": True, "is_grads_batched": batched}
        (jv,) = torch.autograd.grad(t, seed, w, **options)
        (hjv,) = torch.autograd.grad(slope, leaf, jv, **options)
        return _pull_back((outputs,), flat, (hjv,), v, batched)

    return product


def _pull_back(outputs, flat: FlatModel, weights, like: Tensor, batched: bool) -> Tensor:
    """The vector-Jacobian products of ``outputs`` with respect to the parameters, flattened; the graph is kept."""
    used = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
    if not used:  # the gradient does not depend on the parameters: a loss linear in them
        return torch.zeros_like(like)
    o, w = zip(*used, strict=True)
    pieces = torch.autograd.grad(o, flat.parameters, w, retain_graph=True, allow_unused=True, is_grads_batched=batched)
    lead = like.shape[:-1]
    filled = [
        torch.zeros(*lead, p.numel(), dtype=p.dtype, device=p.device) if g is None else g.reshape(*lead, -1)
        for g, p in zip(pieces, flat.parameters, strict=True)
    ]
    return torch.cat(filled, dim=-1)


def _split(flat: FlatModel, v: Tensor, batched: bool) -> list[Tensor]:
    if not batched:
        return list(flat.views(v))
    return [p.reshape(len(v), *s) for p, s in zip(v.split(flat.sizes, dim=1), flat.shapes, strict=True)]
