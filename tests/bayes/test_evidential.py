"""Evidential models: StudentT and Dirichlet of torch, Monte Carlo, closed forms by hand, then behaviour."""

import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Dirichlet, Gamma, Normal, StudentT, kl_divergence

from coursekit.bayes.evidential import (
    DirichletHead,
    EvidentialCategorical,
    EvidentialNormal,
    NormalInverseGammaHead,
    dirichlet_kl,
    evidential_classification_loss,
    evidential_regression_loss,
    normal_inverse_gamma_kl,
)

D = torch.float64


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)  # the parameters of torch's own layers


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nig(*values: float) -> EvidentialNormal:
    return EvidentialNormal(*(torch.tensor([v], dtype=D) for v in values))


def random_nig(n: int, seed: int = 0) -> EvidentialNormal:
    r = torch.rand(4, n, generator=gen(seed), dtype=D)
    return EvidentialNormal(4 * r[0] - 2, 0.2 + 3 * r[1], 1.5 + 4 * r[2], 0.3 + 2 * r[3])


# --- regression -------------------------------------------------------------------------------------------------


def test_density_is_student_t():
    p, y = random_nig(50), torch.linspace(-5, 5, 50, dtype=D)
    scale = (p.beta * (1 + p.nu) / (p.nu * p.alpha)).sqrt()
    torch.testing.assert_close(p.log_prob(y), StudentT(2 * p.alpha, p.gamma, scale).log_prob(y), rtol=1e-14, atol=0)
    reference = stats.t.logpdf(y.numpy(), 2 * p.alpha.numpy(), p.gamma.numpy(), scale.numpy())
    torch.testing.assert_close(p.log_prob(y), torch.from_numpy(reference), rtol=1e-11, atol=0)


def test_density_is_the_integral_over_the_inner_normals():
    """By quadrature over the precision: log p(y) = log E[N(y; gamma, s^2 (1 + 1/nu))]."""
    p, y = nig(0.5, 1.3, 2.4, 0.9), torch.tensor([2.0], dtype=D)
    precision = torch.linspace(1e-6, 30, 200_001, dtype=D)
    inner = Normal(p.gamma, ((1 + 1 / p.nu) / precision).sqrt()).log_prob(y) + Gamma(p.alpha, p.beta).log_prob(
        precision
    )
    exact = torch.trapezoid(inner.exp(), precision).log()
    torch.testing.assert_close(p.log_prob(y)[0], exact, rtol=0, atol=1e-7)


