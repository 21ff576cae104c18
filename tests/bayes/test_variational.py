"""Variational layers: the exact mean-field optimum, torch.distributions, closed-form expectations, then behaviour."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from coursekit.bayes.linear import fit_linear
from coursekit.bayes.variational import (
    Conv2dVariational,
    LinearVariational,
    VariationalNetwork,
    elbo,
    gradient_variance,
    kl_divergence,
    kl_normal,
    negative_elbo,
)
from coursekit.bayes.variational_layers import ESTIMATORS, drawing
from coursekit.train import train

D = torch.float64


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)  # the parameters of torch's own layers


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=D)


def normal(std: float) -> Normal:
    return Normal(torch.zeros((), dtype=D), torch.tensor(std, dtype=D))  # plain floats would make it float32


def filled(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer with random means and standard deviations."""
    for i, p in enumerate(layer.parameters()):
        p.data = 0.5 * randn(*p.shape, seed=seed + i)
    return layer


def network() -> nn.Sequential:
    return nn.Sequential(
        filled(LinearVariational(3, 8, dtype=D)), nn.Tanh(), filled(LinearVariational(8, 3, dtype=D), seed=9)
    )


# --- the KL -----------------------------------------------------------------------------------------------------


def test_kl_is_the_sum_over_weights_of_torch_distributions():
    mean, std = randn(20, 20), randn(20, 20, seed=1).exp()
    expected = torch_kl(Normal(mean, std), normal(0.7)).sum()  # the sum: a mean would be 400 times smaller
    torch.testing.assert_close(kl_normal(mean, std, 0.7), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "layer", [LinearVariational(4, 3, prior_std=0.6, dtype=D), Conv2dVariational(2, 3, (2, 3), prior_std=0.6, dtype=D)]
)
def test_kl_of_a_layer_counts_weights_and_bias(layer):
    filled(layer)
    prior = normal(0.6)  # prior_std is a standard deviation, not a variance
    expected = torch_kl(Normal(layer.weight_mean, layer.weight_std), prior).sum()
    expected = expected + torch_kl(Normal(layer.bias_mean, layer.bias_std), prior).sum()
    torch.testing.assert_close(layer.kl(), expected, rtol=1e-12, atol=0)


def test_kl_of_a_network_is_the_sum_of_its_layers_not_their_mean():
    model = nn.Sequential(*(filled(LinearVariational(3, 3, dtype=D), seed=i) for i in range(3)))
    total = sum(layer.kl() for layer in model)
    torch.testing.assert_close(kl_divergence(model), total, rtol=0, atol=0)
    torch.testing.assert_close(VariationalNetwork(model).kl(), total, rtol=0, atol=0)
    torch.testing.assert_close(elbo(model, randn(2, 3), torch.tensor([0, 1])).kl, total, rtol=0, atol=0)


def test_kl_has_a_gradient_in_every_parameter():
    layer = filled(LinearVariational(3, 2, dtype=D))
    layer.kl().backward()
    torch.testing.assert_close(layer.weight_mean.grad, layer.weight_mean.detach())  # m / s0^2 with s0 = 1
    expected = (layer.weight_std - 1 / layer.weight_std) * torch.sigmoid(layer.weight_rho)
    torch.testing.assert_close(layer.weight_rho.grad, expected.detach())


# --- B6.1: the exact optimum on Bayesian linear regression ------------------------------------------------------


def blr():
    x = randn(30, 3, seed=1) @ (torch.eye(3, dtype=D) + 0.6)  # correlated features: mean field has something to lose
    t = x @ randn(3, seed=2) + 0.4 * randn(30, seed=3)
    return x, t, fit_linear(None, x, t, alpha=1 / 0.25, beta=1 / 0.16)


def exact_elbo(layer: LinearVariational, x: torch.Tensor, t: torch.Tensor, noise_std: float) -> torch.Tensor:
    mean = x @ layer.weight_mean[0]
    variance = x.square() @ layer.weight_std[0].square()
    fit = -0.5 * ((t - mean).square() + variance) / noise_std**2 - math.log(noise_std * math.sqrt(2 * math.pi))
    return fit.sum() - layer.kl()


