"""Linear regions of ReLU networks: hyperplane arrangements, affine pieces, exact break points on a line."""

from itertools import combinations
from math import comb, inf

import torch
from torch import Tensor, nn


def zaslavsky_count(hyperplanes: int, dimension: int) -> int:
    """Number of regions cut out of R^d by n hyperplanes in general position.

    r(n, d) = sum_{k=0}^{d} C(n, k), the solution of r(n, d) = r(n-1, d) + r(n-1, d-1).

    Raises ValueError for a negative argument.

    >>> [zaslavsky_count(n, 2) for n in (3, 5, 8)]
    [7, 16, 37]
    """
    if hyperplanes < 0 or dimension < 0:
        raise ValueError(f"counts must be >= 0, got hyperplanes={hyperplanes}, dimension={dimension}")
    return sum(comb(hyperplanes, k) for k in range(dimension + 1))


def arrangement_patterns(weight: Tensor, bias: Tensor) -> Tensor:
    """Sign patterns of all regions of the arrangement {x : W x + b = 0}, in general position.

    weight (n, d), bias (n,) with n >= d; returns bool (R, n), row r holds the sign of W x + b on region r.
    Every region of an arrangement whose normals span R^d has a vertex, and a vertex in general position touches
    the 2^d regions in which its d hyperplanes take all signs: walking round all C(n, d) vertices finds them all.

    Raises ValueError for wrong shapes, n < d, or an arrangement not in general position (d parallel normals,
    or d + 1 hyperplanes through one point).

    >>> W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    >>> arrangement_patterns(W, torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)).shape
    torch.Size([7, 3])
    """
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(f"expected weight (n, d) and bias (n,), got {tuple(weight.shape)} and {tuple(bias.shape)}")
    n, d = weight.shape
    if n < d:
        raise ValueError(f"needs at least d = {d} hyperplanes to have a vertex, got n = {n}")
    w, b = weight.detach().double(), bias.detach().double()
    subsets = torch.tensor(list(combinations(range(n), d)), device=w.device)  # (V, d)
    normals = w[subsets]  # (V, d, d)
    sizes = normals.norm(dim=2).prod(dim=1)
    if bool((torch.linalg.det(normals).abs() <= 1e-10 * sizes).any()):
        raise ValueError("the normals of some d hyperplanes are linearly dependent: not in general position")
    vertices = torch.linalg.solve(normals, -b[subsets].unsqueeze(-1)).squeeze(-1)  # (V, d)
    values = vertices @ w.T + b  # (V, n)
    scale = vertices.norm(dim=1, keepdim=True) * w.norm(dim=1) + b.abs()
    on_vertex = torch.zeros_like(values, dtype=torch.bool).scatter_(1, subsets, True)
    if bool(((values.abs() <= 1e-10 * scale) & ~on_vertex).any()):
        raise ValueError("more than d hyperplanes meet in one point: not in general position")
    corners = torch.cartesian_prod(*[torch.tensor([False, True], device=w.device)] * d).reshape(-1, d)
    patterns = (values > 0).unsqueeze(1).repeat(1, len(corners), 1)  # (V, 2^d, n)
    patterns.scatter_(
        2,
        subsets.unsqueeze(1).expand(-1, len(corners), -1),
        corners.unsqueeze(0).expand(len(subsets), -1, -1),
    )
    return torch.unique(patterns.reshape(-1, n), dim=0)


def activation_pattern(model: nn.Sequential, x: Tensor) -> Tensor:
    """Which ReLU units are on: bool (N, units), layer after layer, for inputs x (N, D).

    The prediction is affine in x, and polynomial in the weights, on each set where this pattern is constant.

    Raises ValueError if the model has a layer that is neither Linear, Flatten nor ReLU.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]])); _ = model[0].bias.data.zero_()
    >>> activation_pattern(model, torch.tensor([[2.0], [-3.0]], dtype=torch.float64)).tolist()
    [[True, False], [False, True]]
    """
    layers = _layers(model)
    signs = []
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                signs.append(x > 0)
            x = layer(x)
    return torch.cat(signs, dim=1) if signs else torch.zeros(len(x), 0, dtype=torch.bool, device=x.device)


