"""One verb for all posteriors: predict(x, *, samples, generator) -> a predictive that enters every metric of its kind."""

import inspect
import re

import pytest
import torch
from torch import nn

from coursekit import bayes, plots, uncertainty
from coursekit.nets import MLP
from coursekit.predictive import CategoricalUncertainty, NormalPredictive, Posterior, Predictive, StudentLaw

D = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(12, 2, generator=gen(), dtype=D)
LABELS, TARGETS = torch.arange(12) % 3, torch.randn(12, generator=gen(1), dtype=D)
NEW = torch.randn(5, 2, generator=gen(2), dtype=D)
NOISE = {"likelihood": "regression", "noise_std": 0.5}


def net(outputs, **options):
    torch.manual_seed(0)
    return MLP(2, outputs, width=8, depth=1, **options).double()


def variational(outputs):
    torch.manual_seed(0)
    return nn.Sequential(bayes.LinearVariational(2, 8), nn.Tanh(), bayes.LinearVariational(8, outputs)).double()


# name: (posterior, whether it has a closed form, whether it draws)
POSTERIORS = {
    "linear": lambda: bayes.fit_linear(None, X, TARGETS, alpha=1.0, beta=4.0),
    "Laplace of labels": lambda: bayes.fit_laplace(net(3), X, LABELS),
    "Laplace of numbers": lambda: bayes.fit_laplace(net(1), X, TARGETS, **NOISE),
    "variational of labels": lambda: bayes.VariationalNetwork(variational(3)),
    "variational of numbers": lambda: bayes.VariationalNetwork(variational(1), **NOISE),
    "MC dropout of labels": lambda: bayes.MCDropout(net(3, dropout=0.3)),
    "MC dropout of numbers": lambda: bayes.MCDropout(net(1, dropout=0.3), **NOISE),
    "ensemble of labels": lambda: bayes.Ensemble([net(3), net(3)]),
    "ensemble of numbers": lambda: bayes.Ensemble([net(1), net(1)], **NOISE),
    "evidential of labels": lambda: bayes.EvidentialNetwork(nn.Sequential(net(8), bayes.DirichletHead(8, 3)).double()),
    "evidential of numbers": lambda: bayes.EvidentialNetwork(
        nn.Sequential(net(8), bayes.NormalInverseGammaHead(8)).double()
    ),
}
posteriors = pytest.mark.parametrize("name", POSTERIORS)
DRAWS = {"Laplace": {"link": "mc"}, "ensemble": None}  # what draws needs, or None where nothing is drawn


def how_to_draw(name):
    return DRAWS.get(name.split()[0], {})


def enters_every_metric(predictive):
    if isinstance(predictive, CategoricalUncertainty):
        scores = uncertainty.confidence_scores(predictive)
        scores["disagreement"] = uncertainty.negative_mutual_information(predictive)
        for score in scores.values():
            assert score.shape == (5,)
            assert bool(score.isfinite().all())
        y = LABELS[:5]
        uncertainty.reliability(predictive.mean, y)
        uncertainty.brier_score(predictive.mean, y)
        nll = uncertainty.negative_log_likelihood(predictive.mean, y)
        torch.testing.assert_close(-predictive.log_prob(y).mean(), torch.as_tensor(nll, dtype=D), rtol=1e-10, atol=0)
        return
    t = TARGETS[:5]
    assert 0 <= uncertainty.coverage(predictive, t, level=0.5) <= 1
    assert uncertainty.sharpness(predictive) > 0
    low, high = predictive.interval(0.8)
    torch.testing.assert_close(uncertainty.pit(predictive, low), torch.full_like(t, 0.1), rtol=0, atol=1e-12)
    torch.testing.assert_close(predictive.quantile(0.9), high, rtol=1e-12, atol=1e-12)
    for values in (uncertainty.crps(predictive, t), predictive.log_prob(t), predictive.variance):
        assert values.shape == (5,)
        assert bool(values.isfinite().all())
    torch.testing.assert_close(predictive.aleatoric + predictive.epistemic, predictive.variance)
    uncertainty.calibration_curve(predictive, t, levels=torch.tensor([0.5]))
    plots.regression.predictive_band(torch.arange(5.0), predictive)


