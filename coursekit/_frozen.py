"""The one way to leave a model alone: run it in the modes a method needs, and put every mode back."""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook


def _never(module: nn.Module) -> bool:
    return False


@contextmanager
def evaluation_mode(model: nn.Module, *, training: Callable[[nn.Module], bool] = _never) -> Iterator[nn.Module]:
    """Evaluation mode for a while; afterwards, also after an error, each module is in the mode it was in.

    What counts is what a forward pass runs, not what is registered: a layer that stands in a plain list or dict, or in
    a closure, is put into evaluation mode the moment it is called. Compiled networks run uncompiled meanwhile.

    Args:
        model: left in the modes it was in.
        training: the modules to put into training mode instead.

    >>> net = nn.Sequential(nn.Dropout(), nn.Linear(1, 1).eval())
    >>> with evaluation_mode(net):
    ...     net[0].training
    False
    >>> net[0].training, net[1].training
    (True, False)
    >>> hidden = nn.Dropout()
    >>> class Net(nn.Module):
    ...     def forward(self, x):
    ...         return hidden(x)
    >>> with evaluation_mode(Net()) as net:
    ...     net(torch.ones(3))
    tensor([1., 1., 1.])
    >>> hidden.training
    True
    """
    before: dict[int, tuple[nn.Module, bool]] = {}
    thread = threading.get_ident()  # the hook sees the modules of all threads

    def enter(module: nn.Module, args: object = None) -> None:
        if id(module) in before or threading.get_ident() != thread:
            return
        for part in module.modules():
            if id(part) not in before:
                before[id(part)] = part, part.training
                part.training = bool(training(part))

    # Compiled code may keep the modes it was compiled with, and no hook and no intercepted function reaches into it.
    compiled = "torch._dynamo" in sys.modules
    hook = register_module_forward_pre_hook(enter)
    try:
        enter(model)
        with _uncompiled() if compiled else nullcontext():
            yield model
    finally:
        hook.remove()
        for module, mode in before.values():
            module.training = mode


@contextmanager
def _uncompiled() -> Iterator[None]:
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.filterwarnings("ignore", message=".*when there are global hooks on modules")
        yield