def test_exact_mean_field_optimum():
    x, t, exact = blr()
    layer = LinearVariational(3, 1, bias=False, prior_std=0.5, dtype=D)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = -exact_elbo(layer, x, t, 0.4)
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(layer.weight_mean[0].detach(), exact.mean, rtol=0, atol=1e-7)
    torch.testing.assert_close(layer.weight_std[0].detach().square(), 1 / exact.precision.diagonal(), rtol=1e-6, atol=0)
    gap = exact.log_evidence - exact_elbo(layer, x, t, 0.4).detach()
    expected = 0.5 * (exact.precision.diagonal().log().sum() - torch.logdet(exact.precision))
    torch.testing.assert_close(gap, expected, rtol=0, atol=1e-8)
    assert bool((layer.weight_std[0].square() < exact.covariance.diagonal()).all())


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimated_elbo_and_gradient_are_unbiased(estimator):
    """B6.5: against the closed form, within 4 standard errors, for a minibatch that stands for more data."""
    x, t, _ = blr()
    x, t = x[:5], t[:5]
    layer = filled(LinearVariational(3, 1, bias=False, prior_std=0.5, dtype=D))
    parameters = list(layer.parameters())
    fit = exact_elbo(layer, x, t, 0.4) + layer.kl()
    exact = 6 * fit - layer.kl()
    exact_gradient = torch.cat([g.flatten() for g in torch.autograd.grad(exact, parameters)])
    values, gradients = [], []
    g = gen(1)
    for _ in range(3000):
        bound = elbo(
            layer, x, t, data_size=30, likelihood="regression", noise_std=0.4, estimator=estimator, generator=g
        )
        values.append(bound.value.detach())
        gradients.append(torch.cat([v.flatten() for v in torch.autograd.grad(bound.value, parameters)]))
    for draws, truth in ((torch.stack(values)[:, None], exact.detach()), (torch.stack(gradients), exact_gradient)):
        z = (draws.mean(0) - truth) / (draws.std(0) / math.sqrt(len(draws)))
        assert float(z.abs().max()) < 4


def test_stochastic_training_reaches_the_mean_field_optimum():
    x, t, exact = blr()
    layer = LinearVariational(3, 1, bias=False, prior_std=0.5, dtype=D)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    g = gen(1)
    for _ in range(1500):
        optimizer.zero_grad()
        bound = elbo(layer, x, t, likelihood="regression", noise_std=0.4, samples=2, generator=g)
        (-bound.value / len(x)).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(layer.weight_mean[0].detach(), exact.mean, rtol=0, atol=0.02)
    ratio = layer.weight_std[0].detach() * exact.precision.diagonal().sqrt()
    torch.testing.assert_close(ratio, torch.ones(3, dtype=D), rtol=0, atol=0.05)


def test_elbo_is_below_the_evidence_of_the_linear_model():
    x, t, exact = blr()
    for seed in range(5):
        layer = filled(LinearVariational(3, 1, bias=False, prior_std=0.5, dtype=D), seed=seed)
        assert float(exact_elbo(layer, x, t, 0.4).detach()) < float(exact.log_evidence)


# --- the estimators ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_law_of_a_linear_output(estimator):
    layer = filled(LinearVariational(4, 3, dtype=D))
    x = randn(1, 4, seed=5)
    n = 20_000
    with torch.no_grad(), drawing(estimator=estimator, generator=gen(2)):
        draws = torch.cat([layer(x) for _ in range(n)])
    mean = x @ layer.weight_mean.T + layer.bias_mean
    variance = (x.square() @ layer.weight_std.square().T + layer.bias_std.square()).detach()
    mean = mean.detach()
    assert float(((draws.mean(0) - mean) / (variance / n).sqrt()).abs().max()) < 4
    assert float(((draws.var(0) / variance - 1) / math.sqrt(2 / n)).abs().max()) < 4
    correlation = draws.T.corrcoef() - torch.eye(3, dtype=D)
    assert float(correlation.abs().max()) < 4.5 / math.sqrt(n)  # rows of W are independent


