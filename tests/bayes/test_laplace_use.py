"""Laplace in use: sampling, the prior, the caller's model, errors, memory and devices."""

import math
import subprocess
import sys

import pytest
import torch
from laplace_models import D, convnet, gen, jacobian, mlp, named, randn
from torch import nn
from torch.func import functional_call

from coursekit.bayes.laplace import fit_laplace


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)  # the parameters of torch's own layers


# --- sampling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["full", "kfac", "diag"])
def test_samples_have_the_posterior_mean_and_covariance(structure):
    """Matrix parameters too (a peer crashes on them)."""
    model, x, y = mlp(2, 3, 2), randn(12, 2, seed=3), torch.arange(12) % 2
    posterior = fit_laplace(model, x, y, weights="all", structure=structure, prior_precision=2.0)
    n = 40_000
    draws = posterior.sample(n, generator=gen(7))
    cov = posterior.covariance
    assert draws.shape == (n, 17)
    z = (draws.mean(0) - posterior.mean) / (cov.diag() / n).sqrt()
    assert float(z.abs().max()) < 4.5
    spread = ((cov.diag()[:, None] * cov.diag() + cov.square()) / n).sqrt()
    assert float(((draws.T.cov() - cov) / spread).abs().max()) < 5


@pytest.mark.parametrize("structure", ["full", "kfac", "diag"])
@pytest.mark.parametrize("weights", ["last_layer", "all"])
def test_mc_draws_are_the_linearised_network(structure, weights):
    model, x, y = mlp(3, 4, 3), randn(8, 3, seed=3), torch.arange(8) % 3
    posterior = fit_laplace(model, x, y, weights=weights, structure=structure)
    probs = posterior.predict(x, link="mc", samples=5, generator=gen(3)).probs
    steps = posterior.sample(5, generator=gen(3)) - posterior.mean
    j = jacobian(model, x)[..., -steps.shape[1] :]
    expected = (model(x).detach() + torch.einsum("ncp,sp->snc", j, steps)).softmax(-1)
    torch.testing.assert_close(probs, expected, rtol=1e-8, atol=1e-10)


def test_mc_through_the_network_uses_the_samples():
    model, x, y = mlp(3, 4, 3), randn(8, 3, seed=3), torch.arange(8) % 3
    posterior = fit_laplace(model, x, y, weights="all", structure="kfac")
    probs = posterior.predict(x, link="mc", samples=4, linearize=False, generator=gen(3)).probs
    draws = posterior.sample(4, generator=gen(3))
    for s in range(4):
        expected = functional_call(model, named(model, draws[s]), (x,)).softmax(-1)
        torch.testing.assert_close(probs[s], expected.detach(), rtol=1e-10, atol=1e-12)


def test_mc_regression_agrees_with_the_closed_form(regression):
    model, x, t, _ = regression
    posterior = fit_laplace(model, x, t, likelihood="regression", noise_std=0.3)
    closed, mc = posterior.predict(x), posterior.predict(x, link="mc", samples=20_000, generator=gen(1))
    torch.testing.assert_close(mc.epistemic, closed.epistemic, rtol=0.06, atol=0)
    torch.testing.assert_close(mc.aleatoric, closed.aleatoric)


# --- the prior --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["full", "kfac", "diag"])
def test_with_prior_is_a_new_fit(structure):
    model, x, y = mlp(3, 5, 4), randn(20, 3, seed=3), torch.arange(20) % 4
    first = fit_laplace(model, x, y, weights="all", structure=structure)
    first.predict(x)  # whatever is cached must not leak into the next prior
    moved, fresh = (
        first.with_prior(7.0),
        fit_laplace(model, x, y, weights="all", structure=structure, prior_precision=7.0),
    )
    torch.testing.assert_close(moved.predict(x).mean, fresh.predict(x).mean)
    torch.testing.assert_close(moved.log_evidence, fresh.log_evidence)
    torch.testing.assert_close(moved.covariance, fresh.covariance)
    assert first.prior_precision == 1.0


@pytest.mark.parametrize("structure", ["full", "kfac", "diag"])
def test_tuned_prior_is_the_maximum_of_the_evidence(structure):
    model, x, y = mlp(3, 5, 4), randn(50, 3, seed=3), torch.arange(50) % 4
    best = fit_laplace(model, x, y, weights="all", structure=structure).tune_prior()
    top = float(best.log_evidence)
    for factor in (0.3, 0.99, 1.01, 3.0):
        assert float(best.with_prior(best.prior_precision * factor).log_evidence) < top
    gamma = (best.curvature.eigenvalues / (best.curvature.eigenvalues + best.prior_precision)).sum()
    assert float(gamma) == pytest.approx(best.prior_precision * float(best.mean.square().sum()), rel=1e-9)


# --- the caller's model -----------------------------------------------------------------------------------------


def test_the_callers_model_and_generators_stay_as_they_are():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(4, 3))
    model.train()
    model[2].eval()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    x, y = torch.randn(10, 3, generator=gen(1)), torch.arange(10) % 3
    state = torch.get_rng_state()
    posterior = fit_laplace(model, x, y)
    posterior.predict(x)
    posterior.predict(x, link="mc", samples=2, generator=gen(1))
    posterior.predict(x, link="mc", samples=2, linearize=False, generator=gen(1))
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())
    reference = posterior.predict(x).mean
    with torch.no_grad():
        model[0].weight.add_(1)  # training on must not move a posterior that was fitted before
    assert torch.equal(posterior.predict(x).mean, reference)


def test_works_where_gradients_are_off():
    model, x, y = mlp(3, 5, 4), randn(6, 3, seed=3), torch.arange(6) % 4
    with torch.no_grad():
        off = fit_laplace(model, x, y, weights="all", structure="kfac").predict(x).mean
    torch.testing.assert_close(off, fit_laplace(model, x, y, weights="all", structure="kfac").predict(x).mean)


