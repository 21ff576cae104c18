import math

import pytest
import torch
from torch import nn

from coursekit import data
from coursekit.nets import MLP, LeNet
from coursekit.predictive import CategoricalPredictive
from coursekit.uncertainty.ood import energy, fit_mahalanobis, max_softmax, negative_mutual_information, odin


def network(device="cpu", dtype=torch.float64, **options) -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MLP(3, 4, width=16, **options)
    return net.to(device=device, dtype=dtype)


def inputs(generator, n=40, device="cpu") -> torch.Tensor:
    return torch.randn(n, 3, generator=generator, dtype=torch.float64).to(device)


def scores(model, x, y):
    """Every score of the module, for what they have in common."""
    return {
        "max_softmax": lambda **o: max_softmax(model, x, **o),
        "energy": lambda **o: energy(model, x, **o),
        "odin": lambda **o: odin(model, x, **o),
        "mahalanobis": lambda **o: fit_mahalanobis(model, x, y, **o)(x),
    }


@pytest.mark.parametrize("name", ["max_softmax", "energy", "odin", "mahalanobis"])
def test_the_model_is_left_as_it_was_and_dropout_is_off(name, generator, device):
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
    model = model.to(device=device, dtype=torch.float64).train()
    model[1].eval()  # a frozen normalisation stays frozen
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    x, y = inputs(generator, device=device), torch.arange(40, device=device) % 4
    first, second = (scores(model, x, y)[name]() for _ in range(2))
    assert torch.equal(first, second)  # no dropout, no statistics
    assert first.shape == (40,) and first.device == x.device and first.dtype == torch.float64
    assert not first.requires_grad
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[0].weight.grad is None and model[0].bias.grad is None
    assert not model[0].weight.requires_grad and model[0].bias.requires_grad
    assert torch.equal(model[4].weight.grad, torch.ones_like(model[4].weight))


@pytest.mark.parametrize("name", ["max_softmax", "energy", "odin", "mahalanobis"])
def test_the_mode_is_put_back_after_an_error(name, generator):
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 4).double()

        def forward(self, x):
            self.inner(x)
            raise RuntimeError("broken")

    model = Breaks().train()
    with pytest.raises(RuntimeError, match="broken"):
        scores(model, inputs(generator), torch.zeros(40, dtype=torch.int64))[name]()
    assert model.training and model.inner.training and model.inner.weight.requires_grad
    assert not model.inner._forward_pre_hooks


