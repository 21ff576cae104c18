import pytest
import torch
from torch import nn

from coursekit.uncertainty._first_convolution import FastInputGradient


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"padding": 2},
        {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)},
        {"bias": False},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_the_gradient_is_that_of_autograd(options, channels, generator, device):
    x = torch.randn(2, channels, 9, 8, generator=generator, dtype=torch.float64).to(device)
    model = nn.Sequential(nn.Conv2d(channels, 5, 3, **options), nn.Tanh(), nn.Conv2d(5, 2, 2)).to(x)
    gradients = []
    for fast in (False, True):
        leaf = x.clone().requires_grad_()
        if fast:
            with FastInputGradient(leaf):
                output = model(leaf)
        else:
            output = model(leaf)
        gradients += torch.autograd.grad(output.square().sum(), leaf)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-12, atol=1e-12)


def test_grouped_convolutions_and_other_inputs_go_the_usual_way(generator):
    x = torch.randn(2, 2, 6, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    layer = nn.Conv2d(2, 4, 3, groups=2, dtype=torch.float64)
    with FastInputGradient(x):
        grouped, shifted = layer(x), layer(x + 1)
    assert "Convolution" in type(grouped.grad_fn).__name__
    assert grouped.grad_fn.name() == shifted.grad_fn.name() == "ConvolutionBackward0"