# --- errors -----------------------------------------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.layer(torch.relu(self.layer(x))))


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), "all", r"1 \(BatchNorm1d\)"),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), "all", "LayerNorm"),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)), "all", "ParametrizedLinear"),
        (Twice(), "all", "'layer' runs 2 times"),
        (nn.Sequential(nn.Linear(3, 2), nn.Softmax(-1)), "last_layer", "logits"),
        (nn.ReLU(), "last_layer", "Linear"),
        (nn.ReLU(), "all", "no Linear or Conv2d"),
    ],
)
def test_unsupported_models_are_named(model, weights, message):
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match=message):
        fit_laplace(model, x, torch.tensor([0, 1, 0, 1]), weights=weights)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(0, 3)}, ValueError, "at least one input"),
        ({"x": torch.full((4, 3), math.nan)}, ValueError, "NaN"),
        ({"x": torch.zeros(4, 3, dtype=D)}, TypeError, "float64"),
        ({"x": torch.zeros(4, 3, dtype=torch.long)}, TypeError, "floating-point"),
        ({"x": torch.zeros(4, 3, device="meta")}, ValueError, "x is on meta, the model on cpu"),
        ({"y": torch.tensor([0, 1, 2, 0])}, ValueError, r"labels must lie in 0..1 .* got 0..2"),
        ({"y": torch.tensor([0, -1, 1, 0])}, ValueError, "got -1..1"),
        ({"y": torch.tensor([0.5, 1, 0, 0])}, ValueError, "class numbers"),
        ({"y": torch.tensor([0, 1])}, ValueError, "N = 4"),
        ({"y": torch.zeros(4, dtype=torch.long, device="meta")}, ValueError, "y is on meta"),
        ({"likelihood": "regression", "y": torch.zeros(4)}, ValueError, "one output a row"),
        ({"likelihood": "poisson"}, ValueError, "'poisson'"),
        ({"structure": "lowrank"}, ValueError, "lowrank"),
        ({"prior_precision": 0.0}, ValueError, "prior_precision"),
        ({"noise_std": -1.0}, ValueError, "noise_std"),
    ],
)
def test_bad_input_is_told(change, error, message):
    arguments = {"x": torch.ones(4, 3), "y": torch.tensor([0, 1, 0, 1])} | change
    with pytest.raises(error, match=message):
        fit_laplace(nn.Linear(3, 2), arguments.pop("x"), arguments.pop("y"), **arguments)


def test_a_full_matrix_that_cannot_fit_is_refused_before_it_is_made():
    model = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 10))
    with pytest.raises(ValueError, match="GiB.*kfac"):
        fit_laplace(model, torch.zeros(1, 784), torch.tensor([0]), weights="all")


def test_predict_options_are_checked():
    posterior = fit_laplace(nn.Linear(3, 2), torch.ones(4, 3), torch.tensor([0, 1, 0, 1]))
    for options in ({"link": "bridge"}, {"link": "mc", "samples": 0}, {"linearize": False}):
        with pytest.raises(ValueError, match="bridge|samples|linearised"):
            posterior.predict(torch.ones(1, 3), **options)
    with pytest.raises(ValueError, match="NaN"):
        posterior.predict(torch.full((1, 3), math.nan))


def test_perfect_fit_has_no_noise_to_fit():
    model = nn.Linear(1, 1, bias=False, dtype=D)
    x = torch.ones(3, 1, dtype=D)
    with pytest.raises(ValueError, match="without error"):
        fit_laplace(model, x, model(x).detach(), likelihood="regression", noise_std=None)


# --- memory and devices -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_diagonal_laplace_of_ten_thousand_images_stays_under_one_gigabyte():
    code = """
import resource, sys, torch
from torch import nn
from coursekit.bayes.laplace import fit_laplace
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
x, y = torch.rand(10_000, 784), torch.arange(10_000) % 10
fit_laplace(model, x, y, weights="all", structure="diag").predict(x)
# The peak of this program alone: that of getrusage begins with what the process it came from had in memory.
if sys.platform == "linux":
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)  # macOS counts bytes
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000_000  # kilobytes, the interpreter and torch included


@pytest.mark.parametrize("structure", ["full", "kfac", "diag"])
@pytest.mark.parametrize("weights", ["last_layer", "all"])
def test_every_device_gives_the_result_of_the_cpu(device, structure, weights):
    model, x, y = convnet(), randn(6, 1, 6, 6, seed=3), torch.arange(6) % 3
    expected = fit_laplace(model, x, y, weights=weights, structure=structure)
    there = fit_laplace(model.to(device), x.to(device), y.to(device), weights=weights, structure=structure)
    result = there.predict(x.to(device)).mean
    assert result.device.type == torch.device(device).type
    torch.testing.assert_close(result.cpu(), expected.predict(x).mean, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(there.log_evidence.cpu(), expected.log_evidence, rtol=1e-9, atol=0)


def test_tuning_works_with_the_same_numbers_as_the_evidence(regression):
    """The evidence by Cholesky and the optimum by eigenvalues describe one function, noise included."""
    model, x, t, _ = regression
    best = fit_laplace(model, x, t, likelihood="regression", noise_std=None).tune_prior()
    top = float(best.log_evidence)
    for prior, noise in ((1.05, 1.0), (0.95, 1.0), (1.0, 1.05), (1.0, 0.95)):
        options = {"prior_precision": best.prior_precision * prior, "noise_std": best.noise_std * noise}
        assert float(fit_laplace(model, x, t, likelihood="regression", **options).log_evidence) < top
