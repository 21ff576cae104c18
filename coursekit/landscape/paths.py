"""Curves between two trained networks: the straight line, and a Bezier curve fitted to stay low (mode connectivity)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coursekit.landscape._model import FlatModel, Loss, check_data, mean_loss
from coursekit.landscape.directions import flatten_like, parameters_of

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Curve:
    r"""A quadratic Bezier curve in parameter space, :math:`\phi(t) = (1-t)^2\,w_0 + 2t(1-t)\,w + t^2\,w_1`.

    With the middle of the segment as ``bend`` it is the straight line, at constant speed.

    Args:
        start, bend, end: control points, parameter name -> tensor.

    >>> w = [{"w": torch.tensor([v])} for v in (0.0, 1.0, 0.0)]
    >>> float(Curve(*w).parameters(0.5)["w"])
    0.5
    """

    start: Parameters
    bend: Parameters
    end: Parameters

    def parameters(self, t: float) -> dict[str, Tensor]:
        """The parameters at t in [0, 1], by name; load them with ``torch.func.functional_call``."""
        u, v, w = _weights(t)
        return {name: u * p + v * self.bend[name] + w * self.end[name] for name, p in self.start.items()}


@dataclass(frozen=True)
class Path:
    """The loss along a curve: ``loss[i]`` at the curve's point t[i].

    Args:
        t: (K,) from 0 to 1.
        loss: (K,) values.
    """

    t: Tensor
    loss: Tensor

    @property
    def barrier(self) -> Tensor:
        """() how far the loss rises above the straight interpolation of its end values, at most; >= 0."""
        return (self.loss - torch.lerp(self.loss[0], self.loss[-1], self.t)).amax()


def straight_line(start: nn.Module, end: nn.Module) -> Curve:
    """The segment between the parameters of two networks of one architecture.

    Raises:
        ValueError: parameters of different names or shapes.
    """
    a, b = parameters_of(start), parameters_of(end)
    flatten_like(a, b)
    copies = [{name: p.clone() for name, p in w.items()} for w in (a, b)]
    return Curve(copies[0], {name: (p + b[name].to(p)) / 2 for name, p in a.items()}, copies[1])


def fit_curve(
    start: nn.Module,
    end: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    batch_size: int = 128,
    learning_rate: float = 0.01,
    generator: torch.Generator | None = None,
) -> Curve:
    r"""Bend the segment between two networks into a Bezier curve of low loss.

    Minimises :math:`\mathbb E_{t \sim U[0,1]}\, L(\phi_w(t))` over the control point w, from the middle of the segment,
    by Adam with a cosine schedule: each step draws one t and one batch (all data, if they fit in one). Both networks
    are in evaluation mode.

    Args:
        start, end: trained networks of one architecture; never moved.
        loss: ``loss(outputs, targets)``, a scalar.
        x, y: N training examples and targets.
        steps: gradient steps.
        learning_rate: of Adam, at the first step.

    Raises:
        ValueError: networks that do not fit each other; layers with running statistics (batch normalisation: those of
            the ends are wrong in between); data that do not fit; a loss that diverges.

    Source: Garipov, Izmailov, Podoprikhin, Vetrov and Wilson, "Loss surfaces, mode connectivity, and fast ensembling
    of DNNs" (NeurIPS 2018).

    Example: on L(w) = (|w|^2 - 1)^2 the segment from (1, 0) to (0, 1) cuts the corner of the circle of minima, where
    |w|^2 = 1/2; a curve follows the circle.

    >>> ends = [nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)]
    >>> for net, w in zip(ends, torch.eye(2)):
    ...     _ = net.weight.data.copy_(w)
    >>> def ring(outputs, targets):
    ...     return (outputs.square().sum() - 1).square()
    >>> eye, none = torch.eye(2), torch.zeros(2, 1)
    >>> curve = fit_curve(*ends, ring, eye, none, generator=torch.Generator().manual_seed(0))
    >>> straight = loss_along(straight_line(*ends), ends[0], ring, eye, none).barrier
    >>> round(float(straight), 6), bool(loss_along(curve, ends[0], ring, eye, none).barrier < 0.005)
    (0.25, True)
    """
    if steps < 1 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(f"steps={steps}, batch_size={batch_size}, learning_rate={learning_rate}: all must be positive")
    flat = FlatModel(start)
    _refuse_statistics(flat.module)
    check_data(flat, loss, x, y)
    line = straight_line(start, end)
    ends = [flat.flatten(dict(w)) for w in (line.start, line.end)]
    bend = ((ends[0] + ends[1]) / 2).requires_grad_(True)
    optimizer = torch.optim.Adam([bend], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for p in flat.parameters:
        p.requires_grad_(True)
    device = x.device if generator is None else generator.device
    for step in range(steps):
        t = float(torch.rand((), generator=generator, device=device, dtype=torch.float64))
        batch = x, y
        if batch_size < len(x):
            rows = torch.randint(len(x), (batch_size,), generator=generator, device=device).to(x.device)
            batch = x[rows], y[rows]
        u, v, w = _weights(t)
        with torch.no_grad():
            flat.vector.copy_(u * ends[0] + v * bend + w * ends[1])
        value = mean_loss(flat.module, loss, *batch)
        if not bool(torch.isfinite(value)):
            raise ValueError(f"the loss of the curve diverged at step {step}; take a smaller learning_rate")
        gradients = torch.autograd.grad(value, flat.parameters, materialize_grads=True)
        bend.grad = v * torch.cat([g.reshape(-1) for g in gradients])
        optimizer.step()
        schedule.step()
    pieces = dict(zip(flat.names, flat.views(bend.detach()), strict=True))
    return Curve(line.start, {name: p.clone() for name, p in pieces.items()}, line.end)


@torch.no_grad()
def loss_along(
    curve: Curve,
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 51,
    batch_size: int | None = None,
) -> Path:
    """The loss at ``steps`` >= 2 equally spaced points of a curve, ends included; the network in evaluation mode.

    Args:
        curve: from :func:`straight_line` or :func:`fit_curve`.
        model: a network of that architecture; never moved.
        loss, x, y, batch_size: as in :func:`~coursekit.landscape.surface.plane`; any scalar will do, an error rate too.

    Raises:
        ValueError: a curve or data that do not fit the model, ``steps`` < 2, layers with running statistics.
    """
    if steps < 2:
        raise ValueError(f"steps={steps}: both ends are needed")
    flat = FlatModel(model)
    _refuse_statistics(flat.module)
    check_data(flat, loss, x, y, batch_size=batch_size)
    start, bend, end = (flat.flatten(dict(w)) for w in (curve.start, curve.bend, curve.end))
    t = torch.linspace(0, 1, steps, dtype=torch.float64)
    values = []
    for point in t.tolist():
        u, v, w = _weights(point)
        flat.vector.copy_(u * start + v * bend + w * end)
        values.append(mean_loss(flat.module, loss, x, y, batch_size))
    return Path(t.to(flat.vector), torch.stack(values))


def _weights(t: float) -> tuple[float, float, float]:
    return (1 - t) ** 2, 2 * t * (1 - t), t**2


def _refuse_statistics(module: nn.Module) -> None:
    for name, m in module.named_modules():
        if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats:
            raise ValueError(
                f"layer {name!r} ({type(m).__name__}) keeps running statistics, which are wrong between two networks; "
                "use networks without batch normalisation (layer or group normalisation is fine)"
            )
