"""Laplace against closed forms (Bayesian linear regression, logistic regression), then against autograd."""

import math

import pytest
import torch
from laplace_models import D, convnet, dense_ggn, gen, jacobian, mlp, named, randn, softmax_curvature
from torch import nn
from torch.func import functional_call, hessian
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from coursekit.bayes.laplace import fit_laplace
from coursekit.bayes.linear import maximize_evidence


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)  # the parameters of torch's own layers


# --- closed forms -----------------------------------------------------------------------------------------------


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
