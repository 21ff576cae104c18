"""What must hold for every posterior, whatever the numbers: checked on random ones."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.bayes.dropout import MCDropout
from coursekit.bayes.ensemble import Ensemble, ambiguity_decomposition
from coursekit.bayes.evidential import EvidentialCategorical, EvidentialNormal, dirichlet_kl, normal_inverse_gamma_kl
from coursekit.bayes.laplace import fit_laplace
from coursekit.bayes.variational import LinearVariational, VariationalNetwork, kl_normal

D = torch.float64
SETTINGS = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 6)
scales = st.floats(1e-3, 1e3)


def gen(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scaled(model: nn.Module, scale: float, seed: int) -> nn.Module:
    g = gen(seed)
    for p in model.parameters():
        p.data = scale * torch.randn(p.shape, generator=g, dtype=D)
    return model


def laplace(x, classes, scale, seed):
    model = scaled(nn.Linear(x.shape[1], classes, dtype=D), scale, seed)
    labels = torch.randint(0, classes, (len(x),), generator=gen(seed))
    return fit_laplace(model, x, labels).predict(x, link="mc", samples=7, generator=gen(seed))


def variational(x, classes, scale, seed):
    model = scaled(LinearVariational(x.shape[1], classes, dtype=D), min(scale, 10.0), seed)
    return VariationalNetwork(model).predict(x, samples=7, generator=gen(seed))


def dropout(x, classes, scale, seed):
    model = nn.Sequential(nn.Dropout(0.5), scaled(nn.Linear(x.shape[1], classes, dtype=D), scale, seed))
    return MCDropout(model).predict(x, samples=7, generator=gen(seed))


def ensemble(x, classes, scale, seed):
    models = [scaled(nn.Linear(x.shape[1], classes, dtype=D), scale, seed + i) for i in range(4)]
    return Ensemble(models).predict(x)


def evidential(x, classes, scale, seed):
    return EvidentialCategorical(scale * torch.rand(len(x), classes, generator=gen(seed), dtype=D) + 1e-6)


@pytest.mark.parametrize("posterior", [laplace, variational, dropout, ensemble, evidential])
@given(n=sizes, classes=st.integers(2, 6), scale=scales, seed=seeds)
@SETTINGS
def test_uncertainties_are_in_range_and_add_up(posterior, n, classes, scale, seed):
    x = torch.randn(n, 3, generator=gen(seed), dtype=D)
    p = posterior(x, classes, scale, seed)
    tolerance = 1e-12
    torch.testing.assert_close(p.mean.sum(-1), torch.ones(n, dtype=D))
    assert bool((p.mutual_information >= 0).all())
    assert bool((p.expected_entropy >= -tolerance).all())
    assert bool((p.entropy <= torch.tensor(classes, dtype=D).log() + tolerance).all())
    torch.testing.assert_close(p.entropy, p.expected_entropy + p.mutual_information, rtol=0, atol=1e-9)
    assert bool((p.confidence >= 1 / classes - tolerance).all() and (p.confidence <= 1 + tolerance).all())


@given(n=sizes, seed=seeds, scale=scales, prior=scales)
@SETTINGS
def test_kl_is_zero_at_equality_and_never_negative(n, seed, scale, prior):
    g = gen(seed)
    mean, std = torch.randn(n, generator=g, dtype=D), scale * torch.rand(n, generator=g, dtype=D) + 1e-6
    assert float(kl_normal(mean, std, prior)) >= 0
    assert abs(float(kl_normal(0 * mean, torch.full_like(std, prior), prior))) < 1e-12
    r = torch.rand(2, 4, n, generator=g, dtype=D)
    p, q = (EvidentialNormal(v[0], v[1] + 0.01, 1.01 + scale * v[2], v[3] + 0.01) for v in r)
    assert bool((normal_inverse_gamma_kl(p, q) >= -1e-9).all())
    torch.testing.assert_close(normal_inverse_gamma_kl(p, p), torch.zeros(n, dtype=D), rtol=0, atol=1e-9)
    assert bool((dirichlet_kl(torch.rand(n, 3, generator=g, dtype=D) * scale + 0.01) >= -1e-9).all())
    assert abs(float(dirichlet_kl(torch.ones(1, 5, dtype=D)))) < 1e-12


@given(members=st.integers(1, 8), n=sizes, scale=scales, seed=seeds)
@SETTINGS
def test_ambiguity_is_an_identity_and_ignores_the_order_of_members(members, n, scale, seed):
    g = gen(seed)
    f, y = scale * torch.randn(members, n, generator=g, dtype=D), torch.randn(n, generator=g, dtype=D)
    terms = ambiguity_decomposition(f, y)
    size = float(terms.members) + 1
    assert abs(float(terms.ensemble - (terms.members - terms.spread))) < 1e-12 * size
    assert float(terms.spread) >= 0
    again = ambiguity_decomposition(f[torch.randperm(members, generator=g)], y)
    torch.testing.assert_close(terms, again, rtol=1e-12, atol=1e-12 * size)


@given(n=st.integers(2, 8), seed=seeds, structure=st.sampled_from(["full", "kfac", "diag"]), prior=st.floats(0.01, 100))
@SETTINGS
def test_laplace_ignores_the_order_of_data_and_shrinks_with_more(n, seed, structure, prior):
    g = gen(seed)
    x, y = torch.randn(n, 3, generator=g, dtype=D), torch.randint(0, 3, (n,), generator=g)
    model = scaled(nn.Sequential(nn.Linear(3, 4, dtype=D), nn.Tanh(), nn.Linear(4, 3, dtype=D)), 0.5, seed)
    options = {"weights": "all", "structure": structure, "prior_precision": prior}
    order = torch.randperm(n, generator=g)
    first, second = fit_laplace(model, x, y, **options), fit_laplace(model, x[order], y[order], **options)
    torch.testing.assert_close(first.precision, second.precision, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(first.log_evidence, second.log_evidence, rtol=1e-9, atol=1e-9)
    eigenvalues = torch.linalg.eigvalsh(first.precision)
    assert float(eigenvalues.min()) >= prior * (1 - 1e-6)
    if structure != "kfac":  # sums over the data; a product of two sums need not be monotone
        fewer = fit_laplace(model, x[:1], y[:1], **options)
        assert float(torch.linalg.eigvalsh(first.precision - fewer.precision).min()) > -1e-8


@given(seed=seeds, training=st.booleans(), which=st.sampled_from(["laplace", "variational", "dropout", "ensemble"]))
@SETTINGS
def test_the_callers_model_gradients_and_generator_are_untouched(seed, training, which):
    g = gen(seed)
    first = LinearVariational(3, 4) if which == "variational" else nn.Linear(3, 4)
    model = nn.Sequential(first, nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(4, 2))
    for module in model.modules():
        module.training = bool(torch.randint(0, 2, (1,), generator=g)) and training
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=g)
    parameters = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    x, y = torch.randn(4, 3, generator=g), torch.tensor([0, 1, 0, 1])
    state = torch.get_rng_state()
    if which == "laplace":
        fit_laplace(model, x, y).predict(x, link="mc", samples=2, linearize=False, generator=g)
    elif which == "variational":
        VariationalNetwork(model).predict(x, samples=2, generator=g)
    elif which == "dropout":
        MCDropout(model).predict(x, samples=2, generator=g)
    else:
        Ensemble([model, model]).predict(x)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(parameters[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, model.parameters(), strict=True))