@pytest.mark.parametrize(("estimator", "correlated"), [("shared", True), ("local", False), ("flipout", False)])
def test_correlation_between_inputs(estimator, correlated):
    layer = filled(LinearVariational(4, 1, dtype=D))
    x = randn(1, 4, seed=5).expand(2, 4)
    with torch.no_grad(), drawing(estimator=estimator, generator=gen(2)):
        draws = torch.stack([layer(x)[:, 0] for _ in range(4000)])
    correlation = float(draws.T.corrcoef()[0, 1])
    assert (correlation > 0.999) if correlated else abs(correlation) < 4 / math.sqrt(4000)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_law_of_a_convolution(estimator):
    layer = filled(Conv2dVariational(2, 3, 3, padding=1, stride=2, dtype=D))
    x = randn(1, 2, 5, 5, seed=5)
    n = 4000
    with torch.no_grad(), drawing(estimator=estimator, generator=gen(2)):
        draws = torch.cat([layer(x) for _ in range(n)]).flatten(1)
    conv = nn.functional.conv2d
    mean = conv(x, layer.weight_mean, layer.bias_mean, 2, 1).flatten(1)
    variance = conv(x.square(), layer.weight_std.square(), layer.bias_std.square(), 2, 1).flatten(1)
    assert float(((draws.mean(0) - mean) / (variance / n).sqrt()).abs().max()) < 4.5
    assert float(((draws.var(0) / variance - 1) / math.sqrt(2 / n)).abs().max()) < 4.5


def test_local_reparameterisation_has_the_least_gradient_variance():
    x, y = randn(64, 3, seed=5), torch.randint(0, 3, (64,), generator=gen(6))
    variance = gradient_variance(network(), x, y, samples=60, generator=gen(7))
    assert variance["local"] < variance["flipout"] < variance["shared"]


def test_zero_input_has_finite_gradients():
    layer = LinearVariational(3, 2, bias=False)
    layer(torch.zeros(4, 3)).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters())


def test_layers_draw_in_evaluation_mode_too():
    layer = LinearVariational(3, 2).eval()
    x = torch.ones(1, 3)
    assert not torch.equal(layer(x), layer(x))


# --- predictions ------------------------------------------------------------------------------------------------


def test_predict_draws_functions():
    """Rows that are equal get equal outputs in each sample, even in different chunks; samples differ."""
    model = VariationalNetwork(network())
    x = randn(1, 3, seed=1).expand(6, 3).contiguous()
    probs = model.predict(x, samples=5, generator=gen(1)).probs
    torch.testing.assert_close(probs, probs[:, :1].expand_as(probs), rtol=1e-12, atol=0)
    assert float(probs[:, 0].std(0).min()) > 0


def test_chunks_change_nothing(monkeypatch):
    model, x = VariationalNetwork(network()), randn(9, 3, seed=1)
    whole = model.predict(x, samples=4, generator=gen(1)).probs
    monkeypatch.setattr("coursekit.bayes._memory.CHUNK_BYTES", {"cpu": 1})
    torch.testing.assert_close(model.predict(x, samples=4, generator=gen(1)).probs, whole, rtol=1e-12, atol=1e-14)


def test_predictive_of_a_linear_layer_is_the_closed_form():
    layer = filled(LinearVariational(3, 1, dtype=D))
    x = randn(4, 3, seed=1)
    result = VariationalNetwork(layer, likelihood="regression", noise_std=0.5).predict(
        x, samples=20_000, generator=gen(1)
    )
    variance = x.square() @ layer.weight_std[0].square() + layer.bias_std.square()
    torch.testing.assert_close(result.epistemic, variance.detach(), rtol=0.05, atol=0)
    torch.testing.assert_close(result.aleatoric, torch.full((4,), 0.25, dtype=D))


def test_heteroscedastic_outputs_are_mean_and_log_variance():
    layer = filled(LinearVariational(3, 2, dtype=D))
    result = VariationalNetwork(layer, likelihood="heteroscedastic").predict(randn(4, 3), samples=3, generator=gen(1))
    with torch.no_grad(), drawing(estimator="shared", generator=gen(1)):
        first = layer(randn(4, 3))
    torch.testing.assert_close(result.means[0], first[:, 0])
    torch.testing.assert_close(result.variances[0], first[:, 1].exp())


