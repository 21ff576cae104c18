import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from coursekit.predictive import CategoricalPredictive, NormalPredictive, StudentPredictive


def random_probs(samples, inputs, classes, seed, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(scale * torch.randn(samples, inputs, classes, generator=generator, dtype=torch.float64), -1)


def test_categorical_by_hand():
    p = CategoricalPredictive(torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]], dtype=torch.float64))

    def h(q):
        return -q * math.log(q) - (1 - q) * math.log(1 - q)

    torch.testing.assert_close(p.mean, torch.tensor([[0.6, 0.4]], dtype=torch.float64))
    assert p.labels.tolist() == [0]
    assert float(p.confidence) == pytest.approx(0.6)
    assert float(p.entropy) == pytest.approx(h(0.6))
    assert float(p.expected_entropy) == pytest.approx((h(0.8) + h(0.4)) / 2)
    assert float(p.mutual_information) == pytest.approx(h(0.6) - (h(0.8) + h(0.4)) / 2)
    assert float(p.variation_ratio) == 0.5


def test_variation_ratio_of_two_inputs_and_ten_samples():
    """A known slip swaps the axes of samples and inputs; then this gives other numbers of another shape."""
    votes = torch.tensor([[0] * 7 + [1] * 3, [2] * 6 + [0] * 4]).T  # (S=10, N=2)
    p = CategoricalPredictive(torch.nn.functional.one_hot(votes, 3).double())
    torch.testing.assert_close(p.variation_ratio, torch.tensor([0.3, 0.4], dtype=torch.float64))


def test_one_sample_has_no_epistemic_uncertainty():
    p = CategoricalPredictive(random_probs(1, 6, 4, seed=0))
    torch.testing.assert_close(p.entropy, p.expected_entropy, rtol=0, atol=0)
    assert not p.mutual_information.any()
    assert not p.variation_ratio.any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6), st.floats(0.01, 30))
def test_categorical_invariants(samples, inputs, classes, seed, scale):
    probs = random_probs(samples, inputs, classes, seed, scale)
    p = CategoricalPredictive(probs)
    assert bool((p.mutual_information >= 0).all())
    torch.testing.assert_close(p.entropy, p.expected_entropy + p.mutual_information, rtol=0, atol=1e-14)
    assert bool((p.entropy <= math.log(classes) + 1e-12).all())
    assert bool((p.variation_ratio <= 1 - 1 / classes + 1e-12).all())
    kl = torch.where(probs > 0, probs * (probs.log() - p.mean.log()), 0).sum(-1).mean(0)
    torch.testing.assert_close(p.mutual_information, kl, rtol=1e-9, atol=1e-12)
    q = CategoricalPredictive(probs.flip(0).flip(2))  # no order of samples or classes matters
    for name in ("entropy", "mutual_information", "variation_ratio", "confidence"):
        torch.testing.assert_close(getattr(p, name), getattr(q, name), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "probs, error, message",
    [
        (torch.ones(2, 2), ValueError, r"probs\[None\]"),
        (torch.ones(0, 2, 2), ValueError, "S, C >= 1"),
        (torch.full((1, 1, 2), math.nan), ValueError, "NaN"),
        (torch.tensor([[[2.0, -1.0]]]), ValueError, "softmax"),
        (torch.randn(1, 3, 4), ValueError, "softmax"),
        (torch.ones(1, 1, 1, dtype=torch.long), TypeError, "int64"),
        ([[[1.0]]], TypeError, "list"),
    ],
)
def test_categorical_refuses(probs, error, message):
    with pytest.raises(error, match=message):
        CategoricalPredictive(probs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_softmax_of_any_precision_is_accepted(dtype, device):
    CategoricalPredictive(torch.softmax(5 * torch.randn(3, 50, 1000, device=device), -1).to(dtype))


def test_no_inputs_is_fine():
    assert CategoricalPredictive(torch.ones(2, 0, 3)).entropy.shape == (0,)


def test_single_normal_against_scipy():
    p = NormalPredictive(
        torch.tensor([[1.0, -2.0]]).double(),
        torch.tensor([[4.0, 0.25]]).double(),
        mean_variances=torch.ones(1, 2).double(),
    )
    law = stats.norm([1.0, -2.0], [math.sqrt(5), math.sqrt(1.25)])
    t = torch.tensor([0.3, -1.0], dtype=torch.float64)
    assert p.log_prob(t).tolist() == pytest.approx(law.logpdf(t).tolist(), rel=1e-12)
    assert p.cdf(t).tolist() == pytest.approx(law.cdf(t).tolist(), rel=1e-12)
    for level in (0.5, 0.9, 0.99):
        low, high = law.interval(level)
        assert p.interval(level)[0].tolist() == pytest.approx(low.tolist(), rel=1e-9)
        assert p.interval(level)[1].tolist() == pytest.approx(high.tolist(), rel=1e-9)
    assert p.aleatoric.tolist() == [4.0, 0.25]
    assert p.epistemic.tolist() == [1.0, 1.0]


def test_mixture_moments_and_density(generator):
    means = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    variances = 0.1 + torch.rand(5, 3, generator=generator, dtype=torch.float64)
    p = NormalPredictive(means, variances)
    torch.testing.assert_close(p.variance, (variances + means**2).mean(0) - means.mean(0) ** 2, rtol=1e-12, atol=0)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    for n in range(3):
        one = NormalPredictive(means[:, n : n + 1].expand(5, len(grid)), variances[:, n : n + 1].expand(5, len(grid)))
        density = one.log_prob(grid).exp()
        assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-9)
        assert float(torch.trapezoid(density * grid, grid)) == pytest.approx(float(p.mean[n]), abs=1e-9)
    low, high = p.interval(0.9)
    torch.testing.assert_close(p.cdf(high) - p.cdf(low), torch.full((3,), 0.9, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: NormalPredictive(torch.zeros(3), torch.ones(3)), r"means\[None\]"),
        (lambda: NormalPredictive(torch.zeros(1, 3), torch.zeros(1, 3)), "> 0"),
        (lambda: NormalPredictive(torch.zeros(1, 3), torch.ones(1, 2)), "does not fit"),
        (lambda: NormalPredictive(torch.full((1, 1), math.inf), torch.ones(1, 1)), "infinity"),
        (lambda: NormalPredictive(torch.zeros(1, 3), torch.ones(1, 3)).interval(95), "between 0 and 1"),
        (lambda: NormalPredictive(torch.zeros(1, 3), torch.ones(1, 3)).log_prob(torch.zeros(2)), r"\(3,\)"),
    ],
)
def test_normal_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


