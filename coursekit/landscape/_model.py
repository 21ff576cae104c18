"""A frozen copy of a model whose parameters live in one flat vector, and the checks that every study begins with."""

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from coursekit.train import check_loss, compare

Loss = Callable[[Tensor, Tensor], Tensor]


class FlatModel:
    """A copy of a model in evaluation mode, with its parameters as views of one vector (P,).

    The study of a landscape walks in this copy: the caller's model is never moved, its mode and gradients stay.

    Args:
        model: any module; P is the number of its parameters, shared ones counted once.
        trainable_only: take only the parameters that require a gradient.
    """

    def __init__(self, model: nn.Module, *, trainable_only: bool = False):
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self.module = copy.deepcopy(getattr(model, "_orig_mod", model)).eval()
        named = dict(self.module.named_parameters())
        if trainable_only:
            named = {name: p for name, p in named.items() if p.requires_grad}
        if not named:
            kind = "parameters that require a gradient" if trainable_only else "parameters"
            raise ValueError(f"the model has no {kind}: there is no landscape to study")
        kinds = {(p.dtype, p.device) for p in named.values()}
        if len(kinds) > 1 or not next(iter(named.values())).is_floating_point():
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ValueError(f"the parameters must share one floating dtype and one device, got {found}")
        self.names = tuple(named)
        self.shapes = tuple(p.shape for p in named.values())
        self.sizes = [p.numel() for p in named.values()]
        for p in self.module.parameters():
            p.grad = None
            p.requires_grad_(False)
        self.vector = torch.cat([p.detach().reshape(-1) for p in named.values()])
        if not bool(torch.isfinite(self.vector).all()):
            raise ValueError("the parameters hold NaN or infinity: the training of this model diverged")
        self.parameters = list(named.values())
        for p, view in zip(self.parameters, self.views(self.vector), strict=True):
            p.data = view

    def views(self, vector: Tensor) -> Iterator[Tensor]:
        """The pieces of a vector (P,) in the shapes of the parameters; no copy."""
        for piece, shape in zip(vector.split(self.sizes), self.shapes, strict=True):
            yield piece.view(shape)

    def flatten(self, direction: dict[str, Tensor]) -> Tensor:
        """(P,) a direction, given by parameter name, as a vector; what it leaves out is zero."""
        if not isinstance(direction, Mapping):
            raise TypeError(
                f"a direction is a dict from parameter name to tensor, got {type(direction).__name__}; of several "
                "directions take one, directions[0]"
            )
        unknown = [name for name in direction if name not in self.names]
        if unknown:
            raise ValueError(
                f"the direction moves {unknown[0]!r}, which is no parameter of this model "
                f"(its parameters: {', '.join(self.names)}); buffers such as running statistics stay where they are"
            )
        pieces = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            piece = direction.get(name)
            if piece is None:
                piece = self.vector.new_zeros(shape)
            elif piece.shape != shape:
                raise ValueError(
                    f"the direction has shape {tuple(piece.shape)} at {name!r}, the parameter has {tuple(shape)}"
                )
            pieces.append(piece.detach().to(self.vector).reshape(-1))
        flat = torch.cat(pieces)
        if not bool(torch.isfinite(flat).all()):
            raise ValueError("the direction holds NaN or infinity")
        return flat


def check_data(flat: FlatModel, loss: Loss, x: Tensor, y: Tensor, *, batch_size: int | None = None) -> Tensor:
    """Refuse data that cannot give a landscape; return the loss () at the unmoved parameters."""
    check_loss("loss", loss, "nn.functional.cross_entropy")
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
        if value.ndim == 0 or len(value) == 0:
            raise ValueError(f"{name} holds no example (shape {tuple(value.shape)}); give at least one")
        if value.device != flat.vector.device:
            raise ValueError(f"{name} is on {value.device}, the model on {flat.vector.device}; move them to one device")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} holds NaN or infinity; clean the data first")
    if x.is_floating_point() and x.dtype != flat.vector.dtype:
        raise TypeError(f"x is {x.dtype}, the model {flat.vector.dtype}: convert one with .to(...)")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples, y has {len(y)}: they must be pairs")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: a batch holds at least one example")
    with torch.no_grad():
        centre = mean_loss(flat.module, partial(compare, loss), x, y, batch_size)
        if batch_size is not None and batch_size < len(x):
            # Weighting batch losses by their sizes is right for a mean over examples and for nothing else: not for
            # class weights or masks, whose sum differs from batch to batch.
            whole = loss(torch.cat([flat.module(part) for part in x.split(batch_size)]), y)
            parts = mean_loss(flat.module, loss, x, y, batch_size)
            if not torch.allclose(whole, parts, rtol=1e-4, atol=1e-6):
                raise ValueError(
                    f"batch_size needs a loss that averages over the examples: {float(whole):.6g} on all of them, "
                    f"{float(parts):.6g} as the mean of its batches; use reduction='mean' or batch_size=None"
                )
    if not bool(torch.isfinite(centre)):
        raise ValueError(f"the loss of the unmoved model is {float(centre)}: check the model and the data")
    return centre


def mean_loss(module: nn.Module, loss: Loss, x: Tensor, y: Tensor, batch_size: int | None = None) -> Tensor:
    """The loss () on (x, y), in batches of ``batch_size`` weighted by their sizes."""
    if batch_size is None or batch_size >= len(x):
        value = loss(module(x), y)
        if not isinstance(value, Tensor) or value.ndim != 0:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"loss(model(x), y) must be a scalar tensor, got {shape}; reduce it (mean)")
        return value
    parts = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return sum(len(u) / len(x) * mean_loss(module, loss, u, v) for u, v in parts)
