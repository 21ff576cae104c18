"""Regions of ReLU networks against combinatorics, autograd and brute force."""

import pytest
import torch
from torch import nn

from coursekit.nets import MLP
from coursekit.theory.regions import (
    activation_pattern,
    affine_piece,
    arrangement_patterns,
    line_breakpoints,
    zaslavsky_count,
)


def relu_net(*widths, seed=0):
    torch.manual_seed(seed)
    layers = []
    for a, b in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1])).double()


@pytest.mark.parametrize(("n", "d"), [(3, 2), (5, 2), (8, 2), (5, 1), (6, 3), (7, 4)])
def test_random_arrangement_has_the_zaslavsky_number_of_regions(n, d):
    torch.manual_seed(n)
    patterns = arrangement_patterns(torch.randn(n, d).double(), torch.randn(n).double())
    assert patterns.shape == (zaslavsky_count(n, d), n)


def test_zaslavsky_satisfies_its_recursion():
    for n in range(1, 9):
        for d in range(1, 6):
            assert zaslavsky_count(n, d) == zaslavsky_count(n - 1, d) + zaslavsky_count(n - 1, d - 1)


def test_every_pattern_found_by_sampling_is_enumerated():
    torch.manual_seed(1)
    weight, bias = torch.randn(5, 2).double(), torch.randn(5).double()
    seen = torch.unique(20 * torch.randn(200_000, 2).double() @ weight.T + bias > 0, dim=0)
    every = {tuple(p) for p in arrangement_patterns(weight, bias).tolist()}
    assert {tuple(p) for p in seen.tolist()} <= every
    assert len(every) == 16


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.ones(3), torch.ones(3), "expected weight"),
        (torch.ones(1, 2), torch.ones(1), "at least d"),
        (torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.ones(2), "dependent"),
        (torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.zeros(3), "more than d"),
    ],
)
def test_arrangement_rejects(weight, bias, message):
    with pytest.raises(ValueError, match=message):
        arrangement_patterns(weight, bias)


def test_affine_piece_is_the_jacobian():
    model, x = relu_net(3, 8, 8, 2), torch.tensor([0.3, -0.1, 0.5], dtype=torch.float64)
    slope, offset = affine_piece(model, x)
    torch.testing.assert_close(slope, torch.func.jacrev(model)(x), rtol=0, atol=1e-14)
    torch.testing.assert_close(slope @ x + offset, model(x), rtol=0, atol=1e-14)


def test_nested_models_work_too():
    model, x = MLP(3, 2, width=6).double(), torch.tensor([0.3, -0.1, 0.5], dtype=torch.float64)
    assert activation_pattern(model, x[None]).shape == (1, 12)
    torch.testing.assert_close(
        affine_piece(model, x)[0],
        torch.func.jacrev(model.head)(x[:0].new_zeros(6))
        @ (torch.func.jacrev(lambda v: model.features(v[None])[0])(x)),
    )


def test_breakpoints_agree_with_a_fine_grid():
    model = relu_net(2, 6, 6, 6, 1, seed=3)
    origin, direction = torch.tensor([0.1, -0.4]), torch.tensor([1.0, 0.7])
    points = line_breakpoints(model, origin, direction, low=-3.0, high=3.0)
    t = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    patterns = activation_pattern(model, origin + t[:, None] * direction)
    changes = (patterns[1:] != patterns[:-1]).any(1)
    assert int(changes.sum()) == len(points)
    torch.testing.assert_close(t[1:][changes], points, rtol=0, atol=1e-4)


def test_one_hidden_layer_breaks_once_per_unit_on_the_whole_line():
    model = relu_net(1, 40, 1)
    expected = torch.sort(-model[0].bias / model[0].weight[:, 0]).values
    points = line_breakpoints(model, torch.zeros(1), torch.ones(1))
    torch.testing.assert_close(points, expected.detach())


def test_prediction_is_affine_between_breakpoints_and_beyond():
    model = relu_net(1, 12, 12, 1, seed=5)
    points = line_breakpoints(model, torch.zeros(1), torch.ones(1))
    ends = torch.cat([points[:1] - 10, points, points[-1:] + 10])
    thirds = ends[:-1, None] + (ends[1:] - ends[:-1])[:, None] * torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    f = model(thirds.reshape(-1, 1)).reshape(-1, 3)
    torch.testing.assert_close((f[:, 0] + f[:, 2]) / 2, f[:, 1], rtol=1e-10, atol=1e-10)


def test_tent_iterates_have_two_to_the_k_pieces():
    layers = []  # five times the tent 2 relu(x) - 4 relu(x - 1/2) on [0, 1]
    for _ in range(5):
        first, relu, last = nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)
        first.weight.data.copy_(torch.tensor([[1.0], [1.0]]))
        first.bias.data.copy_(torch.tensor([0.0, -0.5]))
        last.weight.data.copy_(torch.tensor([[2.0, -4.0]]))
        last.bias.data.zero_()
        layers += [first, relu, last]
    points = line_breakpoints(nn.Sequential(*layers).double(), torch.zeros(1), torch.ones(1), low=0.0, high=1.0)
    assert len(points) + 1 >= 2**5
    dyadic = torch.arange(1, 2**5, dtype=torch.float64) / 2**5
    assert all(bool((points - p).abs().min() < 1e-12) for p in dyadic)


def test_rejects_other_layers_and_leaves_the_model_alone():
    with pytest.raises(ValueError, match="Tanh"):
        activation_pattern(nn.Sequential(nn.Linear(1, 1), nn.Tanh()), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="one input"):
        affine_piece(relu_net(2, 3, 1), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="direction"):
        line_breakpoints(relu_net(1, 3, 1), torch.zeros(1), torch.zeros(1))
    model = relu_net(1, 3, 1)
    before = [p.clone() for p in model.parameters()]
    line_breakpoints(model, torch.zeros(1), torch.ones(1))
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(model.parameters(), before, strict=True))
