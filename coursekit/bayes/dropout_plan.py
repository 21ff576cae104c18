"""How MC Dropout runs a network: masks of our own, and everything that no dropout touches only once.

The network is traced into a graph of operations. A node is random if a dropout stands among its ancestors; all other
nodes have one value for all samples and are computed once. A network that cannot be traced (control flow that
depends on the data) runs as a whole for each sample: the same result, later.
"""

import math
import operator
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd

from coursekit.device import draw_device

# (name of the functional form, one mask entry for a whole channel, alpha dropout)
_KINDS: dict[type[nn.Module], tuple[Callable, bool, bool]] = {
    nn.Dropout: (F.dropout, False, False),
    nn.Dropout1d: (F.dropout1d, True, False),
    nn.Dropout2d: (F.dropout2d, True, False),
    nn.Dropout3d: (F.dropout3d, True, False),
    nn.AlphaDropout: (F.alpha_dropout, False, True),
    nn.FeatureAlphaDropout: (F.feature_alpha_dropout, True, True),
}
_FUNCTIONS = {function: kind for kind, (function, _, _) in _KINDS.items()}
_ALPHA = -1.7580993408473766  # the value that SELU takes at minus infinity


class Mask(nn.Module):
    """Dropout that is always on and draws from its ``source``; the same laws as the modules of torch."""

    def __init__(self, kind: type[nn.Module], p: float, source: "Source"):
        super().__init__()
        self.kind = kind
        self.p = p
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        self.source.calls += 1
        _, channels, alpha = _KINDS[self.kind]
        shape = _mask_shape(self.kind, x) if channels else x.shape
        place = draw_device(x, self.source.generator)
        mask = torch.rand(shape, generator=self.source.generator, dtype=x.dtype, device=place).to(x.device).ge_(self.p)
        if not alpha:
            return mask.mul_(1 / (1 - self.p) if self.p < 1 else 0.0) * x
        # Dropped entries become _ALPHA; then an affine map restores mean 0 and variance 1 of standardised inputs.
        scale = 1 / math.sqrt((1 - self.p) * (1 + self.p * _ALPHA**2)) if self.p < 1 else 0.0
        return scale * (x * mask + _ALPHA * (1 - mask)) - scale * _ALPHA * self.p


class Source:
    """Where the masks of one prediction come from, and how many were drawn."""

    def __init__(self, generator: torch.Generator | None):
        self.generator = generator
        self.calls = 0


def is_active(module: nn.Module) -> bool:
    return isinstance(module, _DropoutNd) and module.p > 0


def put_masks(model: nn.Module, source: Source) -> nn.Module:
    """Replace the dropout modules of a network of our own (a shadow) by masks."""
    if is_active(model):
        kind = next((k for k in type(model).__mro__ if k in _KINDS), None)
        if kind is None:
            raise TypeError(f"{type(model).__name__} is a dropout module of an unknown kind")
        return Mask(kind, model.p, source)
    for name, child in model._modules.items():
        if child is not None:
            model._modules[name] = put_masks(child, source)
    return model


def runs(model: nn.Module, x: Tensor, samples: int, source: Source) -> Iterator[object]:
    """The outputs of ``samples`` passes of a network with masks over one chunk of inputs."""
    graph = _trace(model)
    if graph is None:
        for _ in range(samples):
            yield model(x)
        return
    nodes, random = graph
    modules = dict(model.named_modules())
    fixed: dict[fx.Node, object] = {}
    for node in nodes:
        if node not in random:
            fixed[node] = x if node.op == "placeholder" else _execute(node, fixed, model, modules, source)
    last = nodes[-1]
    for _ in range(samples):
        values = dict(fixed)
        for node in nodes:
            if node in random:
                protected = _protect(node, values, fixed) if _mutates(node, modules) else values
                values[node] = _execute(node, protected, model, modules, source)
        yield values[last]


class _Tracer(fx.Tracer):
    """Looks into every module but those of torch; ``shallow``: not into any that holds no dropout either."""

    def __init__(self, shallow: bool):
        super().__init__()
        self.shallow = shallow

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        if isinstance(module, Mask) or (self.shallow and not _has_mask(module)):
            return True
        return super().is_leaf_module(module, name)


def _trace(model: nn.Module) -> tuple[list[fx.Node], set[fx.Node]] | None:
    """The operations of the network in order and those of them that are random; None if it cannot be traced."""
    graph = None
    for shallow in (False, True):  # first look everywhere: a functional dropout may hide in any forward
        try:
            graph = _Tracer(shallow).trace(model)
            break
        except Exception:  # a forward that is no fixed graph fails in a way of its own
            continue
    if graph is None:
        return None
    modules = dict(model.named_modules())
    nodes = list(graph.nodes)
    random: set[fx.Node] = set()
    for node in nodes:
        if _is_random(node, modules) or any(parent in random for parent in node.all_input_nodes):
            random.add(node)
        elif random and _mutates(node, modules):
            return None  # moved before the random nodes, an in-place change would come too early
    if nodes[-1] not in random or sum(node.op == "placeholder" for node in nodes) != 1:
        return None
    return nodes, random


def _is_random(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return _has_mask(modules[node.target])
    return node.op == "call_function" and node.target in _FUNCTIONS


def _has_mask(module: nn.Module) -> bool:
    return any(isinstance(m, Mask) for m in module.modules())


_INPLACE = {
    getattr(operator, name) for name in dir(operator) if name.startswith("i") and f"__{name}__" in dir(operator)
}


def _mutates(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether the operation may write into one of its arguments."""
    if node.op == "call_module":
        return any(getattr(m, "inplace", False) for m in modules[node.target].modules())
    if node.op == "call_method":
        return node.target.endswith("_") and not node.target.endswith("__")
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        flagged = bool(node.kwargs.get("inplace")) or "out" in node.kwargs
        return (
            node.target in _INPLACE or flagged or (name.endswith("_") and not name.endswith("__")) or name == "setitem"
        )
    return False


def _protect(node: fx.Node, values: dict, fixed: dict) -> dict:
    """The values with copies of the fixed tensors that this operation might write into."""
    copies = {n: values[n].clone() for n in node.all_input_nodes if n in fixed and isinstance(values[n], Tensor)}
    return {**values, **copies} if copies else values


def _execute(node: fx.Node, values: dict, model: nn.Module, modules: dict[str, nn.Module], source: Source) -> object:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    if node.op == "call_module":
        return modules[node.target](*args, **kwargs)
    if node.op == "call_function":
        if node.target in _FUNCTIONS:
            p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            return Mask(_FUNCTIONS[node.target], p, source)(kwargs.get("input", args[0] if args else None))
        return node.target(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    if node.op == "get_attr":
        return operator.attrgetter(node.target)(model)
    return args[0]  # output


def _mask_shape(kind: type[nn.Module], x: Tensor) -> tuple[int, ...]:
    """One entry a channel; an input without batch axis, as torch reads it, has its channels first."""
    unbatched = (kind is nn.Dropout1d and x.ndim == 2) or (kind is nn.Dropout3d and x.ndim == 4)
    leading = 1 if unbatched else 2
    return (*x.shape[:leading], *(1,) * (x.ndim - leading))
