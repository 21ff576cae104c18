"""Laplace: closed forms first (Bayesian linear regression, logistic regression), then autograd, then behaviour."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev, vmap
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from coursekit.bayes.laplace import fit_laplace
from coursekit.bayes.linear import fit_linear, maximize_evidence

D = torch.float64


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)  # the parameters of torch's own layers


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=D)


def mlp(*widths: int, seed: int = 0, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Linear(a, b, bias=bias, dtype=D), nn.Tanh()]
        for p in layers[-2].parameters():
            p.data = 0.5 * randn(*p.shape, seed=seed + i + 1)
    return nn.Sequential(*layers[:-1])


def convnet() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1, dtype=D),
        nn.ReLU(inplace=True),
        nn.Conv2d(2, 3, (2, 3), padding="same", padding_mode="circular", dilation=(1, 2), dtype=D),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(3 * 9, 3, dtype=D),
    )
    for i, p in enumerate(model.parameters()):
        p.data = 0.5 * randn(*p.shape, seed=40 + i)
    return model


def named(model: nn.Module, flat: torch.Tensor) -> dict[str, torch.Tensor]:
    parts = flat.split([p.numel() for p in model.parameters()])
    return {k: v.view(p.shape) for (k, p), v in zip(model.named_parameters(), parts, strict=True)}


def jacobian(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(N, C, P) by brute force, in the order of parameters_to_vector."""

    def f(flat, one):
        return functional_call(model, named(model, flat), (one[None],))[0]

    flat = parameters_to_vector(model.parameters()).detach()
    return vmap(jacrev(f), (None, 0))(flat, x)


def softmax_curvature(logits: torch.Tensor) -> torch.Tensor:
    p = logits.softmax(-1)
    return p.diag_embed() - p[:, :, None] * p[:, None, :]


