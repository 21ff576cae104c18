"""The symmetries keep the function, move the weights, and leave the model alone."""

import pytest
import torch
from torch import nn

from coursekit.nets import MLP
from coursekit.theory.symmetries import interpolate, permute_units, rescale_units


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()


@pytest.mark.parametrize("hidden", [0, 1])
def test_rescaling_keeps_the_function(model, hidden):
    x = torch.randn(20, 2, dtype=torch.float64)
    before = [p.clone() for p in model.parameters()]
    units = model[2 * hidden].out_features
    for factor in (1e-3, 7.0, torch.logspace(-2, 2, units)):
        other = rescale_units(model, hidden, factor)
        torch.testing.assert_close(other(x), model(x), rtol=0, atol=1e-12)
        assert not torch.equal(other[2 * hidden].weight, model[2 * hidden].weight)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_nested_models_work_too():
    model = MLP(2, 3, width=5).double()
    x = torch.randn(20, 2, dtype=torch.float64)
    torch.testing.assert_close(rescale_units(model, 1, 3.0)(x), model(x), rtol=0, atol=1e-14)


def test_permutation_keeps_the_function_for_any_activation():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    order = torch.randperm(6)
    other = permute_units(model, 0, order)
    x = torch.randn(20, 2, dtype=torch.float64)
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=1e-14)
    assert torch.equal(other[0].weight, model[0].weight[order])


def test_interpolation_is_linear(model):
    end = permute_units(model, 0, torch.tensor([1, 0, 2, 4, 3]))
    middle = interpolate(model, end, 0.25)
    for p, a, b in zip(middle.parameters(), model.parameters(), end.parameters(), strict=True):
        torch.testing.assert_close(p, 0.75 * a + 0.25 * b)
    with pytest.raises(ValueError, match="differ"):
        interpolate(model, nn.Linear(1, 1), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: rescale_units(m, 0, -1.0), "positive"),
        (lambda m: rescale_units(m, 0, torch.ones(3)), "expected one factor"),
        (lambda m: rescale_units(m, 2, 2.0), "hidden must lie"),
        (lambda m: permute_units(m, 0, torch.tensor([0, 0, 1, 2, 3])), "permutation"),
    ],
)
def test_rejects(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