@pytest.mark.parametrize("name", ["max_softmax", "energy", "odin", "mahalanobis"])
def test_batches_do_not_change_scores(name, generator):
    x, y = inputs(generator), torch.arange(40) % 4
    call = scores(network(), x, y)[name]
    torch.testing.assert_close(call(batch_size=7), call(batch_size=100), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_scores_within_no_grad(context, generator):
    model, x, y = network(), inputs(generator), torch.arange(40) % 4
    for call in scores(model, x, y).values():
        expected = call()
        with context():
            torch.testing.assert_close(call(), expected, rtol=0, atol=0)


class Views(nn.Module):
    """Images through a convolution, flattened by ``view``, which takes one memory layout only."""

    def __init__(self):
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(1, 2, 3), nn.Linear(2 * 9, 3)

    def forward(self, x):
        return self.linear(self.convolution(x).view(len(x), -1))


def test_images_in_any_layout_through_any_model(generator, device):
    views = Views().to(device=device, dtype=torch.float64)
    reshapes = nn.Sequential(views.convolution, nn.Flatten(), views.linear)
    x = torch.rand(9, 1, 5, 5, generator=generator, dtype=torch.float64).to(device)
    y = torch.arange(9, device=device) % 3
    for layout in (torch.contiguous_format, torch.channels_last):
        for name, call in scores(reshapes, x.clone(memory_format=layout), y).items():
            torch.testing.assert_close(call(), scores(views, x, y)[name](), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(max_softmax(reshapes, x), reshapes(x).softmax(1).amax(1).detach())


def test_max_softmax_and_energy_by_definition(generator, device):
    model, x = network(device), inputs(generator, device=device)
    z = model(x).detach()
    torch.testing.assert_close(max_softmax(model, x), z.softmax(1).max(1).values)
    for temperature in (0.5, 1.0, 3.0):
        expected = temperature * (z / temperature).exp().sum(1).log()
        torch.testing.assert_close(energy(model, x, temperature=temperature), expected)
    torch.testing.assert_close(energy(model, x, temperature=1e-4), z.amax(1), rtol=0, atol=1e-3)


def odin_slowly(model, x, temperature, epsilon):
    """One input at a time, the definition of the paper."""
    values = []
    for one in x:
        one = one[None].clone().requires_grad_()
        p = (model(one) / temperature).softmax(1).max()
        (-p.log()).backward()
        moved = one.detach() - epsilon * (one.grad.sign())
        values.append((model(moved) / temperature).softmax(1).max().detach())
    model.zero_grad()
    return torch.stack(values)


@pytest.mark.parametrize("temperature", [1.0, 5.0, 1000.0])
def test_odin_by_definition(temperature, generator, device):
    model, x = network(device), inputs(generator, device=device)
    expected = odin_slowly(model, x, temperature, 0.1)
    torch.testing.assert_close(odin(model, x, temperature=temperature, epsilon=0.1), expected, rtol=0, atol=1e-14)


def test_odin_without_step_and_temperature_is_max_softmax(generator):
    model, x = network(), inputs(generator)
    torch.testing.assert_close(odin(model, x, temperature=1.0, epsilon=0.0), max_softmax(model, x))


def test_the_temperature_changes_the_score_and_the_step(generator):
    # pytorch-ood 0.2.0 took the loss of untempered logits and an untempered softmax: T changed nothing
    model, x = network(), inputs(generator)
    assert not torch.allclose(odin(model, x, temperature=1.0), odin(model, x, temperature=10.0))
    # an input whose gradient changes sign with T: the step must follow the tempered one
    z = nn.Linear(1, 3, bias=True, dtype=torch.float64)
    with torch.no_grad():
        z.weight.copy_(torch.tensor([[1.0], [1.5], [-3.0]]))
        z.bias.copy_(torch.tensor([4.0, 3.0, 0.0]))
    at = torch.zeros(1, 1, dtype=torch.float64)
    slopes = {}
    for temperature in (1.0, 1000.0):
        moved = at.clone().requires_grad_()
        (z(moved) / temperature).log_softmax(1).amax().backward()
        slopes[temperature] = float(moved.grad)
        expected = (z(at + 0.01 * moved.grad.sign()) / temperature).softmax(1).amax()
        torch.testing.assert_close(odin(z, at, temperature=temperature, epsilon=0.01)[0], expected.detach())
    assert slopes[1.0] < 0 < slopes[1000.0]


def test_odin_at_large_temperature_is_the_gap_of_the_largest_logit(generator):  # claim B7.6
    model, x = network(), inputs(generator)
    z = model(x).detach()
    gap = z.amax(1) - z.mean(1)
    errors = []
    for temperature in (1e2, 1e3, 1e4, 1e5):
        score = odin(model, x, temperature=temperature, epsilon=0.0)
        errors.append(float((4 * temperature * (score - 0.25) - gap).abs().max()))
    for coarse, fine in zip(errors[:-1], errors[1:], strict=True):
        assert fine == pytest.approx(coarse / 10, rel=0.1)  # O(1/T)


def test_odin_gains_epsilon_times_the_l1_norm_of_the_gradient(generator):  # claim B7.6
    model = network(activation="tanh")
    x = inputs(generator).requires_grad_()
    log_score = (model(x) / 2.0).log_softmax(1).amax(1)
    (gradient,) = torch.autograd.grad(log_score.sum(), x)
    x = x.detach()
    errors = []
    for epsilon in (1e-3, 1e-4):
        gain = odin(model, x, temperature=2.0, epsilon=epsilon).log() - log_score.detach()
        errors.append(float((gain / epsilon - gradient.abs().sum(1)).abs().max()))
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.1)  # the rest is of second order


def test_odin_stays_within_the_input_range(generator, device):
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(x.detach().clone())
            return torch.stack([x.sum(1), -x.sum(1)], 1)

    x = torch.tensor([[0.0, 0.999, 0.5], [1.0, 0.001, 0.2]], device=device)
    odin(Watch(), x, epsilon=0.01, input_range=(0.0, 1.0))
    first, moved = seen
    assert torch.equal(first, x)
    torch.testing.assert_close(moved, torch.tensor([[0.01, 1.0, 0.51], [1.0, 0.011, 0.21]], device=device))
    with pytest.raises(ValueError, match="NORMALIZED_RANGE"):
        odin(Watch(), x * 2, input_range=(0.0, 1.0))
    odin(Watch(), data.normalize(x), input_range=data.NORMALIZED_RANGE)  # rounding does not refuse black and white


def test_odin_takes_grey_images_and_a_step_for_each_channel(generator, device):
    # OpenOOD divides channels 0, 1 and 2: an IndexError on MNIST
    x = torch.rand(4, 1, 28, 28, generator=generator).to(device)
    assert odin(LeNet().to(device), x).shape == (4,)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4, 2)).to(device)
    x = torch.rand(5, 3, 2, 2, generator=generator).to(device)
    step = torch.tensor([0.1, 0.2, 0.3], device=device).view(3, 1, 1)
    (gradient,) = torch.autograd.grad((model(x.requires_grad_()) / 1000).log_softmax(1).amax(1).sum() * 1000, x)
    expected = (model(x + step * gradient.sign()) / 1000).softmax(1).amax(1).detach()
    torch.testing.assert_close(odin(model, x.detach(), epsilon=step), expected)


