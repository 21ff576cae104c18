"""What depth buys: the sawtooth, the square of Yarotsky as a plain ReLU network, and exact counts of affine pieces."""

import torch
from torch import Tensor, nn

from coursekit.theory.regions import line_breakpoints


def tent_network(depth: int) -> nn.Sequential:
    """The tent map composed ``depth`` times: a sawtooth with 2^depth pieces on [0, 1].

    T(x) = 2 relu(x) - 4 relu(x - 1/2), on [0, 1] the same as 1 - |2 x - 1|.
    A float64 ReLU network (N, 1) -> (N, 1) with ``depth`` hidden layers of 2 units.
    Its weights are dyadic: values at dyadic x are exact.

    Raises ValueError if depth < 1.

    >>> tent_network(2)(torch.tensor([[0.0], [0.25], [0.5], [0.625]], dtype=torch.float64)).squeeze(1).tolist()
    [0.0, 1.0, 0.0, 0.5]
    """
    _require_positive("depth", depth)
    first, later = torch.tensor([[1.0], [1.0]]), torch.tensor([[2.0, -4.0], [2.0, -4.0]])
    shift, tent = torch.tensor([0.0, -0.5]), torch.tensor([[2.0, -4.0]])
    return _relu_network([(first, shift), *[(later, shift)] * (depth - 1), (tent, torch.zeros(1))])


def square_network(depth: int) -> nn.Sequential:
    """The interpolant f_m of x^2 at the points k / 2^m of [0, 1]: m = ``depth`` layers of 3 ReLU units.

    f_m(x) = x - sum_{s=1}^{m} T^s(x) / 4^s with the s-fold tent T^s (Yarotsky 2017), and
    0 <= f_m(x) - x^2 <= 2^{-2m-2} on [0, 1], with equality at the midpoints. Two units a layer carry the tent, the
    third the partial sum, which is >= x^2 >= 0 and so passes the ReLU unchanged. Float64 (N, 1) -> (N, 1).

    Raises ValueError if depth < 1.

    >>> x = torch.tensor([[0.0], [0.25], [0.5], [1.0]], dtype=torch.float64)
    >>> (square_network(1)(x) - x**2).squeeze(1).tolist()
    [0.0, 0.0625, 0.0, 0.0]
    """
    _require_positive("depth", depth)
    shift = torch.tensor([0.0, -0.5, 0.0])
    layers = [(torch.ones(3, 1), shift)]
    for s in range(1, depth):
        tent = torch.tensor([2.0, -4.0, 0.0])
        layers.append((torch.stack([tent, tent, torch.tensor([0.0, 0.0, 1.0]) - tent / 4**s]), shift))
    layers.append((torch.tensor([[-2.0 / 4**depth, 4.0 / 4**depth, 1.0]]), torch.zeros(1)))
    return _relu_network(layers)


def piece_count(network: nn.Sequential, *, low: float = 0.0, high: float = 1.0, rtol: float = 1e-9) -> int:
    """Number of maximal intervals of [low, high] on which a ReLU network R -> R is affine.

    All switches of units are located by propagating the intervals through the layers; neighbours with slopes that
    agree within ``rtol`` of the largest slope count as one piece. Exact for networks with dyadic weights.

    Raises ValueError if the network does not map (N, 1) to (N, 1), or low >= high.

    >>> [piece_count(tent_network(k)) for k in (1, 2, 3)]
    [2, 4, 8]
    """
    origin = torch.zeros(1, dtype=torch.float64, device=next(network.parameters()).device)
    inner = line_breakpoints(network, origin, torch.ones_like(origin), low=low, high=high)
    t = torch.cat([inner.new_tensor([low]), inner, inner.new_tensor([high])])
    t = t[torch.cat([t.new_ones(1, dtype=torch.bool), t.diff() > 1e-12 * (high - low)])]  # units that switch together
    with torch.no_grad():
        values = network(t[:, None].to(next(network.parameters()).dtype)).double()
    if values.shape != (len(t), 1):
        raise ValueError(f"expected a network (N, 1) -> (N, 1), its output has shape {tuple(values.shape)}")
    slopes = values[:, 0].diff() / t.diff()
    scale = float(slopes.abs().max().clamp_min(1e-300))
    return 1 + int((slopes.diff().abs() > rtol * scale).sum())


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _relu_network(layers: list[tuple[Tensor, Tensor]]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])
