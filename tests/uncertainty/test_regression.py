import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.predictive import CategoricalPredictive, NormalPredictive, StudentPredictive
from coursekit.uncertainty.regression import (
    calibration_curve,
    coverage,
    crps,
    crps_gaussian,
    pit,
    sharpness,
)


def mixture(generator, samples=3, n=4, device="cpu") -> NormalPredictive:
    draw = {"generator": generator, "dtype": torch.float64}
    return NormalPredictive(
        torch.randn(samples, n, **draw).to(device),
        (0.1 + torch.rand(samples, n, **draw)).to(device),
        mean_variances=torch.rand(samples, n, **draw).to(device),
    )


def test_crps_by_quadrature(generator, device):
    predictive = mixture(generator, device=device)
    t = torch.randn(4, generator=generator, dtype=torch.float64).to(device)
    # the integral of (F - step)^2, by the midpoint rule on either side of the step
    width = 1e-3
    points = (torch.arange(12_000, dtype=torch.float64, device=device) + 0.5) * width
    scale = (predictive.variances + predictive.mean_variances).sqrt()
    expected = torch.zeros_like(t)
    for sign in (-1, 1):
        x = t + sign * points[:, None]
        cdf = torch.special.ndtr((x[:, None] - predictive.means) / scale).mean(1)
        expected += ((cdf - float(sign > 0)) ** 2).sum(0) * width
    torch.testing.assert_close(crps(predictive, t), expected, rtol=0, atol=1e-6)


def test_crps_of_one_component_is_the_gaussian_formula(generator):
    predictive = mixture(generator, samples=1)
    t = torch.randn(4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(crps(predictive, t), crps_gaussian(predictive.mean, predictive.std, t))


def test_crps_of_equal_components_is_that_of_one(generator):
    predictive = mixture(generator, samples=1)
    repeated = NormalPredictive(
        predictive.means.expand(5, 4), predictive.variances.expand(5, 4), mean_variances=predictive.mean_variances
    )
    t = torch.randn(4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(crps(repeated, t), crps(predictive, t))


def test_crps_of_a_gaussian_against_monte_carlo(generator):  # claim B7.4
    mean, std, t = (torch.tensor(v, dtype=torch.float64) for v in (0.3, 1.7, 2.4))
    a, b = mean + std * torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    draws = (a - t).abs() - 0.5 * (a - b).abs()
    error = 4 * float(draws.std()) / math.sqrt(len(draws))
    assert float(crps_gaussian(mean, std, t)) == pytest.approx(float(draws.mean()), abs=error)


def test_crps_tends_to_the_absolute_error():
    t = torch.tensor([-2.0, 0.0, 5.0], dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(crps_gaussian(zero, zero + 1e-9, t), t.abs(), rtol=0, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-5, 5))
def test_crps_is_proper_and_not_negative(mean, std, t):
    one = {"dtype": torch.float64}
    value = crps_gaussian(torch.tensor(mean, **one), torch.tensor(std, **one), torch.tensor(t, **one))
    assert float(value) >= 0
    # the expected score of N(mean, std) under N(0, 1) is smallest at N(0, 1)
    nodes = torch.linspace(-8, 8, 4001, **one)
    weights = torch.exp(-0.5 * nodes**2) / math.sqrt(2 * math.pi) * float(nodes[1] - nodes[0])

    def expected(m, s):
        return float(weights @ crps_gaussian(torch.tensor(m, **one), torch.tensor(s, **one), nodes))

    assert expected(mean, std) >= expected(0.0, 1.0) - 1e-9


def test_coverage_is_that_of_the_intervals(generator, device):
    predictive = mixture(generator, n=300, device=device)
    t = (2 * torch.randn(300, generator=generator, dtype=torch.float64)).to(device)
    for level in (0.5, 0.9, 0.95):
        low, high = predictive.interval(level)
        assert coverage(predictive, t, level=level) == float(((t >= low) & (t <= high)).double().mean())
    levels = torch.tensor([0.5, 0.9])
    curve = calibration_curve(predictive, t, levels=levels)
    assert curve.tolist() == [coverage(predictive, t, level=0.5), coverage(predictive, t, level=0.9)]


def test_a_right_model_is_calibrated_and_a_narrow_one_is_not(generator):
    n = 20_000
    noise = torch.randn(n, generator=generator, dtype=torch.float64)
    zeros, ones = torch.zeros(1, n, dtype=torch.float64), torch.ones(1, n, dtype=torch.float64)
    right, narrow = NormalPredictive(zeros, ones), NormalPredictive(zeros, ones / 4)
    assert coverage(right, noise) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / n))
    # half the standard deviation: P(|t| < 1.96 / 2)
    inside = math.erf(1.959964 / 2 / math.sqrt(2))
    assert coverage(narrow, noise) == pytest.approx(inside, abs=4 * math.sqrt(inside * (1 - inside) / n))
    assert (sharpness(right), sharpness(narrow)) == (1.0, 0.5)
    uniform = pit(right, noise).sort().values
    steps = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert float((uniform - steps).abs().max()) < 2 / math.sqrt(n)  # Kolmogorov: beyond it once in 1500


def test_bad_input_is_named():
    predictive = NormalPredictive(torch.zeros(1, 2), torch.ones(1, 2))
    for function in (crps, pit, coverage):
        with pytest.raises(ValueError, match="shape"):
            function(predictive, torch.zeros(3))
        with pytest.raises(ValueError, match="NaN"):
            function(predictive, torch.tensor([0.0, math.nan]))
        with pytest.raises(TypeError, match="floating"):
            function(predictive, torch.tensor([0, 1]))
        with pytest.raises(ValueError, match="meta"):
            function(predictive, torch.zeros(2, device="meta"))
    with pytest.raises(ValueError, match="levels"):
        coverage(predictive, torch.zeros(2), level=1.0)
    with pytest.raises(ValueError, match="std"):
        crps_gaussian(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match="no input"):
        sharpness(NormalPredictive(torch.zeros(1, 0), torch.ones(1, 0)))


@pytest.mark.parametrize("freedom", [2.2, 3.0, 7.5, 400.0])
@pytest.mark.parametrize("t", [-4.0, 0.7, 2.0])
def test_crps_of_students_law_is_the_integral_of_its_squared_error(freedom, t):
    one = torch.ones(1, dtype=torch.float64)
    p = StudentPredictive(freedom * one, 0.7 * one, 1.5 * one)
    # tails by x = t +- sinh, so that both the kink at t and the heavy tails are seen
    nodes, weights = (torch.as_tensor(v) for v in np.polynomial.legendre.leggauss(600))
    u, w = 18 * (nodes + 1) / 2, 18 * weights / 2
    x, step = u.sinh(), u.cosh() * w
    wide = StudentPredictive(freedom * torch.ones_like(x), 0.7 + 0 * x, 1.5 + 0 * x)
    below = (wide.cdf(t - x).square() * step).sum()
    above = (wide.cdf(2 * 0.7 - (t + x)).square() * step).sum()  # 1 - F by symmetry, without cancellation
    assert float(crps(p, t * one)) == pytest.approx(float(below + above), rel=1e-8)


def test_what_is_no_predictive_law_of_numbers_is_refused():
    labels = CategoricalPredictive(torch.tensor([[[0.5, 0.5]]]))
    for call in (lambda p: coverage(p, torch.zeros(1)), lambda p: crps(p, torch.zeros(1)), sharpness):
        with pytest.raises(TypeError, match="must be a NormalPredictive or a Student.*got Categorical"):
            call(labels)