def dense_ggn(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    j = jacobian(model, x)
    return torch.einsum("ncp,ncd,ndq->pq", j, softmax_curvature(model(x).detach()), j)


# --- closed forms -----------------------------------------------------------------------------------------------


@pytest.fixture
def regression():
    x = randn(30, 4, seed=1)
    t = x @ randn(4, seed=2) + 0.3 * randn(30, seed=3)
    exact = fit_linear(None, x, t, alpha=0.7, beta=1 / 0.09)
    model = nn.Linear(4, 1, bias=False, dtype=D)
    model.weight.data = exact.mean[None].clone()
    return model, x, t, exact


@pytest.mark.parametrize("weights", ["last_layer", "all"])
@pytest.mark.parametrize("structure", ["full", "kfac"])  # one output: the left Kronecker factor is a number
def test_linear_model_is_bayesian_linear_regression(regression, weights, structure):
    model, x, t, exact = regression
    options = {"weights": weights, "structure": structure, "prior_precision": 0.7, "noise_std": 0.3}
    posterior = fit_laplace(model, x, t, likelihood="regression", **options)
    new = randn(7, 4, seed=5)
    ours, theirs = posterior.predict(new), exact.predict(new)
    torch.testing.assert_close(posterior.mean, exact.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(posterior.precision, exact.precision, rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(posterior.covariance, exact.covariance, rtol=0, atol=1e-8)
    torch.testing.assert_close(posterior.log_evidence, exact.log_evidence, rtol=0, atol=1e-8)
    for name in ("mean", "aleatoric", "epistemic", "std"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-8)
    torch.testing.assert_close(ours.log_prob(t[:7]), theirs.log_prob(t[:7]), rtol=0, atol=1e-8)


def test_diagonal_of_a_linear_model(regression):
    model, x, t, exact = regression
    posterior = fit_laplace(model, x, t, likelihood="regression", structure="diag", prior_precision=0.7, noise_std=0.3)
    torch.testing.assert_close(posterior.precision, exact.precision.diag().diag(), rtol=1e-12, atol=0)


def test_evidence_maximum_of_a_linear_model():
    """tune_prior with fitted noise, and the mean refitted, is evidence maximisation."""
    x = randn(40, 3, seed=1)
    t = x @ randn(3, seed=2) + 0.5 * randn(40, seed=3)
    best = maximize_evidence(None, x, t)
    model = nn.Linear(3, 1, bias=False, dtype=D)
    model.weight.data = best.mean[None].clone()
    posterior = fit_laplace(model, x, t, likelihood="regression", noise_std=None).tune_prior()
    assert posterior.prior_precision == pytest.approx(best.alpha, rel=1e-6)
    assert posterior.noise_std**-2 == pytest.approx(best.beta, rel=1e-6)


@pytest.mark.parametrize("outputs", ["flat", "column"])
def test_logistic_regression_hessian_is_the_formula(outputs):
    x, y = randn(20, 3, seed=1), (randn(20, seed=2) > 0).long()
    column = nn.Linear(3, 1, dtype=D)
    model = nn.Sequential(column, nn.Flatten(0)) if outputs == "flat" else column
    posterior = fit_laplace(model, x, y, prior_precision=0.01)
    p = torch.sigmoid(column(x)).detach()
    design = torch.cat([x, torch.ones(20, 1, dtype=D)], 1)
    expected = design.T @ (p * (1 - p) * design) + 0.01 * torch.eye(4, dtype=D)
    torch.testing.assert_close(posterior.precision, expected, rtol=1e-12, atol=1e-12)

    def loss(flat):
        logits = functional_call(column, named(column, flat), (x,))[:, 0]
        return F.binary_cross_entropy_with_logits(logits, y.to(D), reduction="sum") + 0.005 * flat.square().sum()

    autograd = hessian(loss)(parameters_to_vector(column.parameters()).detach())
    torch.testing.assert_close(posterior.precision, autograd, rtol=1e-10, atol=1e-12)


def test_softmax_regression_hessian_by_autograd():
    x, y = randn(20, 3, seed=1), torch.randint(0, 4, (20,), generator=gen(2))
    model = nn.Linear(3, 4, dtype=D)

    def loss(flat):
        return F.cross_entropy(functional_call(model, named(model, flat), (x,)), y, reduction="sum")

    autograd = hessian(loss)(parameters_to_vector(model.parameters()).detach())
    for weights in ("last_layer", "all"):
        posterior = fit_laplace(model, x, y, weights=weights)
        torch.testing.assert_close(posterior.precision, autograd + torch.eye(16, dtype=D), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_kfac_of_one_linear_layer_and_one_input_is_full(bias):
    model, x, y = nn.Linear(4, 3, bias=bias, dtype=D), randn(1, 4, seed=1), torch.tensor([2])
    full = fit_laplace(model, x, y, weights="all")
    kfac = fit_laplace(model, x, y, weights="all", structure="kfac")
    torch.testing.assert_close(kfac.precision, full.precision, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kfac.log_evidence, full.log_evidence, rtol=0, atol=1e-10)


def test_far_field_limit():
    """B6.3: far out the confidence tends to Phi(|w.d| / sqrt(d' S d)) < 1; that of the mode tends to 1."""
    x = torch.cat([randn(10, 2, seed=1) - 1.5, randn(10, 2, seed=2) + 1.5])
    y = torch.arange(20) // 10
    model = nn.Linear(2, 1, bias=False, dtype=D)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(model(x)[:, 0], y.to(D), reduction="sum")
        value = value + 0.5 * 0.01 * model.weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    posterior = fit_laplace(model, x, y, prior_precision=0.01)
    d = torch.tensor([1.0, -0.6], dtype=D)
    w, cov = model.weight[0].detach(), posterior.covariance
    ratio = abs(w @ d) / (d @ cov @ d).sqrt()
    limit = float(torch.special.ndtr(ratio))
    far = 1e5 * d[None]
    samples = 20_000
    mc = float(posterior.predict(far, link="mc", samples=samples, generator=gen(0)).confidence)
    assert abs(mc - limit) < 3 * math.sqrt(limit * (1 - limit) / samples) + 1e-4  # 1e-4: sigmoid is no step yet
    probit = float(posterior.predict(far).confidence)
    assert probit == pytest.approx(float(torch.sigmoid(ratio / math.sqrt(math.pi / 8))), abs=1e-6)
    assert limit < 0.99 < float(torch.sigmoid(model(far).detach().abs()))


def test_probit_is_within_two_hundredths_of_the_integral():
    """B6.2, through the public predict: N(m, s^2) logits by a one-feature model of known posterior."""
    s = torch.logspace(-2, 1, 13, dtype=D)
    z = torch.linspace(-12, 12, 4001, dtype=D)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    worst = 0.0
    for m in torch.linspace(-6, 6, 25, dtype=D):
        model = nn.Linear(1, 1, bias=False, dtype=D)
        model.weight.data = (m / s.max()).reshape(1, 1)
        # With a datum at 0 the curvature vanishes: the posterior of the weight is the prior N(w, 1).
        posterior = fit_laplace(model, torch.zeros(1, 1, dtype=D), torch.zeros(1, dtype=torch.long))
        probit = posterior.predict(s[:, None]).mean[:, 1]
        mean = (m / s.max()) * s
        exact = torch.trapezoid(torch.sigmoid(mean[:, None] + s[:, None] * z) * density, z)
        torch.testing.assert_close(probit, torch.sigmoid(mean / torch.sqrt(1 + math.pi * s**2 / 8)), rtol=0, atol=1e-12)
        worst = max(worst, float((probit - exact).abs().max()))
    assert worst <= 0.02


# --- autograd and brute force -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: mlp(3, 5, 4), convnet], ids=["mlp", "convnet"])
def test_all_weights_against_the_dense_gauss_newton_matrix(make):
    model = make()
    x = randn(6, 1, 6, 6, seed=3) if isinstance(model[0], nn.Conv2d) else randn(6, 3, seed=3)
    y = torch.arange(6) % 3
    ggn = dense_ggn(model, x)
    eye = torch.eye(len(ggn), dtype=D)
    full = fit_laplace(model, x, y, weights="all", prior_precision=0.5)
    diagonal = fit_laplace(model, x, y, weights="all", structure="diag", prior_precision=0.5)
    torch.testing.assert_close(full.precision, ggn + 0.5 * eye, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(diagonal.precision, ggn.diag().diag() + 0.5 * eye, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(full.mean, parameters_to_vector(model.parameters()).detach())
    j = jacobian(model, x)
    logits = model(x).detach()
    for posterior in (full, diagonal, fit_laplace(model, x, y, weights="all", structure="kfac", prior_precision=0.5)):
        variance = torch.einsum("ncp,pq,ncq->nc", j, posterior.covariance, j)
        expected = (logits / torch.sqrt(1 + math.pi / 8 * variance)).softmax(-1)
        torch.testing.assert_close(posterior.predict(x).mean, expected, rtol=1e-8, atol=1e-10)
        logdet = torch.logdet(posterior.precision) - len(ggn) * math.log(0.5)
        fit = -F.cross_entropy(logits, y, reduction="sum") - 0.25 * posterior.mean.square().sum() - 0.5 * logdet
        torch.testing.assert_close(posterior.log_evidence, fit, rtol=1e-9, atol=0)


def test_kfac_factors_of_a_convolution_by_hand():
    model, x, y = convnet(), randn(4, 1, 6, 6, seed=3), torch.arange(4) % 3
    posterior = fit_laplace(model, x, y, weights="all", structure="kfac", prior_precision=1e-6)
    a = F.unfold(F.pad(x, (1, 1, 1, 1)), 3, stride=2)  # (N, 9, T)
    a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
    z = model[0](x).detach().requires_grad_()
    logits = model[1:](z.clone())
    root = torch.linalg.cholesky(softmax_curvature(logits.detach()) + 1e-14 * torch.eye(3, dtype=D))
    g = [torch.autograd.grad(logits, z, root[:, :, j], retain_graph=True)[0].flatten(2) for j in range(3)]
    left = sum(torch.einsum("nct,ndt->cd", v, v) for v in g)
    right = torch.einsum("nct,ndt->cd", a, a) / (4 * a.shape[2])
    order = posterior.network.blocks[0].order()
    expected = torch.kron(left, right)[order][:, order]
    torch.testing.assert_close(
        posterior.precision[:20, :20], expected + 1e-6 * torch.eye(20, dtype=D), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("structure", ["full", "kfac", "diag"])
def test_last_layer_is_the_block_of_its_features(structure):
    model, x, y = mlp(3, 5, 4), randn(9, 3, seed=3), torch.arange(9) % 4
    body, head = model[:-1], model[-1]
    whole = fit_laplace(model, x, y, structure=structure)
    alone = fit_laplace(head, body(x).detach(), y, structure=structure, weights="all")
    torch.testing.assert_close(whole.precision, alone.precision, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(whole.predict(x).mean, alone.predict(body(x).detach()).mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(whole.log_evidence, alone.log_evidence, rtol=1e-10, atol=0)


def test_layers_on_sequences():
    """A Linear layer on (N, T, D): the Jacobian sums over the places."""
    model = nn.Sequential(nn.Linear(2, 3, dtype=D), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2, dtype=D))
    x, y = randn(5, 4, 2, seed=1), torch.arange(5) % 2
    full = fit_laplace(model, x, y, weights="all")
    torch.testing.assert_close(
        full.precision, dense_ggn(model, x) + torch.eye(len(full.mean), dtype=D), rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("weights", ["last_layer", "all"])
@pytest.mark.parametrize("structure", ["full", "kfac", "diag"])
def test_chunks_change_nothing(monkeypatch, weights, structure):
    model, x, y = mlp(3, 5, 4), randn(23, 3, seed=3), torch.arange(23) % 4
    whole = fit_laplace(model, x, y, weights=weights, structure=structure)
    mc = whole.predict(x, link="mc", samples=3, generator=gen(1)).probs
    probit = whole.predict(x).probs
    monkeypatch.setattr("coursekit.bayes._memory.CHUNK_BYTES", {"cpu": 8000})
    assert len(list(whole.network.chunks(x))) > 2
    small = fit_laplace(model, x, y, weights=weights, structure=structure)
    torch.testing.assert_close(small.precision, whole.precision, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(small.log_evidence, whole.log_evidence, rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.predict(x).probs, probit, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        whole.predict(x, link="mc", samples=3, generator=gen(1)).probs, mc, rtol=1e-10, atol=1e-12
    )


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


def test_diagonal_laplace_of_ten_thousand_images_stays_under_one_gigabyte():
    code = """
import resource, torch
from torch import nn
from coursekit.bayes.laplace import fit_laplace
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
x, y = torch.rand(10_000, 784), torch.arange(10_000) % 10
fit_laplace(model, x, y, weights="all", structure="diag").predict(x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
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