FREEDOM = torch.tensor([2.01, 2.5, 3.0, 4.7, 12.0, 250.0, 1e6], dtype=torch.float64)


def student(freedom=FREEDOM):
    location = torch.linspace(-2, 2, len(freedom), dtype=torch.float64)
    return StudentPredictive(freedom, location, torch.linspace(0.3, 2, len(freedom), dtype=torch.float64))


@pytest.mark.parametrize("h", [0.0, 1e-8, 0.3, 1.0, 3.0, 12.0])
def test_the_distribution_function_is_the_integral_of_the_density(h):
    p = student()
    nodes, weights = (torch.as_tensor(v) for v in np.polynomial.legendre.leggauss(400))
    width = torch.minimum(torch.full_like(p.scale, h), 40 * torch.ones_like(p.scale)) * p.scale
    area = sum(
        w / 2 * width * p.log_prob(p.location + width * (1 + u) / 2).exp() for u, w in zip(nodes, weights, strict=True)
    )
    for sign in (1, -1):
        torch.testing.assert_close(p.cdf(p.location + sign * h * p.scale), 0.5 + sign * area, rtol=0, atol=1e-11)


def test_three_and_four_degrees_of_freedom_in_closed_form():
    z = torch.tensor([-30.0, -2.0, 0.1, 1.0, 5.0], dtype=torch.float64)
    three = StudentPredictive(torch.full_like(z, 3), 0 * z, torch.ones_like(z))
    u = z / 3**0.5
    torch.testing.assert_close(three.cdf(z), 0.5 + (u / (1 + u**2) + u.atan()) / math.pi, rtol=1e-10, atol=0)
    four = StudentPredictive(torch.full_like(z, 4), 0 * z, torch.ones_like(z))
    w = z / (4 + z**2).sqrt()
    torch.testing.assert_close(four.cdf(z), 0.5 + 0.75 * (w - w**3 / 3), rtol=1e-9, atol=0)


@pytest.mark.parametrize("level", [1e-12, 0.01, 0.3, 0.5, 0.975, 1 - 1e-9])
def test_quantiles_of_students_law_invert_its_distribution_function(level):
    p = student()
    torch.testing.assert_close(p.cdf(p.quantile(level)), torch.full_like(FREEDOM, level), rtol=1e-9, atol=1e-15)
    low, high = p.interval(0.6)
    torch.testing.assert_close(p.cdf(high) - p.cdf(low), torch.full_like(FREEDOM, 0.6), rtol=1e-12, atol=0)


def test_students_law_becomes_the_normal_one():
    one, t = torch.ones(1, dtype=torch.float64), torch.tensor([1.3], dtype=torch.float64)
    far, normal = StudentPredictive(1e10 * one, 0 * one, one), NormalPredictive(0 * one[None], one[None])
    for quantity in ("log_prob", "cdf"):
        torch.testing.assert_close(getattr(far, quantity)(t), getattr(normal, quantity)(t), rtol=0, atol=1e-8)
    torch.testing.assert_close(far.quantile(0.999), normal.quantile(0.999), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (([3.0], [0.0], [0.0]), "scale must be > 0"),
        (([2.0], [0.0], [1.0]), "freedom must be > 2"),
        (([3.0], [0.0, 1.0], [1.0]), "shape"),
        (([3.0], [math.nan], [1.0]), "finite"),
        (([3.0], [0.0], [1.0], [3.5]), "aleatoric"),
    ],
)
def test_what_is_no_students_law_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        StudentPredictive(*(torch.tensor(a, dtype=torch.float64) for a in arguments))
    with pytest.raises(TypeError, match="floating-point tensor"):
        StudentPredictive(3.0, torch.zeros(1), torch.ones(1))


def test_log_probability_of_labels():
    p = CategoricalPredictive(torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]], dtype=torch.float64))
    assert p.log_prob(torch.tensor([1])).item() == pytest.approx(math.log(0.625), abs=1e-15)
    for y, error in (
        (torch.tensor([2]), ValueError),
        (torch.tensor([1.0]), TypeError),
        (torch.tensor([0, 1]), ValueError),
    ):
        with pytest.raises(error, match="y "):
            p.log_prob(y)
