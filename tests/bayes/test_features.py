import math

import pytest
import torch

from coursekit.bayes import features

X = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)


def test_linear_adds_a_constant():
    torch.testing.assert_close(features.linear()(X), torch.stack([torch.ones(3).double(), X], 1), rtol=0, atol=0)
    plane = torch.stack([X, 2 * X], 1)
    assert features.linear()(plane).shape == (3, 3)


@pytest.mark.parametrize("degree", [1, 2, 9])
def test_polynomial_is_the_vandermonde_matrix(degree):
    expected = torch.linalg.vander(X, N=degree + 1)
    torch.testing.assert_close(features.polynomial(degree)(X), expected, rtol=1e-15, atol=0)


def test_polynomial_of_two_inputs_has_all_monomials():
    x = torch.tensor([[2.0, 5.0]], dtype=torch.float64)
    assert features.polynomial(3)(x).shape[1] == math.comb(2 + 3, 3)
    assert sorted(features.polynomial(3)(x)[0].tolist()) == [1, 2, 4, 5, 8, 10, 20, 25, 50, 125]


def test_gaussian_values_and_far_field():
    centres = torch.tensor([0.0, 1.0], dtype=torch.float64)
    phi = features.gaussian(centres, 0.5)(X)
    expected = [[math.exp(-((x - c) ** 2) / 0.5) for c in (0, 1)] for x in (-1, 0, 2)]
    torch.testing.assert_close(phi, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)
    assert float(features.gaussian(centres, 0.1)(torch.tensor([50.0], dtype=torch.float64)).max()) == 0.0


def test_dtype_and_device_follow_the_input(device):
    x = torch.ones(3, 2, device=device)
    for phi in (features.linear(), features.polynomial(2), features.gaussian(torch.zeros(4, 2).double(), 1.0)):
        assert phi(x).dtype == torch.float32
        assert phi(x).device.type == device.type


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: features.polynomial(-1), "degree=-1"),
        (lambda: features.gaussian(X, 0.0), "width=0.0"),
        (lambda: features.gaussian(X[:0], 1.0), "centres is empty"),
        (lambda: features.gaussian(X, 1.0)(torch.ones(2, 2).double()), "2 coordinates"),
        (lambda: features.linear()(torch.ones(1, 2, 3)), "shape"),
    ],
)
def test_bad_input_says_so(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating-point"):
        features.linear()(torch.arange(3))