def test_moments_by_monte_carlo():
    p, n = nig(0.5, 2.0, 6.0, 3.0), 200_000
    draws = p.sample(n, generator=gen(1))
    assert float(draws.aleatoric) == pytest.approx(float(p.aleatoric), rel=0.01)
    assert float(draws.epistemic) == pytest.approx(float(p.epistemic), rel=0.02)
    assert float(draws.mean) == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(p.variance, p.aleatoric + p.epistemic)
    student = StudentT(2 * p.alpha, p.gamma, p.scale)
    torch.testing.assert_close(p.variance, student.variance, rtol=1e-12, atol=0)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_interval_is_the_student_t_quantile(level):
    p = random_nig(40)
    low, high = p.interval(level)
    reference = stats.t.interval(level, 2 * p.alpha.numpy(), p.gamma.numpy(), p.scale.numpy())
    torch.testing.assert_close(low, torch.from_numpy(reference[0]), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(high, torch.from_numpy(reference[1]), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("freedom", [2.0001, 2.5, 1e3, 1e6])
def test_interval_from_heavy_to_normal_tails(freedom):
    p = nig(0.0, 1.0, freedom / 2, 1.0)
    expected = stats.t.ppf(0.975, freedom) * float(p.scale)
    assert float(p.interval(0.95)[1]) == pytest.approx(expected, rel=1e-7)


def test_regression_loss_by_hand():
    p, y = random_nig(9), torch.linspace(-1, 1, 9, dtype=D)
    nll = -StudentT(2 * p.alpha, p.gamma, p.scale).log_prob(y)
    penalty = (y - p.gamma).abs() * (2 * p.nu + p.alpha)
    torch.testing.assert_close(evidential_regression_loss(p, y, regularizer=0.3), (nll + 0.3 * penalty).mean())
    torch.testing.assert_close(evidential_regression_loss(p, y, regularizer=0.0), nll.mean())


def test_kl_between_normal_inverse_gammas_by_monte_carlo():
    """A published code has (alpha - 1)/beta for E[1/s^2] = alpha/beta: this would be far outside the error."""
    p, q, n = nig(0.5, 1.3, 2.4, 0.9), nig(-0.2, 0.6, 1.7, 1.4), 400_000
    precision = torch._standard_gamma(p.alpha.expand(n), generator=gen(1)) / p.beta
    mu = p.gamma + torch.randn(n, generator=gen(2), dtype=D) / (p.nu * precision).sqrt()

    def log_density(d):
        return Normal(d.gamma, 1 / (d.nu * precision).sqrt()).log_prob(mu) + Gamma(d.alpha, d.beta).log_prob(precision)

    ratio = log_density(p) - log_density(q)
    error = float(ratio.std()) / math.sqrt(n)
    exact = float(normal_inverse_gamma_kl(p, q))
    assert abs(float(ratio.mean()) - exact) < 4 * error
    wrong = exact + float(q.nu / 2 * (p.gamma - q.gamma) ** 2 * ((p.alpha - 1) - p.alpha) / p.beta)
    assert abs(float(ratio.mean()) - wrong) > 20 * error


def test_kl_is_zero_only_at_equality():
    p, q = random_nig(30), random_nig(30, seed=1)
    torch.testing.assert_close(normal_inverse_gamma_kl(p, p), torch.zeros(30, dtype=D), rtol=0, atol=1e-12)
    assert float(normal_inverse_gamma_kl(p, q).min()) > 0


def test_equal_means_leave_the_kl_of_the_gammas():
    p, q = nig(1.0, 2.0, 2.5, 0.7), nig(1.0, 2.0, 3.5, 1.7)
    expected = kl_divergence(Gamma(p.alpha, p.beta), Gamma(q.alpha, q.beta))
    torch.testing.assert_close(normal_inverse_gamma_kl(p, q), expected, rtol=1e-12, atol=0)


def test_likelihood_leaves_the_split_undetermined():
    """The documented flaw: other nu and beta, same likelihood, another epistemic part."""
    y = torch.tensor([0.7], dtype=D)
    first = nig(0.0, 1.0, 3.0, 2.0)
    nu = 0.1
    second = nig(0.0, nu, 3.0, 2.0 * 2 / ((1 + nu) / nu))
    torch.testing.assert_close(first.log_prob(y), second.log_prob(y), rtol=1e-12, atol=0)
    assert float(second.epistemic / first.epistemic) > 1.5


# --- classification ---------------------------------------------------------------------------------------------


def concentrations(n: int = 20, c: int = 4, seed: int = 0) -> torch.Tensor:
    return 0.3 + 5 * torch.rand(n, c, generator=gen(seed), dtype=D)


def test_expected_squared_error_by_monte_carlo():
    """B7.7: the closed form of the loss against draws, within 4 standard errors."""
    a, y, n = concentrations(6), torch.arange(6) % 4, 40_000
    p = EvidentialCategorical(a).sample(n, generator=gen(1)).probs
    draws = (torch.nn.functional.one_hot(y, 4) - p).square().sum(-1).mean(1)
    exact = evidential_classification_loss(EvidentialCategorical(a), y, regularizer=0.0)
    assert abs(float(draws.mean() - exact)) < 4 * float(draws.std()) / math.sqrt(n)


def test_entropies_against_monte_carlo():
    """B7.7: H = MI + E H in closed form, and each against the same quantities of draws."""
    p = EvidentialCategorical(concentrations())
    torch.testing.assert_close(p.entropy, p.mutual_information + p.expected_entropy, rtol=0, atol=1e-14)
    draws = p.sample(40_000, generator=gen(1))
    for name in ("entropy", "expected_entropy", "mutual_information"):
        torch.testing.assert_close(getattr(p, name), getattr(draws, name), rtol=0, atol=5e-3)
    torch.testing.assert_close(p.mean, draws.mean, rtol=0, atol=5e-3)


def test_dirichlet_kl_is_that_of_torch():
    a = concentrations()
    expected = kl_divergence(Dirichlet(a), Dirichlet(torch.ones_like(a)))
    torch.testing.assert_close(dirichlet_kl(a), expected, rtol=1e-11, atol=1e-12)


def test_regulariser_sees_only_the_evidence_for_wrong_classes():
    a, y = concentrations(8), torch.arange(8) % 4
    plain, penalised = (evidential_classification_loss(EvidentialCategorical(a), y, regularizer=r) for r in (0.0, 1.0))
    tilde = a.clone()
    tilde[range(8), y] = 1
    torch.testing.assert_close(penalised - plain, dirichlet_kl(tilde).mean(), rtol=1e-12, atol=1e-13)


# --- models -----------------------------------------------------------------------------------------------------


def test_regression_head_learns_mean_and_noise():
    x = torch.linspace(-1, 1, 400)[:, None]
    y = x[:, 0] + 0.3 * torch.randn(400, generator=gen(1))
    torch.manual_seed(0)
    model = NormalInverseGammaHead(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        evidential_regression_loss(model(x), y).backward()
        optimizer.step()
    p = model(x)
    assert float((p.mean - x[:, 0]).abs().max().detach()) < 0.1
    low, high = p.interval(0.9)
    assert float(((low < y) & (y < high)).float().mean()) == pytest.approx(0.9, abs=0.05)


def test_classification_head_learns():
    x = torch.cat([torch.randn(50, 2, generator=gen(1)) - 2, torch.randn(50, 2, generator=gen(2)) + 2])
    y = torch.arange(100) // 50
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), DirichletHead(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(300):
        optimizer.zero_grad()
        evidential_classification_loss(model(x), y, regularizer=min(0.1, step / 1000)).backward()
        optimizer.step()
    p = model(x)
    assert float((p.labels == y).float().mean()) > 0.95
    assert float(p.confidence.mean().detach()) > 0.8


def test_heads_stay_in_range_for_extreme_inputs():
    head = NormalInverseGammaHead(1)
    nn.init.constant_(head.linear.weight, 1.0)
    nn.init.zeros_(head.linear.bias)
    for value in (-1e4, 1e4):
        p = head(torch.full((1, 1), value))
        assert bool(torch.isfinite(p.variance).all())
    head = DirichletHead(1, 3)
    assert bool(torch.isfinite(head(torch.full((1, 1), -1e4)).expected_entropy).all())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nig(0.0, 0.0, 2.0, 1.0), ValueError, "nu"),
        (lambda: nig(0.0, 1.0, 1.0, 1.0), ValueError, "alpha"),
        (lambda: nig(math.nan, 1.0, 2.0, 1.0), ValueError, "gamma"),
        (lambda: EvidentialNormal(*(torch.ones(n) + 1 for n in (2, 2, 3, 2))), ValueError, r"alpha.*\(2,\)"),
        (lambda: EvidentialCategorical(torch.zeros(2, 3)), ValueError, "> 0"),
        (lambda: EvidentialCategorical(torch.ones(3)), ValueError, r"\(N, C\)"),
        (lambda: nig(0.0, 1.0, 2.0, 1.0).interval(1.0), ValueError, "level"),
        (lambda: evidential_regression_loss(nig(0.0, 1.0, 2.0, 1.0), torch.ones(2, dtype=D)), ValueError, "N = 1"),
        (lambda: evidential_regression_loss(nig(0.0, 1.0, 2.0, 1.0), torch.ones(1)), TypeError, "float64"),
        (
            lambda: evidential_classification_loss(EvidentialCategorical(torch.ones(1, 3)), torch.tensor([3])),
            ValueError,
            r"0\.\.2",
        ),
        (
            lambda: evidential_classification_loss(
                EvidentialCategorical(torch.ones(1, 3)), torch.tensor([0]), regularizer=-1.0
            ),
            ValueError,
            "regularizer",
        ),
    ],
)
def test_bad_input_is_told(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_every_device(device):
    p = NormalInverseGammaHead(2).to(device)(torch.ones(3, 2, device=device))
    evidential_regression_loss(p, torch.ones(3, device=device)).backward()
    assert p.interval(0.9)[0].device.type == torch.device(device).type
    here = random_nig(9)
    there = EvidentialNormal(*(getattr(here, k).to(device) for k in ("gamma", "nu", "alpha", "beta")))
    torch.testing.assert_close(there.interval(0.9)[1].cpu(), here.interval(0.9)[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(there.log_prob(there.gamma).cpu(), here.log_prob(here.gamma), rtol=1e-9, atol=0)
    assert p.sample(4).means.shape == (4, 3)
    q = DirichletHead(2, 3).to(device)(torch.ones(3, 2, device=device))
    evidential_classification_loss(q, torch.zeros(3, dtype=torch.long, device=device)).backward()
    assert q.sample(4).probs.device.type == torch.device(device).type