@posteriors
def test_every_posterior_has_the_one_verb(name):
    posterior = POSTERIORS[name]()
    assert isinstance(posterior, Posterior)
    options = inspect.signature(posterior.predict).parameters
    for option in ("samples", "generator"):
        assert options[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert options[option].default is None
    predictive = posterior.predict(NEW)
    assert isinstance(predictive, Predictive)
    assert predictive.mean.shape[0] == 5
    assert predictive.mean.dtype == D
    assert isinstance(predictive, CategoricalUncertainty) == ("labels" in name)
    assert isinstance(predictive, NormalPredictive | StudentLaw) == ("labels" not in name)
    enters_every_metric(predictive)


@posteriors
def test_draws_are_counted_repeat_and_approach_the_closed_form(name):
    posterior, options = POSTERIORS[name](), how_to_draw(name)
    if options is None:
        assert posterior.predict(NEW, samples=1).probs.shape[0] == 1 if "labels" in name else True
        with pytest.raises(ValueError, match="generator was given, but an ensemble draws nothing"):
            posterior.predict(NEW, generator=gen())
        return
    first, again, other = (posterior.predict(NEW, samples=6, generator=gen(s), **options) for s in (3, 3, 4))
    values = (lambda p: p.probs) if "labels" in name else (lambda p: p.means)
    assert values(first).shape[:2] == (6, 5)
    assert torch.equal(values(first), values(again))
    assert not torch.equal(values(first), values(other))
    enters_every_metric(first)
    with pytest.raises(ValueError, match=re.escape("samples=0: expected an integer >= 1")):
        posterior.predict(NEW, samples=0, **options)


@pytest.mark.parametrize("name", ["linear", "Laplace of numbers", "evidential of numbers", "evidential of labels"])
def test_draws_of_a_closed_form_average_to_it(name):
    posterior = POSTERIORS[name]()
    exact = posterior.predict(NEW)
    drawn = posterior.predict(NEW, samples=40_000, generator=gen(1), **how_to_draw(name))
    spread = (drawn.probs if "labels" in name else drawn.means).std(0)
    assert float(((drawn.mean - exact.mean) / spread).abs().max()) < 5 / 40_000**0.5
    if name in ("linear", "Laplace of numbers"):
        torch.testing.assert_close(drawn.variance, exact.variance, rtol=0.05, atol=0)


@pytest.mark.parametrize("name", ["linear", "Laplace of labels", "evidential of labels", "evidential of numbers"])
def test_an_option_without_effect_is_an_error(name):
    with pytest.raises(ValueError, match="generator was given, but .* leave it out"):
        POSTERIORS[name]().predict(NEW, generator=gen())
    if name == "Laplace of labels":
        with pytest.raises(ValueError, match='samples was given, but link="probit" draws nothing'):
            POSTERIORS[name]().predict(NEW, samples=10)


@pytest.mark.parametrize("concentration", [[1.0, 1.0, 1.0], [0.3, 0.05, 2.0], [40.0, 41.0, 3.0], [2000.0, 2010.0, 1.0]])
def test_votes_of_a_dirichlet(concentration):
    law = bayes.EvidentialCategorical(torch.tensor([concentration], dtype=D))
    n = 200_000
    votes = law.sample(n, generator=gen()).variation_ratio.item()
    assert abs(votes - law.variation_ratio.item()) < 5 * (0.25 / n) ** 0.5
    if len(set(concentration)) == 1:
        assert abs(law.variation_ratio.item() - 2 / 3) < 1e-9


def test_votes_of_two_classes_are_a_beta_tail():
    """P(p_1 > 1/2) for Beta(a, b) with integers is a binomial sum."""
    a, b = 3, 5
    law = bayes.EvidentialCategorical(torch.tensor([[a, b]], dtype=D))
    below = sum(torch.exp(torch.lgamma(torch.tensor(8.0, dtype=D)) - torch.lgamma(torch.tensor(k + 1.0, dtype=D))
                - torch.lgamma(torch.tensor(8.0 - k, dtype=D))) for k in range(a, 8)) / 2**7  # fmt: skip
    assert abs(law.variation_ratio.item() - (1 - below.item())) < 1e-9


def test_a_model_without_a_head_is_refused():
    with pytest.raises(TypeError, match="got Tensor: end it with a NormalInverseGammaHead"):
        bayes.EvidentialNetwork(net(3)).predict(NEW)
    with pytest.raises(TypeError, match="must be a torch module, got Linear"):
        bayes.EvidentialNetwork(nn.Linear)
