"""A second skeleton for a network, on the same parameters: hooks and mode flags stay off the caller's model."""

from torch import nn


def shadow(model: nn.Module, memo: dict[int, nn.Module] | None = None) -> nn.Module:
    """A copy of the module tree of ``model`` in evaluation mode that shares its parameters and buffers.

    Modes, hooks and submodules of the copy can be changed freely: the original never notices, not even when an
    exception interrupts the work. No tensor is copied. A module that stands in two places stays one module.
    """
    memo = {} if memo is None else memo
    if id(model) in memo:
        return memo[id(model)]
    twin = model.__class__.__new__(model.__class__)
    # The registries (parameters, buffers, hooks, ...) are dicts in the instance dict: one level deeper is enough.
    twin.__dict__.update({k: v.copy() if isinstance(v, dict) else v for k, v in model.__dict__.items()})
    memo[id(model)] = twin
    twin.__dict__["training"] = False
    twin.__dict__["_modules"] = {
        name: child if child is None else shadow(child, memo) for name, child in model._modules.items()
    }
    return twin