def affine_piece(model: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map f(x') = A x' + c that the network equals on the region of x.

    A = W_L D_{L-1} W_{L-1} ... D_1 W_1 with D_l the 0/1 diagonal of the active units; x (D,); returns A (K, D), c (K,).

    Raises ValueError if x is not a vector or the model has a layer that is neither Linear, Flatten nor ReLU.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    >>> x = torch.tensor([0.3, -0.2], dtype=torch.float64)
    >>> A, c = affine_piece(model, x)
    >>> torch.allclose(A @ x + c, model(x))
    True
    """
    layers = _layers(model)
    if x.ndim != 1:
        raise ValueError(f"expected one input of shape (D,), got {tuple(x.shape)}")
    slope, offset, h = torch.eye(len(x), dtype=x.dtype, device=x.device), torch.zeros_like(x), x
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                slope, offset, h = layer.weight @ slope, layer(offset), layer(h)
            elif isinstance(layer, nn.ReLU):
                on = (h > 0).to(x.dtype)
                slope, offset, h = on[:, None] * slope, on * offset, on * h
    return slope, offset


def line_breakpoints(
    model: nn.Sequential, origin: Tensor, direction: Tensor, *, low: float = -inf, high: float = inf
) -> Tensor:
    """All t in (low, high) at which a unit of the network switches along the line x(t) = origin + t direction.

    Exact up to rounding: on each interval found so far every pre-activation is affine in t, and the zeros inside
    the interval are added layer after layer. The number of activation regions on the line is len(result) + 1.
    origin, direction (D,); returns t (B,), sorted, in float64.

    Raises ValueError for wrong shapes, a zero direction, low >= high, or an unsupported layer.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = model[0].weight.data.fill_(2.0); _ = model[0].bias.data.copy_(torch.tensor([-1.0, 3.0]))
    >>> line_breakpoints(model, torch.zeros(1), torch.ones(1)).tolist()
    [-1.5, 0.5]
    """
    layers = _layers(model)
    if origin.ndim != 1 or origin.shape != direction.shape:
        raise ValueError(f"expected two vectors (D,), got {tuple(origin.shape)} and {tuple(direction.shape)}")
    if not low < high or not bool(direction.abs().max() > 0):
        raise ValueError("expected low < high and a direction that is not zero")
    edges = torch.tensor([low, high], dtype=torch.float64, device=origin.device)
    slope, offset = direction.detach().double()[None], origin.detach().double()[None]  # (intervals, units)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().double()
            slope, offset = slope @ weight.T, offset @ weight.T
            if layer.bias is not None:
                offset = offset + layer.bias.detach().double()
        elif isinstance(layer, nn.ReLU):
            zeros = torch.where(slope != 0, -offset / slope, inf)
            inside = (zeros > edges[:-1, None]) & (zeros < edges[1:, None])
            parent = torch.arange(len(slope), device=edges.device)
            starts = torch.cat([edges[:-1], zeros[inside]])
            order = torch.argsort(starts)
            parent = torch.cat([parent, inside.nonzero()[:, 0]])[order]
            edges = torch.cat([starts[order], edges[-1:]])
            slope, offset = slope[parent], offset[parent]
            middle = _interior_points(edges)
            on = (middle[:, None] * slope + offset > 0).double()
            slope, offset = on * slope, on * offset
    return edges[1:-1]


def _interior_points(edges: Tensor) -> Tensor:
    """One point inside each interval, also of the unbounded ones."""
    left, right = edges[:-1].clone(), edges[1:].clone()
    left = torch.where(torch.isneginf(left), torch.where(torch.isinf(right), -1.0, right - 2 - right.abs()), left)
    right = torch.where(torch.isposinf(right), left + 2 + left.abs(), right)
    return (left + right) / 2


def _layers(model: nn.Sequential) -> list[nn.Module]:
    """The layers in order, also of an nn.Sequential inside another, as in ``nets.MLP``."""
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"expected an nn.Sequential of Linear and ReLU layers, got {type(model).__name__}")
    layers = []
    for layer in model:
        if isinstance(layer, nn.Sequential):
            layers += _layers(layer)
        elif isinstance(layer, (nn.Linear, nn.ReLU, nn.Flatten)):
            layers.append(layer)
        else:
            raise ValueError(f"expected Linear, Flatten and ReLU layers only, got {type(layer).__name__}")
    return layers
