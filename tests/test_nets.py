import pytest
import torch
from torch import nn

from coursekit.nets import ACTIVATIONS, MLP, LeNet, evaluation_mode, features_and_outputs


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_mlp_is_the_formula(activation, depth, generator):
    net = MLP(6, 3, width=5, depth=depth, activation=activation).double()
    x = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    h = x.reshape(4, 6)
    for layer in (m for m in net.body if isinstance(m, nn.Linear)):
        h = ACTIVATIONS[activation]()(h @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net.features(x), h)
    torch.testing.assert_close(net(x), h @ net.head.weight.T + net.head.bias)
    assert sum(isinstance(m, nn.Linear) for m in net.modules()) == depth + 1


def test_mlp_dropout_is_a_module_after_each_hidden_layer_or_none_at_all():
    assert [m.p for m in MLP(2, 1, depth=3, dropout=0.2).modules() if isinstance(m, nn.Dropout)] == [0.2] * 3
    assert not any(isinstance(m, nn.Dropout) for m in MLP(2, 1, depth=3).modules())
    assert all(m.bias is None for m in MLP(2, 1, bias=False).modules() if isinstance(m, nn.Linear))


@pytest.mark.parametrize(
    "options", [{"width": 0}, {"depth": -1}, {"activation": "sigmod"}, {"dropout": 1.0}, {"dropout": -0.1}]
)
def test_mlp_names_what_is_wrong(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MLP(2, 1, **options)


def test_lenet_is_that_of_the_lab():
    net = LeNet()
    kinds = [(type(m).__name__, sum(p.numel() for p in m.parameters())) for m in (*net.body, net.head)]
    assert kinds == [
        ("Conv2d", 16 * 25 + 16),
        ("ReLU", 0),
        ("MaxPool2d", 0),
        ("Conv2d", 32 * 16 * 25 + 32),
        ("ReLU", 0),
        ("MaxPool2d", 0),
        ("Flatten", 0),
        ("Dropout", 0),
        ("Linear", 512 * 100 + 100),
        ("ReLU", 0),
        ("Dropout", 0),
        ("Linear", 100 * 10 + 10),
    ]
    assert [m.p for m in net.body if isinstance(m, nn.Dropout)] == [0.5, 0.25]


def test_features_are_what_goes_into_the_last_linear_layer(generator, device):
    x = torch.randn(5, 1, 28, 28, generator=generator).to(device)
    for net in (LeNet(), MLP(784, 4, width=8)):
        net = net.to(device).eval()
        features, outputs = features_and_outputs(net, x)
        assert torch.equal(features, net.features(x)) and torch.equal(outputs, net(x))
        assert not features.requires_grad and not outputs.requires_grad
    # another order of definition than of use, and a softmax after the last layer
    odd = nn.Module()
    odd.last, odd.first = nn.Linear(8, 3).to(device), nn.Linear(784, 8).to(device)
    odd.forward = lambda x: odd.last(odd.first(x.flatten(1)).relu()).softmax(1)
    features, outputs = features_and_outputs(odd, x)
    torch.testing.assert_close(features, odd.first(x.flatten(1)).relu().detach())
    assert not any(m._forward_pre_hooks for m in odd.modules())


def test_features_need_a_linear_layer():
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        features_and_outputs(nn.Flatten(), torch.zeros(1, 2))


def test_evaluation_mode_puts_every_module_back_also_after_an_error():
    net = LeNet().train()
    net.body[7].eval()
    modes = [m.training for m in net.modules()]
    with pytest.raises(RuntimeError, match="stop"), evaluation_mode(net):
        assert not any(m.training for m in net.modules())
        raise RuntimeError("stop")
    assert [m.training for m in net.modules()] == modes