def test_mahalanobis_is_the_largest_log_density_of_tied_gaussians(generator, device):
    x, y = inputs(generator, n=200, device=device), torch.arange(200, device=device) % 4
    x = x + y[:, None]
    model = network(device, depth=0)  # features are the inputs
    score = fit_mahalanobis(model, x, y, ridge=0.0)
    means = torch.stack([x[y == c].mean(0) for c in range(4)])
    centred = x - means[y]
    covariance = centred.T @ centred / 200
    torch.testing.assert_close(score.means, means)
    torch.testing.assert_close(score.covariance, covariance)
    new = 3 * inputs(generator, device=device)
    laws = torch.distributions.MultivariateNormal(means, covariance)
    log_density = laws.log_prob(new[:, None]).amax(1)
    constant = -0.5 * (3 * math.log(2 * math.pi) + torch.logdet(covariance))
    torch.testing.assert_close(score(new), 2 * (log_density - constant), rtol=1e-9, atol=1e-9)
    assert float(score(means).abs().max()) < 1e-20


def test_mahalanobis_needs_every_class_and_features_that_vary(generator):
    model, x = network(depth=0), inputs(generator)
    with pytest.raises(ValueError, match="class 3 has no example"):
        fit_mahalanobis(model, x, torch.arange(40) % 3)
    x[:, 1] = 0.5
    with pytest.raises(ValueError, match="ridge"):
        fit_mahalanobis(model, x, torch.arange(40) % 4, ridge=0.0)
    score = fit_mahalanobis(model, x, torch.arange(40) % 4)
    strange = x.clone()
    strange[:, 1] = 1.0  # where training never varied
    assert float(score(strange).amax()) < float(score(x).amin())


def test_negative_mutual_information():
    agree = torch.tensor([[[0.9, 0.1]], [[0.9, 0.1]]], dtype=torch.float64)
    differ = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]], dtype=torch.float64)
    assert float(negative_mutual_information(CategoricalPredictive(agree))) == 0
    expected = 0.9 * math.log(0.9) + 0.1 * math.log(0.1) + math.log(2)
    assert float(negative_mutual_information(CategoricalPredictive(differ))) == pytest.approx(-expected)


def test_in_distribution_scores_above_a_foreign_cluster(generator):
    """Larger is more in-distribution, for all of them, on a network that knows what it was trained on."""
    centres = torch.tensor([[4.0, 0.0], [-4.0, 4.0], [-4.0, -4.0]], dtype=torch.float64)
    y = torch.arange(600) % 3
    x = centres[y] + 0.5 * torch.randn(600, 2, generator=generator, dtype=torch.float64)
    model = nn.Linear(2, 3, dtype=torch.float64)  # the linear discriminant of the three clusters
    with torch.no_grad():
        model.weight.copy_(centres)
        model.bias.copy_(-0.5 * centres.square().sum(1))
    foreign = torch.tensor([[0.0, 3.3], [0.0, -3.3], [-4.0, 0.0]], dtype=torch.float64)  # on the borders
    for call in (max_softmax, odin, fit_mahalanobis(model, x, y)):
        inside, outside = (call(v) if call not in (max_softmax, odin) else call(model, v) for v in (x, foreign))
        assert float(inside.quantile(0.05)) > float(outside.max())


def test_bad_input_is_named(generator):
    model, x = network(), inputs(generator)
    for call in (max_softmax, energy, odin):
        with pytest.raises(ValueError, match="at least one input"):
            call(model, x[:0])
        with pytest.raises(ValueError, match="NaN"):
            call(model, x * math.nan)
        with pytest.raises(TypeError, match="floating"):
            call(model, x.long())
        with pytest.raises(ValueError, match="meta"):
            call(model, x.to("meta"))
        with pytest.raises(ValueError, match="batch_size"):
            call(model, x, batch_size=0)
        with pytest.raises(ValueError, match=r"\(N, C\)"):
            call(nn.Flatten(0), x)
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            odin(model, x, temperature=temperature)
        with pytest.raises(ValueError, match="temperature"):
            energy(model, x, temperature=temperature)
    with pytest.raises(ValueError, match="epsilon"):
        odin(model, x, epsilon=-0.1)
    with pytest.raises(ValueError, match="epsilon is on meta"):
        odin(model, x, epsilon=torch.tensor([0.1], device="meta"))
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        fit_mahalanobis(nn.Softmax(1), x, torch.zeros(40, dtype=torch.int64))
