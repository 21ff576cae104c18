"""The loss along a line and over a plane of parameter space."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coursekit._inputs import check_count
from coursekit.landscape._model import FlatModel, Loss, check_data, mean_loss
from coursekit.landscape.directions import Direction

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Line:
    """The loss along a line: ``loss[i]`` is L(theta + a[i] d).

    Args:
        a: (K,) coordinates, in units of the direction.
        loss: (K,) values.
        centre: () the loss of the unmoved model.
    """

    a: Tensor
    loss: Tensor
    centre: Tensor


@dataclass(frozen=True)
class Surface:
    """The loss over a plane: ``loss[i, j]`` is L(theta + a[i] d1 + b[j] d2).

    Args:
        a: (K,) coordinates along the first direction, at one constant step.
        b: (K,) coordinates along the second.
        loss: (K, K) values.
        centre: () the loss of the unmoved model.
    """

    a: Tensor
    b: Tensor
    loss: Tensor
    centre: Tensor


def line(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    direction: Direction,
    *,
    extent: float | tuple[float, float] = 1.0,
    steps: int = 51,
    batch_size: int | None = None,
) -> Line:
    r"""The loss :math:`a \mapsto L(\theta + a\,d)`, the network in evaluation mode.

    Args:
        model: the network; it is never moved.
        loss: ``loss(outputs, targets)``, a scalar.
        x, y: N examples and their targets.
        direction: parameter name -> tensor (one of :func:`random_directions` or :func:`pca_directions`); what it
            leaves out stays.
        extent: the line runs from ``-extent`` to ``extent``, or from ``low`` to ``high`` of a pair.
        steps: number of points K; odd for a symmetric line, so that the unmoved model is one of them, exactly.
        batch_size: examples at a time, if all at once need too much memory; needs a loss that averages.

    Raises:
        ValueError: data, loss or direction that do not fit the model; NaN; even ``steps``.

    Example: L(w) = w^2 at w = 1, along the unit direction.

    >>> layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    >>> _ = torch.nn.init.ones_(layer.weight)
    >>> one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    >>> line(layer, nn.functional.mse_loss, one, zero, {"weight": one}, steps=5).loss.tolist()
    [0.0, 0.25, 1.0, 2.25, 4.0]
    """
    walk = _Walk(model, loss, x, y, [direction], batch_size)
    (a,) = _axes(extent, steps, 1, walk.flat.vector)
    return Line(a, walk.values([a])[:, 0], walk.centre)


def plane(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    directions: Sequence[Direction],
    *,
    extent: float | tuple[tuple[float, float], tuple[float, float]] = 1.0,
    steps: int = 51,
    batch_size: int | None = None,
) -> Surface:
    r"""The loss :math:`(a, b) \mapsto L(\theta + a\,d_1 + b\,d_2)` on a regular grid, the network in evaluation mode.

    The layers that see the data first are affine in (a, b): their outputs at the centre and along both directions
    are computed once, and each grid point starts behind them. Every point is computed from the same unmoved
    parameters (no drift), and the centre of a symmetric grid is the loss of the unmoved model to the last bit.

    Args:
        model: the network; it is never moved.
        loss: ``loss(outputs, targets)``, a scalar.
        x, y: N examples and their targets.
        directions: two of them.
        extent: both coordinates run from ``-extent`` to ``extent``, or each over a pair ``(low, high)``
            (:meth:`Trajectory.extent` gives the box round a training run).
        steps: K points along each axis; odd for a symmetric grid.
        batch_size: examples at a time, if all at once need too much memory; needs a loss that averages.

    Raises:
        ValueError: data, loss or directions that do not fit the model; NaN; even ``steps``.

    Cost: K^2 forward passes without the first layers; memory four times the outputs of those layers on a batch.

    Example: L(w) = |w|^2 at w = 0 is a^2 + b^2 along the axes.

    >>> layer = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    >>> _ = torch.nn.init.zeros_(layer.weight)
    >>> eye = torch.eye(2, dtype=torch.float64)
    >>> def squares(outputs, targets):
    ...     return (outputs - targets).square().sum()
    >>> s = plane(layer, squares, eye, eye.new_zeros(2, 1), [{"weight": eye[:1]}, {"weight": eye[1:]}], steps=3)
    >>> s.loss.tolist()
    [[2.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 2.0]]
    """
    if len(directions) != 2:
        raise ValueError(f"a plane needs two directions, got {len(directions)}")
    walk = _Walk(model, loss, x, y, directions, batch_size)
    a, b = _axes(extent, steps, 2, walk.flat.vector)
    return Surface(a, b, walk.values([a, b]), walk.centre)


def _axes(extent, steps: int, count: int, like: Tensor) -> list[Tensor]:
    """The grid coordinates of each axis, symmetric ones with an exact zero in the middle."""
    steps = check_count("steps", steps)
    if steps < 2:
        raise ValueError(f"steps={steps}: a grid has at least two points an axis")
    if isinstance(extent, int | float):
        if steps % 2 == 0:
            raise ValueError(f"steps={steps} would miss the centre; take an odd number such as {steps + 1}")
        if not 0 < extent < float("inf"):
            raise ValueError(f"extent={extent}: the half-width of the grid must be positive and finite")
        k = torch.arange(1 - steps, steps, 2, dtype=torch.float64)
        axis = extent * (k / (steps - 1))
        return [axis.to(like) for _ in range(count)]
    pairs = [extent] if count == 1 else list(extent)
    if len(pairs) != count or not all(len(pair) == 2 and pair[0] < pair[1] for pair in pairs):
        raise ValueError(f"extent={extent}: give a positive number or {count} pair(s) (low, high) with low < high")
    return [torch.linspace(low, high, steps, dtype=torch.float64).to(like) for low, high in pairs]


class _Walk:
    """Evaluates the loss on a grid spanned by one or two directions."""

    def __init__(self, model, loss, x, y, directions, batch_size):
        self.flat = FlatModel(model)
        self.loss, self.x, self.y, self.batch_size = loss, x, y, batch_size
        self.directions = [self.flat.flatten(d) for d in directions]
        self.centre = check_data(self.flat, loss, x, y, batch_size=batch_size)

    @torch.no_grad()
    def values(self, axes: list[Tensor]) -> Tensor:
        """(K, 1) or (K, K) losses: batch after batch, so that only one batch of first-layer outputs is held."""
        size = self.batch_size or len(self.x)
        total = 0
        for x, y in zip(self.x.split(size), self.y.split(size), strict=True):
            total = total + len(x) / len(self.x) * self._grid(x, y, axes)
        return total

    def _grid(self, x: Tensor, y: Tensor, axes: list[Tensor]) -> Tensor:
        rows, columns = axes[0].tolist(), (axes[1].tolist() if len(axes) == 2 else [0.0])
        values = self.centre.new_empty(len(rows), len(columns))
        with self._tracks(x, y, rows[-1], columns[-1]) as tracks:
            for i, a in enumerate(rows):
                for track in tracks:
                    track.start_row(a)
                for j, b in enumerate(columns):
                    for track in tracks:
                        track.step(b)
                    values[i, j] = mean_loss(self.flat.module, self.loss, x, y)
        return values

    @contextmanager
    def _tracks(self, x: Tensor, y: Tensor, a: float, b: float) -> Iterator[list["_Track"]]:
        """What must move with (a, b): the parameters, or behind the first layers their outputs instead."""
        flat = self.flat
        whole = _Track(flat.vector, self.directions)
        layers = _entry_layers(flat.module, x)
        tracks = []
        for layer, seen in layers:
            images = [layer(seen)]
            for d in self.directions:
                flat.vector.copy_(d)  # the layer is linear in its parameters: its image of the direction
                images.append(layer(seen))
            whole.restore()
            tracks.append(_Track(images[0].clone(), images[1:]))
        try:
            whole.start_row(a)
            whole.step(b)
            plain = mean_loss(flat.module, self.loss, x, y)
            for (layer, _), track in zip(layers, tracks, strict=True):
                layer.forward = lambda _, output=track.target: output
                track.start_row(a)
                track.step(b)
            short = mean_loss(flat.module, self.loss, x, y)
            # A layer whose place in the graph was misread (a detached input, data-dependent control flow) shows here.
            if torch.allclose(plain, short, rtol=1e-3, atol=1e-6, equal_nan=True):
                replaced = {id(p) for layer, _ in layers for p in layer.parameters()}
                spans = _spans([id(p) not in replaced for p in flat.parameters], flat.sizes)
                rest = [_Track(flat.vector[s], [d[s] for d in self.directions], whole.base[s]) for s in spans]
                yield [*tracks, *rest]
            else:
                _give_back(layers)
                yield [whole]
        finally:
            _give_back(layers)
            whole.restore()


class _Track:
    """A tensor that follows base + a d1 + b d2 in place: one addition a point."""

    def __init__(self, target: Tensor, directions: list[Tensor], base: Tensor | None = None):
        self.target, self.base = target, (target.clone() if base is None else base)
        self.directions, self.row = directions, self.base

    def start_row(self, a: float) -> None:
        self.row = torch.add(self.base, self.directions[0], alpha=a)

    def step(self, b: float) -> None:
        if len(self.directions) == 2:
            torch.add(self.row, self.directions[1], alpha=b, out=self.target)
        else:
            self.target.copy_(self.row)

    def restore(self) -> None:
        self.target.copy_(self.base)


def _spans(keep: list[bool], sizes: list[int]) -> list[slice]:
    """Slices of the flat vector that hold the kept parameters, neighbours joined."""
    spans, start = [], 0
    for kept, size in zip(keep, sizes, strict=True):
        if kept and spans and spans[-1].stop == start:
            spans[-1] = slice(spans[-1].start, start + size)
        elif kept:
            spans.append(slice(start, start + size))
        start += size
    return spans


def _give_back(layers: list[tuple[nn.Module, Tensor]]) -> None:
    for layer, _ in layers:
        layer.__dict__.pop("forward", None)


def _entry_layers(module: nn.Module, x: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Affine layers called once, on an input that depends on no parameter, with parameters nobody else uses."""
    owners: dict[int, int] = {}
    for m in module.modules():
        for p in m.parameters(recurse=False):
            owners[id(p)] = owners.get(id(p), 0) + 1
    candidates = [
        m
        for m in module.modules()
        if type(m) in _AFFINE
        and not (m._forward_pre_hooks or m._forward_hooks)
        and all(owners[id(p)] == 1 for p in m.parameters(recurse=False))
        # old-style weight normalisation keeps its parameters under other names
        and {name for name, _ in m.named_parameters(recurse=False)} <= {"weight", "bias"}
        and "weight" in dict(m.named_parameters(recurse=False))
    ]
    calls: dict[nn.Module, list[Tensor | None]] = {m: [] for m in candidates}
    parameters = list(module.parameters())
    handles = [m.register_forward_pre_hook(lambda m, inputs: calls[m].extend(inputs or [None])) for m in candidates]
    try:
        with torch.enable_grad():  # the graph tells which inputs depend on a parameter; one example is enough
            for p in parameters:
                p.requires_grad_(True)
            module(x[:1])
        free = [m for m, seen in calls.items() if len(seen) == 1 and seen[0] is not None and not seen[0].requires_grad]
        for p in parameters:
            p.requires_grad_(False)
        for seen in calls.values():
            seen.clear()
        if free:
            module(x)
    finally:
        for p in parameters:
            p.requires_grad_(False)
        for handle in handles:
            handle.remove()
    return [(m, calls[m][0].clone()) for m in free if len(calls[m]) == 1]