def test_predict_leaves_mode_gradients_and_generator_alone():
    inner = nn.Sequential(LinearVariational(3, 4), nn.BatchNorm1d(4), nn.Dropout(), LinearVariational(4, 2))
    model = VariationalNetwork(inner).train()
    inner[2].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    model.predict(torch.randn(5, 3, generator=gen(0)), samples=3, generator=gen(1))
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert [m.estimator for m in inner if isinstance(m, LinearVariational)] == ["local", "local"]


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LinearVariational(0, 2), "in_features=0"),
        (lambda: LinearVariational(3, 2, prior_std=0.0), "prior_std"),
        (lambda: LinearVariational(3, 2, initial_std=-1.0), "initial_std"),
        (lambda: LinearVariational(3, 2, estimator="naive"), "'naive'"),
        (lambda: LinearVariational(3, 2)(torch.ones(4, 2)), r"\(\.\.\., 3\), got \(4, 2\)"),
        (lambda: Conv2dVariational(1, 2, 3)(torch.ones(4, 2, 5, 5)), r"\(N, 1, H, W\)"),
        (lambda: VariationalNetwork(nn.Linear(2, 2)), "no variational layer"),
        (lambda: VariationalNetwork(LinearVariational(2, 2), likelihood="poisson"), "poisson"),
        (lambda: elbo(nn.Linear(2, 2), torch.ones(1, 2), torch.tensor([0])), "no variational layer"),
        (lambda: elbo(LinearVariational(2, 2), torch.ones(4, 2), torch.zeros(4), data_size=3), "data_size=3"),
        (lambda: elbo(LinearVariational(2, 2), torch.ones(4, 2), torch.full((4,), 2)), r"0\.\.1"),
        (lambda: elbo(LinearVariational(2, 2), torch.ones(0, 2), torch.zeros(0)), "at least one"),
        (lambda: elbo(LinearVariational(2, 2), torch.ones(1, 2), torch.zeros(1), samples=0), "samples=0"),
        (lambda: VariationalNetwork(LinearVariational(2, 2)).predict(torch.full((1, 2), math.nan)), "NaN"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_device(device, estimator):
    model = nn.Sequential(
        Conv2dVariational(1, 2, 3, estimator=estimator), nn.Flatten(), LinearVariational(8, 3, estimator=estimator)
    ).double()
    kl = kl_divergence(model)
    model.to(device)
    x, y = torch.ones(4, 1, 4, 4, device=device, dtype=D), torch.arange(4, device=device) % 3
    bound = elbo(model, x, y, generator=torch.Generator(device).manual_seed(0))
    bound.value.backward()
    assert bound.value.device.type == torch.device(device).type
    torch.testing.assert_close(bound.kl.detach().cpu(), kl.detach(), rtol=1e-12, atol=0)
    probs = VariationalNetwork(model).predict(x, samples=3).probs
    assert probs.device.type == torch.device(device).type


def test_the_one_loop_finds_the_mean_field_posterior():
    """A linear model: q has the mean of the posterior and the inverse diagonal of its precision as variances."""
    x = torch.randn(30, 2, generator=gen(0), dtype=torch.float64)
    t = x @ torch.tensor([1.0, -2.0], dtype=torch.float64) + 0.5 * torch.randn(
        30, generator=gen(1), dtype=torch.float64
    )
    exact = fit_linear(None, x, t, alpha=1.0, beta=4.0)
    layer = LinearVariational(2, 1, bias=False, dtype=torch.float64)
    network = VariationalNetwork(layer, likelihood="regression", noise_std=0.5)
    objective = network.negative_elbo(data_size=30, samples=20, generator=gen(2))
    for learning_rate in (0.05, 0.005, 0.0005):
        history = train(network, objective, x, t, epochs=400, learning_rate=learning_rate, progress=False)
    torch.testing.assert_close(layer.weight_mean.detach()[0], exact.mean, rtol=0, atol=5e-3)
    expected = exact.precision.diagonal().rsqrt()
    torch.testing.assert_close(layer.weight_std.detach()[0], expected, rtol=0.03, atol=0)
    assert history.losses[-1] > -float(exact.log_evidence) / 30 - 0.05


def test_minibatches_of_the_objective_add_up_to_the_whole():
    model = LinearVariational(2, 3, dtype=torch.float64)
    x, y = torch.randn(10, 2, generator=gen(0), dtype=torch.float64), torch.arange(10) % 3
    with torch.no_grad():
        model.weight_rho.fill_(-40.0)  # no noise to speak of: the estimate is exact
        model.bias_rho.fill_(-40.0)
        objective = negative_elbo(data_size=10)
        parts = sum(len(a) / 10 * objective(model, a, b) for a, b in zip(x.split(4), y.split(4), strict=True))
        torch.testing.assert_close(parts, objective(model, x, y), rtol=1e-12, atol=0)
        torch.testing.assert_close(parts, -elbo(model, x, y).value / 10, rtol=1e-12, atol=0)
