"""Symmetries of ReLU networks: the same function at other weights. Each returns a new model and leaves the old one."""

import copy

import torch
from torch import Tensor, nn


def rescale_units(model: nn.Sequential, hidden: int, factors: Tensor | float) -> nn.Sequential:
    """Multiply the weights into hidden layer ``hidden`` by c > 0 and divide those out of it by c: the same function.

    (W_l, b_l, W_{l+1}) -> (C W_l, C b_l, W_{l+1} C^{-1}) with C = diag(c), as relu(c z) = c relu(z).
    hidden counts from 0; factors: a number, or one for each unit (n,).

    Raises ValueError for factors <= 0, a wrong number of them, or no such hidden layer.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    >>> x = torch.randn(5, 2, dtype=torch.float64)
    >>> torch.allclose(rescale_units(model, 0, 10.0)(x), model(x))
    True
    """
    new, before, after = _copy_with_layers(model, hidden)
    c = torch.as_tensor(factors, dtype=before.weight.dtype, device=before.weight.device)
    if c.ndim > 1 or (c.ndim == 1 and len(c) != before.out_features):
        raise ValueError(f"expected one factor or {before.out_features} of them, got shape {tuple(c.shape)}")
    if not bool((c > 0).all()) or not bool(torch.isfinite(c).all()):
        raise ValueError("factors must be positive and finite: relu(c z) = c relu(z) needs c > 0")
    c = c.expand(before.out_features)
    with torch.no_grad():
        before.weight.mul_(c[:, None])
        if before.bias is not None:
            before.bias.mul_(c)
        after.weight.div_(c)
    return new


def permute_units(model: nn.Sequential, hidden: int, order: Tensor) -> nn.Sequential:
    """Renumber the units of hidden layer ``hidden``: unit i of the result is unit order[i] of the model.

    (W_l, b_l, W_{l+1}) -> (P W_l, P b_l, W_{l+1} P^T). Works for any activation that acts unit by unit.

    Raises ValueError if order is not a permutation of the units, or there is no such hidden layer.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    >>> x = torch.randn(5, 2, dtype=torch.float64)
    >>> torch.allclose(permute_units(model, 0, torch.tensor([2, 0, 1]))(x), model(x))
    True
    """
    new, before, after = _copy_with_layers(model, hidden)
    order = torch.as_tensor(order, device=before.weight.device)
    if sorted(order.tolist()) != list(range(before.out_features)):
        raise ValueError(f"expected a permutation of 0..{before.out_features - 1}, got {order.tolist()}")
    with torch.no_grad():
        before.weight.copy_(before.weight[order])
        if before.bias is not None:
            before.bias.copy_(before.bias[order])
        after.weight.copy_(after.weight[:, order])
    return new


def interpolate(start: nn.Module, end: nn.Module, t: float) -> nn.Module:
    """The model with weights (1 - t) theta_start + t theta_end, for two models of one architecture.

    Raises ValueError if the parameters differ in shape.

    >>> a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> torch.equal(interpolate(a, b, 0.0).weight, a.weight)
    True
    """
    new = copy.deepcopy(start)
    theta, other = list(new.parameters()), list(end.parameters())
    if [p.shape for p in theta] != [q.shape for q in other]:
        raise ValueError("the two models differ in their parameters: interpolation needs one architecture")
    with torch.no_grad():
        for p, q in zip(theta, other, strict=True):
            p.lerp_(q, t)
    return new


def _copy_with_layers(model: nn.Sequential, hidden: int) -> tuple[nn.Sequential, nn.Linear, nn.Linear]:
    """A copy, and its linear layers into and out of a hidden layer."""
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"expected an nn.Sequential, got {type(model).__name__}")
    new = copy.deepcopy(model)
    linear = [layer for layer in new.modules() if isinstance(layer, nn.Linear)]  # in order, also when nested
    if not 0 <= hidden < len(linear) - 1:
        raise ValueError(f"hidden must lie in 0..{len(linear) - 2}, got {hidden}")
    return new, linear[hidden], linear[hidden + 1]
