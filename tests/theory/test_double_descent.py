"""Risk formulas against each other, against quadrature of the Marchenko-Pastur law, and against draws."""

import math

import pytest
import torch

from coursekit.theory.double_descent import isotropic_ridge_risk, isotropic_risk, sample_risk, subset_risk


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("p", [10, 20, 30, 50, 80, 100])
def test_subset_risk_is_the_mean_over_training_sets(p):
    theta = torch.ones(100, dtype=torch.float64) / 10
    risks = sample_risk(40, p, theta, noise=0.25, samples=2000, generator=generator(p))
    exact = subset_risk(40, p, used=p / 100, unused=1 - p / 100, noise=0.25)
    assert abs(float(risks.mean()) - exact) < 4 * float(risks.std()) / math.sqrt(2000)


@pytest.mark.parametrize("gamma", [0.3, 0.7, 1.5, 4.0])
def test_subset_risk_tends_to_the_isotropic_limit(gamma):
    n = 10**7
    limit = isotropic_risk(torch.tensor(gamma, dtype=torch.float64), signal=2.0, noise=0.5)
    assert subset_risk(n, round(gamma * n), used=2.0, noise=0.5) - 0.5 == pytest.approx(float(limit), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.2, 0.9, 1.0, 1.3, 6.0])
@pytest.mark.parametrize("penalty", [0.05, 1.0])
def test_ridge_risk_agrees_with_an_integral_over_the_marchenko_pastur_law(gamma, penalty):
    low, high = (1 - math.sqrt(gamma)) ** 2, (1 + math.sqrt(gamma)) ** 2
    t = (torch.arange(400_000, dtype=torch.float64) + 0.5) * math.pi / 400_000
    x = (high + low) / 2 - (high - low) / 2 * t.cos()
    density = ((high - x) * (x - low)).sqrt() / (2 * math.pi * gamma * x) * (high - low) / 2 * t.sin()
    atom = max(0.0, 1 - 1 / gamma)

    def mean(f):
        return float((f(x) * density).mean()) * math.pi + atom * float(f(torch.zeros(1, dtype=torch.float64)))

    assert mean(torch.ones_like) == pytest.approx(1, rel=1e-4)
    signal, noise = 1.7, 0.6
    expected = signal * penalty**2 * mean(lambda s: (s + penalty) ** -2) + noise * gamma * mean(
        lambda s: s * (s + penalty) ** -2
    )
    risk = isotropic_ridge_risk(torch.tensor(gamma, dtype=torch.float64), penalty, signal=signal, noise=noise)
    assert float(risk) == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_ridge_without_penalty_is_least_squares(gamma):
    g = torch.tensor(gamma, dtype=torch.float64)
    ridge = isotropic_ridge_risk(g, 1e-10, signal=3.0, noise=0.5)
    assert float(ridge) == pytest.approx(float(isotropic_risk(g, signal=3.0, noise=0.5)), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 3.0])
def test_best_penalty_is_noise_gamma_over_signal(gamma):
    g, signal, noise = torch.tensor(gamma, dtype=torch.float64), 2.0, 0.7
    penalty = torch.tensor(noise * gamma / signal, dtype=torch.float64, requires_grad=True)
    isotropic_ridge_risk(g, penalty, signal=signal, noise=noise).backward()
    assert abs(float(penalty.grad)) < 1e-10


def test_ridge_risk_agrees_with_draws():
    theta = torch.ones(300, dtype=torch.float64) / math.sqrt(300)
    risks = sample_risk(200, 300, theta, noise=0.5, penalty=0.4, samples=20, generator=generator())
    limit = isotropic_ridge_risk(torch.tensor(1.5, dtype=torch.float64), 0.4, signal=1.0, noise=0.5)
    assert float(risks.mean()) - 0.5 == pytest.approx(float(limit), rel=0.05)


def test_sample_risk_is_the_minimum_norm_fit():
    theta = torch.ones(12, dtype=torch.float64)
    for p in (3, 9):
        g = generator(p)
        x = torch.randn(1, 5, p, generator=g, dtype=torch.float64)
        y = x @ theta[:p] + (12 - p + 0.1) ** 0.5 * torch.randn(1, 5, generator=g, dtype=torch.float64)
        w = torch.linalg.pinv(x[0]) @ y[0]
        expected = (w - 1).square().sum() + 12 - p + 0.1
        risk = sample_risk(5, p, theta, noise=0.1, samples=1, generator=generator(p))
        assert torch.allclose(risk, expected, rtol=1e-9)


def test_infinite_at_interpolation():
    assert [subset_risk(8, p, used=1.0) for p in (7, 8, 9)] == [math.inf] * 3
    assert isotropic_risk(torch.tensor([1.0]), signal=1.0, noise=1.0).isinf().all()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="negative"):
        subset_risk(5, 3, used=-1.0)
    with pytest.raises(ValueError, match="gamma > 0"):
        isotropic_risk(torch.tensor([0.0]), signal=1.0, noise=1.0)
    with pytest.raises(ValueError, match="positive"):
        isotropic_ridge_risk(torch.tensor([0.5]), 0.0, signal=1.0, noise=1.0)
    with pytest.raises(ValueError, match="1 <= p <= 2"):
        sample_risk(5, 3, torch.ones(2), noise=0.0, samples=1, generator=generator())
