"""Sawtooth and square networks against closed forms."""

import pytest
import torch
from torch import nn

from coursekit.theory.expressivity import piece_count, square_network, tent_network


def dyadic(power):
    return torch.linspace(0, 1, 2**power + 1, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("k", range(1, 11))
def test_tent_composed_k_times_has_two_to_the_k_pieces_with_2k_units(k):
    network = tent_network(k)
    assert piece_count(network) == 2**k
    assert sum(layer.out_features for layer in network if isinstance(layer, nn.Linear)) - 1 == 2 * k


def test_tent_network_is_the_composition_of_tents():
    x = expected = dyadic(8)
    for k in range(1, 5):
        expected = 1 - (2 * expected - 1).abs()
        assert torch.equal(tent_network(k)(x), expected)


@pytest.mark.parametrize("m", range(1, 9))
def test_square_network_interpolates_and_its_largest_error_is_exact(m):
    x = dyadic(12)
    error = square_network(m)(x).detach() - x**2
    assert float(error.max()) == pytest.approx(2.0 ** (-2 * m - 2), rel=1e-12)
    assert float(error.min()) >= -1e-15
    assert float(error[:: 2 ** (12 - m)].abs().max()) < 1e-15
    assert piece_count(square_network(m)) == 2**m


def test_piece_count_merges_neighbours_of_equal_slope():
    network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network[0].bias.copy_(torch.tensor([-0.5, 0.5]))
        network[2].weight.copy_(torch.tensor([[1.0, -1.0]]))  # relu(t) - relu(-t) = t: one piece
    assert piece_count(network) == 1
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([[1.0, 1.0]]))
    assert piece_count(network) == 2


@pytest.mark.parametrize("make", [tent_network, square_network])
def test_depth_zero_is_refused(make):
    with pytest.raises(ValueError, match="at least 1"):
        make(0)


def test_piece_count_refuses_two_outputs():
    with pytest.raises(ValueError, match=r"\(N, 1\) -> \(N, 1\)"):
        piece_count(nn.Sequential(nn.Linear(1, 2)).double())
