"""How MC Dropout runs a network: dropout by what a forward pass does, and what comes before it only once.

The functions of torch themselves are intercepted while the network runs, so it does not matter who calls them: a
module, a forward pass, a layer in a list. A pass in training mode on one input shows which modules call them; those
alone are in training mode afterwards. Up to the first mask all passes do the same: the results of the first are kept.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from coursekit._frozen import evaluation_mode
from coursekit.device import draw_device, seeded

# function -> (axes of the mask: None for all of x, else how many leading ones; alpha dropout)
_KINDS: dict[Callable, tuple[int | None, bool]] = {
    F.dropout: (None, False),
    F.dropout1d: (2, False),
    F.dropout2d: (2, False),
    F.dropout3d: (2, False),
    F.alpha_dropout: (None, True),
    F.feature_alpha_dropout: (2, True),
    torch.dropout: (None, False),
    torch.dropout_: (None, False),
    torch.feature_dropout: (2, False),
    torch.feature_dropout_: (2, False),
    torch.alpha_dropout: (None, True),
    torch.alpha_dropout_: (None, True),
    torch.feature_alpha_dropout: (2, True),
    torch.feature_alpha_dropout_: (2, True),
}
_RECURRENT = {torch._VF.lstm, torch._VF.gru, torch._VF.rnn_tanh, torch._VF.rnn_relu}
_UNIFORM = {"rand", "rand_like", "bernoulli", "bernoulli_", "uniform_"}  # what private masks are made of
_ALPHA = -1.7580993408473766  # the value that SELU takes at minus infinity


def mask(function: Callable, x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """One draw of a dropout function that is on, from ``generator``: the law of torch."""
    axes, alpha = _KINDS[function]
    if axes is None:
        shape = x.shape
    else:  # one entry a channel; an input without batch axis, as torch reads it, has its channels first
        axes -= (function is F.dropout1d and x.ndim == 2) or (function is F.dropout3d and x.ndim == 4)
        shape = (*x.shape[:axes], *(1,) * (x.ndim - axes))
    place = draw_device(x, generator)
    keep = torch.rand(shape, generator=generator, dtype=x.dtype, device=place).to(x.device).ge_(p)
    if not alpha:
        return keep.mul_(1 / (1 - p) if p < 1 else 0.0) * x
    # Dropped entries become _ALPHA; then an affine map restores mean 0 and variance 1 of standardised inputs.
    scale = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2)) if p < 1 else 0.0
    return scale * (x * keep + _ALPHA * (1 - keep)) - scale * _ALPHA * p


def probability(function: Callable, args: tuple, kwargs: dict) -> float | None:
    """The probability of dropout of this call, 0 if it is off; ``None`` if the function has no dropout."""
    if function in _KINDS or function is torch.native_dropout:
        p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        flag = "training" if "training" in kwargs else "train"
        by_default = function is F.dropout or function in (F.dropout1d, F.dropout2d, F.dropout3d)
        on = kwargs.get(flag, args[2] if len(args) > 2 else by_default)
        return float(p) if on or (function is torch.native_dropout and on is None) else 0.0
    if function is F.scaled_dot_product_attention:
        return float(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    if function is F.multi_head_attention_forward:
        values = inspect.signature(function).bind(*args, **kwargs).arguments
        return float(values["dropout_p"]) if values.get("training", True) else 0.0
    if function in _RECURRENT:  # (x, hx, weights, ...), or (x, batch sizes, hx, weights, ...) of a packed sequence
        layers, p, on = args[4:7] if isinstance(args[3], bool) else args[5:8]
        return float(p) if on and layers > 1 else 0.0
    return None


class _Watch(TorchFunctionMode):
    """Which modules call a dropout that is on, and which draw masks of their own."""

    def __init__(self):
        super().__init__()
        self.stack: list[nn.Module] = []
        self.seen: dict[int, nn.Module] = {}
        self.callers: dict[int, nn.Module] = {}
        self.private: dict[int, nn.Module] = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.stack:
            caller = self.stack[-1]
            if probability(function, args, kwargs):
                self.callers[id(caller)] = caller
            if getattr(function, "__name__", "") in _UNIFORM:
                self.private[id(caller)] = caller
        return function(*args, **_frozen_norm(function, kwargs))

    @contextmanager
    def watching(self) -> Iterator[None]:
        def enter(module: nn.Module, args: object) -> None:
            self.stack.append(module)
            self.seen[id(module)] = module

        def leave(module: nn.Module, args: object, output: object) -> None:
            self.stack.pop()

        hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()


def stochastic_modules(model: nn.Module, x: Tensor) -> Callable[[nn.Module], bool]:
    """Which modules must be in training mode for the dropout of a network to be on: those that call it.

    Args:
        x: (1, ...) one input, for a pass in training mode and one in evaluation mode.

    Raises:
        ValueError: the network does not run in training mode, or has masks of its own making.
    """
    usual, trained = _Watch(), _Watch()
    with torch.no_grad(), seeded(0, x.device):
        with evaluation_mode(model), usual.watching():
            model(x)
        buffers = [(b, b.clone()) for b in model.buffers()]  # a layer may count or average in training mode
        try:
            with evaluation_mode(model, training=_trains), trained.watching():
                model(x)
        except Exception as error:
            raise ValueError(
                f"the model does not run in training mode on inputs alone ({error}): which of its dropout is on cannot "
                "be seen"
            ) from error
        finally:
            for buffer, value in buffers:
                buffer.copy_(value)
    private = [m for i, m in trained.private.items() if i not in usual.private]
    if private:
        raise ValueError(
            f"{type(private[0]).__name__} draws masks of its own in training mode, which MC Dropout cannot switch on: "
            "write nn.Dropout rather than a private mask"
        )

    def training(module: nn.Module) -> bool:
        # What the one input did not reach may be reached by others.
        return id(module) in trained.callers or (id(module) not in trained.seen and _trains(module))

    return training


def _trains(module: nn.Module) -> bool:
    return not isinstance(module, _NormBase)


def _frozen_norm(function: Callable, kwargs: dict) -> dict:
    """Normalisation with running statistics uses them: a forward pass that asks for batch statistics moves them."""
    return {**kwargs, "training": False} if function is F.batch_norm and "training" in kwargs else kwargs


class Passes(TorchFunctionMode):
    """Runs a network again and again on one chunk of inputs with masks from ``generator``; counts the masks.

    The calls before the first mask and their results are those of the first pass, as long as the same functions meet
    the same tensors. No change in place may reach these results later, and no other random number may have been drawn.
    """

    def __init__(self, generator: torch.Generator | None):
        super().__init__()
        self.generator = generator
        self.calls = 0

    def run(self, model: nn.Module, x: Tensor, samples: int) -> Iterator[object]:
        """The outputs of ``samples`` passes of a network whose modules are in their modes."""
        self.prefix: list[tuple[Callable, tuple, object]] = []
        self.recording, self.place = True, None
        self.start = _state(x)
        replay = False
        for _ in range(samples):
            self.x, self.place = x, 0 if replay else None
            try:
                with self:
                    output = model(x)
            except _Diverged:
                self.place, replay = None, False
                with self:
                    output = model(x)
            if self.recording:  # no mask at all
                self.recording = False
                self.versions = None
            replay = self.versions is not None and self.versions == self._versions()
            if not replay:
                self.prefix, self.versions = [], None
            yield output

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = _frozen_norm(function, kwargs or {})
        p = probability(function, args, kwargs)
        if p:
            if self.recording:
                self._cut()
            elif self.place is not None and self.place < len(self.prefix):
                raise _Diverged
            self.place = None
            self.calls += 1
            return self._drop(function, p, args, kwargs)
        if self.place is not None:
            if self.place == len(self.prefix):
                raise _Diverged
            known, given, result = self.prefix[self.place]
            if known is not function or not _same(given, (args, kwargs)):
                raise _Diverged
            self.place += 1
            return function(*args, **kwargs) if result is _AGAIN else result
        if not self.recording:
            return function(*args, **kwargs)
        version = _version(args[0]) if args else None
        result = function(*args, **kwargs)
        moved = version is not None and _version(args[0]) != version
        # Sizes and flags are cheap, and some functions change the state of the process: only tensors are kept.
        self.prefix.append((function, (args, kwargs), result if moved or _tensors(result) else _AGAIN))
        return result

    def _drop(self, function: Callable, p: float, args: tuple, kwargs: dict) -> object:
        if function not in _KINDS:  # inside attention and recurrent layers the masks are torch's own
            if self.generator is None:
                return function(*args, **kwargs)
            place = self.generator.device
            seed = int(torch.randint(2**62, (1,), generator=self.generator, device=place))
            with seeded(seed, self.x.device):
                return function(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        result = mask(function, x, p, self.generator)
        in_place = kwargs.get("inplace", args[3] if len(args) > 3 else False) or function.__name__.endswith("_")
        return x.copy_(result) if in_place else result

    def _cut(self) -> None:
        self.recording = False
        self.versions = self._versions() if _same_state(self.start, _state(self.x)) else None

    def _versions(self) -> list[int | None] | None:
        kept = [self.x, *(t for _, _, result in self.prefix for t in _tensors(result))]
        return None if any(t.is_inference() for t in kept) else [t._version for t in kept]


class _Diverged(Exception):
    """A pass does not begin as the first one did."""


_AGAIN = object()


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for part in value for t in _tensors(part)] if isinstance(value, (tuple, list)) else []


def _version(value: object) -> int | None:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else None


def _same(one: object, other: object) -> bool:
    """The same tensors in the same places, and equal values beside them."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return one is other
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return one is other or bool(one == other)


def _state(x: Tensor) -> list[Tensor]:
    """The states of the global generators that a pass on x may draw from."""
    states = [torch.get_rng_state()]
    if x.device.type == "cuda":
        states.append(torch.cuda.get_rng_state(x.device))
    return states


def _same_state(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
