import math

import pytest
import torch
from scipy import optimize
from sklearn.linear_model import BayesianRidge

from coursekit.bayes.features import gaussian, linear, polynomial
from coursekit.bayes.linear import fit_linear, maximize_evidence
from coursekit.data import toy

ALPHA, BETA = 2.0, 25.0


def textbook(design, t, alpha, beta):
    """Mean, covariance and log evidence by the formulas as written, with explicit inverses."""
    n, m = design.shape
    eye = torch.eye(m, dtype=design.dtype)
    covariance = torch.linalg.inv(alpha * eye + beta * design.T @ design)
    mean = beta * covariance @ design.T @ t
    marginal = torch.eye(n, dtype=design.dtype) / beta + design @ design.T / alpha
    log_evidence = torch.distributions.MultivariateNormal(torch.zeros(n, dtype=design.dtype), marginal).log_prob(t)
    return mean, covariance, log_evidence


@pytest.mark.parametrize("features", [linear(), polynomial(3), gaussian(torch.linspace(0, 2, 5), 0.6)])
def test_posterior_equals_the_textbook(features, generator):
    x, t = toy.line(25, generator=generator)
    posterior = fit_linear(features, x, t, alpha=ALPHA, beta=BETA)
    mean, covariance, log_evidence = textbook(features(x), t, ALPHA, BETA)
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(posterior.covariance, covariance, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(posterior.log_evidence, log_evidence, rtol=1e-10, atol=1e-10)
    new = torch.linspace(-3, 5, 7, dtype=torch.float64)
    phi = features(new)
    predictive = posterior.predict(new)
    variance = 1 / BETA + (phi @ covariance * phi).sum(1)
    torch.testing.assert_close(predictive.mean, phi @ mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(predictive.variance, variance, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(predictive.aleatoric, torch.full_like(new, 1 / BETA))


def test_without_data_the_posterior_is_the_prior():
    x = torch.empty(0, dtype=torch.float64)
    prior = fit_linear(linear(), x, x, alpha=ALPHA, beta=BETA)
    torch.testing.assert_close(prior.covariance, torch.eye(2).double() / ALPHA)
    assert prior.mean.tolist() == [0, 0]
    assert float(prior.log_evidence) == 0.0


@pytest.mark.parametrize("chunks", [(1,) * 12, (5, 7), (0, 12)])
def test_sequential_update_equals_the_batch(chunks, generator):
    x, t = toy.sinus(12, generator=generator)
    posterior = fit_linear(polynomial(4), x[:0], t[:0], alpha=0.5, beta=BETA)
    for xs, ts in zip(x.split(list(chunks)), t.split(list(chunks)), strict=True):
        posterior = posterior.update(xs, ts)
    batch = fit_linear(polynomial(4), x, t, alpha=0.5, beta=BETA)
    for name in ("mean", "precision", "log_evidence"):
        torch.testing.assert_close(getattr(posterior, name), getattr(batch, name), rtol=1e-10, atol=1e-10)
    assert posterior.count == batch.count == 12


def test_evidence_is_the_product_of_one_step_predictives(generator):
    x, t = toy.line(20, generator=generator)
    posterior = fit_linear(linear(), x[:0], t[:0], alpha=ALPHA, beta=BETA)
    total = 0.0
    for k in range(20):
        total += float(posterior.predict(x[k : k + 1]).log_prob(t[k : k + 1]))
        posterior = posterior.update(x[k : k + 1], t[k : k + 1])
    assert total == pytest.approx(float(posterior.log_evidence), abs=1e-10)


def test_variance_identity_of_a_line(generator):
    x, t = toy.line(25, generator=generator)
    posterior = fit_linear(linear(), x, t, alpha=1e-12, beta=1.0)  # flat prior up to rounding
    new = torch.linspace(-10, 10, 41, dtype=torch.float64)
    expected = 1 + 1 / len(x) + (new - x.mean()) ** 2 / (len(x) * x.var(correction=0))
    torch.testing.assert_close(posterior.predict(new).variance, expected, rtol=1e-10, atol=0)


def test_gaussian_variance_returns_to_the_noise_and_polynomial_variance_explodes(generator):
    x, t = toy.sinus(50, generator=generator)
    far = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    bumps = fit_linear(gaussian(torch.arange(9) / 9, 1 / 9), x, t, alpha=0.05, beta=BETA)
    torch.testing.assert_close(
        bumps.predict(far).variance, torch.full((2,), 1 / BETA, dtype=torch.float64), rtol=0, atol=1e-12
    )
    powers = fit_linear(polynomial(9), x, t, alpha=0.05, beta=BETA)
    assert float(powers.predict(far).variance.min()) > 10


def test_many_targets_and_many_designs_at_once(generator, device):
    designs = torch.randn(3, 10, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(3, 10, generator=generator, dtype=torch.float64)
    batched = fit_linear(None, designs.to(device), targets.to(device), alpha=ALPHA, beta=BETA)
    shared = fit_linear(None, designs[0].to(device), targets.to(device), alpha=ALPHA, beta=BETA)
    query = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    assert batched.sample(5).shape == shared.sample(5).shape == (5, 3, 4)
    for k in range(3):
        one = fit_linear(None, designs[k], targets[k], alpha=ALPHA, beta=BETA)
        torch.testing.assert_close(batched.mean[k].cpu(), one.mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(batched.log_evidence[k].cpu(), one.log_evidence, rtol=1e-10, atol=1e-10)
        variance = batched.predict(query.to(device)).variance[k].cpu()
        torch.testing.assert_close(variance, one.predict(query[k]).variance, rtol=1e-10, atol=1e-12)
        one = fit_linear(None, designs[0], targets[k], alpha=ALPHA, beta=BETA)
        torch.testing.assert_close(shared.mean[k].cpu(), one.mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(shared.log_evidence[k].cpu(), one.log_evidence, rtol=1e-10, atol=1e-10)


def test_samples_have_the_moments_of_the_posterior(generator):
    x, t = toy.line(5, generator=generator)
    posterior = fit_linear(linear(), x, t, alpha=ALPHA, beta=BETA)
    draws = posterior.sample(200_000, generator=generator)
    # Four standard errors of a mean and of a covariance entry.
    std = posterior.covariance.diagonal().sqrt()
    assert bool(((draws.mean(0) - posterior.mean).abs() < 4 * std / math.sqrt(len(draws))).all())
    bound = 4 * (2 * torch.outer(std, std) ** 2 / len(draws)).sqrt()
    assert bool(((draws.T.cov() - posterior.covariance).abs() < bound).all())


def test_coverage_of_the_interval_under_the_prior(generator):
    """B5.2: with beta = 1/sigma^2 the 95 % interval covers 95 %; with 1/(2 sigma^2) it covers far more."""
    draws = 4000
    x = 2 * torch.rand(25, generator=generator, dtype=torch.float64)
    new = torch.linspace(-2, 4, 20, dtype=torch.float64)
    weights = torch.randn(draws, 2, generator=generator, dtype=torch.float64) / math.sqrt(ALPHA)
    noise = torch.randn(draws, 45, generator=generator, dtype=torch.float64) / math.sqrt(BETA)
    values = weights @ linear()(torch.cat([x, new])).T + noise
    coverage = {}
    for beta in (BETA, BETA / 2):
        low, high = fit_linear(linear(), x, values[:, :25], alpha=ALPHA, beta=beta).predict(new).interval(0.95)
        coverage[beta] = float(((low <= values[:, 25:]) & (values[:, 25:] <= high)).double().mean())
    assert abs(coverage[BETA] - 0.95) < 0.01
    assert coverage[BETA / 2] > 0.98


@pytest.mark.parametrize("features", [linear(), polynomial(5), gaussian(torch.linspace(0, 1, 9), 1 / 9)])
def test_evidence_maximum_against_a_numerical_optimiser(features, generator):
    x, t = toy.sinus(40, generator=generator)
    best = maximize_evidence(features, x, t)

    def loss(logs):
        return -float(fit_linear(features, x, t, alpha=math.exp(logs[0]), beta=math.exp(logs[1])).log_evidence)

    start = [math.log(best.alpha) + 1, math.log(best.beta) - 1]
    found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    assert float(best.log_evidence) >= -found.fun - 1e-9
    assert [math.log(best.alpha), math.log(best.beta)] == pytest.approx(found.x.tolist(), abs=1e-4)


def test_evidence_maximum_against_scikit_learn(generator):
    x, t = toy.sinus(40, generator=generator)
    features = polynomial(5)
    flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    peer = BayesianRidge(fit_intercept=False, compute_score=True, tol=1e-12, max_iter=10_000, **flat)
    peer.fit(features(x).numpy(), t.numpy())
    best = maximize_evidence(features, x, t)
    assert best.alpha == pytest.approx(peer.lambda_, rel=1e-5)  # scikit-learn calls the noise precision alpha
    assert best.beta == pytest.approx(peer.alpha_, rel=1e-5)
    assert float(best.log_evidence) >= peer.scores_[-1] - 1e-9


def test_evidence_maximum_with_more_features_than_points(generator):
    x, t = toy.sinus(8, generator=generator)
    bumps = gaussian(torch.linspace(0, 1, 30), 0.2)
    best = maximize_evidence(bumps, x, t)
    for a, b in ((1.05, 1), (0.95, 1), (1, 1.05), (1, 0.95)):
        near = fit_linear(bumps, x, t, alpha=a * best.alpha, beta=b * best.beta)
        assert float(near.log_evidence) < float(best.log_evidence)


def test_evidence_without_maximum_says_so():
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="beta grows without bound"):
        maximize_evidence(linear(), x, 1 + 2 * x)
    even = (x.square() - x.square().mean()) ** 3
    with pytest.raises(ValueError, match="alpha grows without bound"):
        maximize_evidence(linear(), x, even - even.mean())  # orthogonal to a constant and to x
    with pytest.raises(ValueError, match="alpha grows without bound"):
        maximize_evidence(linear(), x, 0 * x)
    with pytest.raises(ValueError, match="needs data"):
        maximize_evidence(linear(), x[:0], x[:0])


BAD = torch.tensor([0.0, math.nan], dtype=torch.float64)
OK = torch.tensor([0.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((OK, OK), {"alpha": 0.0}, ValueError, "alpha=0.0"),
        ((OK, OK), {"beta": -1.0}, ValueError, "beta=-1.0"),
        ((OK, OK), {"beta": math.nan}, ValueError, "beta=nan"),
        ((BAD, OK), {}, ValueError, "x or its features hold NaN"),
        ((OK, BAD), {}, ValueError, "t holds NaN"),
        ((OK, OK[:1]), {}, ValueError, "N = 2 inputs"),
        ((OK, OK.float()), {}, TypeError, "float64"),
        ((torch.arange(2), OK), {}, TypeError, "floating-point"),
        ((torch.ones(2, 2, 2).double(), OK), {}, ValueError, "shape"),
    ],
)
def test_bad_input_says_so(arguments, options, error, message):
    with pytest.raises(error, match=message):
        fit_linear(linear(), *arguments, **{"alpha": 1.0, "beta": 1.0, **options})


def test_a_precision_lost_to_rounding_says_so():
    x = torch.linspace(0, 1000, 50)
    with pytest.raises(ValueError, match="use float64"):
        fit_linear(polynomial(9), x, x, alpha=1e-6, beta=25.0)


def test_new_inputs_of_another_width_say_so(generator):
    posterior = fit_linear(linear(), *toy.line(5, generator=generator), alpha=1.0, beta=1.0)
    with pytest.raises(ValueError, match="3 features, the posterior has 2"):
        posterior.predict(torch.ones(4, 2).double())
