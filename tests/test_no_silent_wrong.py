"""Inputs of strangers that once gave a wrong number without a word: the right value, or an error that says why."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coursekit.bayes import features
from coursekit.bayes.dropout import MCDropout
from coursekit.bayes.ensemble import Ensemble, train_ensemble
from coursekit.bayes.evidential import dirichlet_kl
from coursekit.bayes.laplace import fit_laplace
from coursekit.bayes.linear import fit_linear, maximize_evidence
from coursekit.bayes.variational import LinearVariational, VariationalNetwork, kl_divergence, kl_normal
from coursekit.landscape import CurvatureOperator, pca_directions, plane, random_directions, top_eigenvalues
from coursekit.nets import MLP, features_and_outputs
from coursekit.predictive import CategoricalPredictive, NormalPredictive
from coursekit.train import supervised, train
from coursekit.uncertainty import ood
from coursekit.uncertainty.calibration import fit_temperature, reliability
from coursekit.uncertainty.detection import detection_metrics
from coursekit.uncertainty.failure import fit_trust_score

D = torch.float64
HALF = [torch.float16, torch.bfloat16]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


X = torch.randn(40, 3, generator=gen())
Y = torch.randint(3, (40,), generator=gen())


# --- the evidence, for any scale of the inputs --------------------------------------------------------------------


def evidence(design: torch.Tensor, t: torch.Tensor, alpha: float, beta: float) -> float:
    """log N(t | 0, 1/beta + Phi Phi'/alpha) by the eigenvalues of the Gram matrix's small side: no normal equations."""
    u, s, _ = torch.linalg.svd(design, full_matrices=False)
    z = u.T @ t
    variances = 1 / beta + s.square() / alpha
    rest = len(t) - len(s)
    quadratic = (z.square() / variances).sum() + beta * (t - u @ z).square().sum()
    log_det = variances.log().sum() - rest * math.log(beta)
    return -0.5 * float(quadratic + log_det + len(t) * math.log(2 * math.pi))


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e3, 1e6])
def test_the_evidence_is_largest_for_any_scale_of_the_inputs(scale):
    x = torch.linspace(-1, 1, 30, dtype=D) * scale
    t = 0.5 + 2 * x / scale + 0.3 * torch.randn(30, generator=gen(1), dtype=D)
    best = maximize_evidence(features.linear(), x, t)
    design = features.linear()(x)
    value = evidence(design, t, best.alpha, best.beta)
    assert abs(float(best.log_evidence) - value) < 1e-6
    for a in (0.5, 0.9, 1.1, 2.0, 1e-6, 1e-3, 1e3, 1e6):
        for b in (0.9, 1.0, 1.1):
            assert evidence(design, t, best.alpha * a, best.beta * b) <= value + 1e-9


def test_years_squared():
    x = torch.arange(1950, 2026, dtype=D)
    t = 10 + 0.02 * (x - 1990) ** 2 + torch.randn(76, generator=gen(1), dtype=torch.float32).double()
    best = maximize_evidence(features.polynomial(2), x, t)
    other = fit_linear(features.polynomial(2), x, t, alpha=1e-9, beta=1.3)
    assert best.log_evidence >= other.log_evidence
    assert abs(best.beta**-0.5 - 0.865) < 0.01


def test_the_evidence_where_float64_cannot_hold_the_posterior_is_an_error():
    x = torch.arange(1950, 2026, dtype=D)
    t = ((x - 1990) / 20) ** 6 + torch.randn(76, generator=gen(1), dtype=D)
    with pytest.raises(ValueError, match="standardise the inputs|not positive definite"):
        maximize_evidence(features.polynomial(6), x, t)


def test_small_noise_in_float32():
    x = torch.linspace(-1, 1, 50)
    t = 2 * x + 1 + 1e-4 * torch.randn(50, generator=gen(3))
    found = maximize_evidence(features.linear(), x, t)
    wide = maximize_evidence(features.linear(), x.double(), t.double())
    assert found.mean.dtype == found.precision.dtype == found.log_evidence.dtype == torch.float32
    assert abs(found.beta / wide.beta - 1) < 1e-6
    assert 0.8e-4 < found.beta**-0.5 < 1.2e-4


# --- half precision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_computed_wider_or_refused(dtype):
    model, x = MLP(3, 3).to(dtype), X.to(dtype)
    for structure in ("full", "kfac", "diag"):
        with pytest.raises(TypeError, match=r"convert with .float\(\)"):
            fit_laplace(model, x, Y, structure=structure)
    with pytest.raises(TypeError, match=r"convert with .float\(\)"):
        fit_linear(features.polynomial(2), x[:, 0], x[:, 1], alpha=1.0, beta=1.0)
    with pytest.raises(TypeError, match=r"model.float\(\)"):
        top_eigenvalues(model, F.cross_entropy, x, Y, k=1)
    runs = [MLP(3, 3).to(dtype) for _ in range(4)]
    wide = pca_directions([copy.deepcopy(m).double() for m in runs])
    torch.testing.assert_close(
        pca_directions(runs).explained_variance.double(), wide.explained_variance, rtol=0.05, atol=0
    )
    low, high = NormalPredictive(torch.zeros(1, 3, dtype=dtype), torch.ones(3, dtype=dtype)).interval(0.95)
    torch.testing.assert_close(high.double(), torch.full((3,), 1.959964, dtype=D), rtol=torch.finfo(dtype).eps, atol=0)
    assert torch.equal(low, -high)


@pytest.mark.parametrize("dtype", HALF)
def test_scores_of_half_precision_are_not_tied(dtype):
    model, x = MLP(20, 10), torch.randn(400, 20)
    x[200:] *= 4
    inside = torch.arange(400) < 200
    for score in (ood.odin, ood.max_softmax, ood.energy):
        exact, coarse = (
            score(copy.deepcopy(model).double(), x.double()),
            score(copy.deepcopy(model).to(dtype), x.to(dtype)),
        )
        assert abs(detection_metrics(exact, inside).auroc - detection_metrics(coarse, inside).auroc) < 0.01


def test_training_in_half_precision_names_the_dtype():
    with pytest.raises(FloatingPointError, match="float16.*train in float32"):
        train(MLP(3, 3).half(), supervised(F.cross_entropy), X.half(), Y, epochs=3, progress=False)


# --- shared weights, gates, losses that are no mean ------------------------------------------------------------------


def test_a_tied_last_layer_is_refused():
    a, b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    b.weight = a.weight
    for weights in ("last_layer", "all"):
        with pytest.raises(ValueError, match="shares its weights"):
            fit_laplace(nn.Sequential(a, nn.Tanh(), b), X, Y, weights=weights)


class Gated(nn.Module):
    """The Linear that runs last is a gate; the head is a convolution."""

    def __init__(self, gates: int):
        super().__init__()
        self.body, self.head, self.gate = nn.Linear(3, 8), nn.Conv1d(8, 3, 1), nn.Linear(8, gates)

    def forward(self, x):
        h = self.body(x).relu()
        return self.head(h[..., None])[..., 0] * self.gate(torch.zeros_like(h)).sigmoid()


@pytest.mark.parametrize("gates", [1, 3])
def test_features_of_a_gate_are_refused(gates):
    for use in (features_and_outputs, lambda m, x: ood.fit_mahalanobis(m, x, Y), lambda m, x: fit_trust_score(m, x, Y)):
        with pytest.raises(ValueError, match="does not make its outputs"):
            use(Gated(gates), X)


@pytest.mark.parametrize("last", [nn.Identity(), nn.LogSoftmax(1), nn.Softmax(1)])
def test_what_keeps_the_order_of_the_classes_may_follow_the_head(last):
    net = MLP(3, 3)
    found, _ = features_and_outputs(nn.Sequential(net, last), X)
    assert torch.equal(found, net.features(X))


def test_members_that_are_one_network_are_refused():
    net = MLP(3, 3)
    body = nn.Linear(3, 3)
    for build in (lambda: net, lambda: nn.Sequential(body, nn.Linear(3, 3))):
        with pytest.raises(ValueError, match="build\\(\\) returned networks that share"):
            train_ensemble(build, X, Y, members=3, epochs=1, progress=False)
    with pytest.raises(TypeError, match="list of networks"):
        Ensemble(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    with pytest.raises(ValueError, match="one size, got 3, 4"):
        Ensemble([MLP(3, 3), MLP(3, 4)]).predict(X)


@pytest.mark.parametrize("use", ["plane", "hessian"])
def test_batches_of_a_loss_that_is_no_mean_are_refused(use):
    model, order = MLP(3, 3, width=6).double(), Y.argsort()
    x, y = X.double()[order], Y[order]
    weight = torch.tensor([1.0, 1.0, 20.0], dtype=D)

    def weighted(outputs, targets):
        return F.cross_entropy(outputs, targets, weight=weight)

    def masked(outputs, targets):
        return F.cross_entropy(outputs, targets, ignore_index=2)

    for loss in (weighted, masked):
        with pytest.raises(ValueError, match="averages over the examples"):
            if use == "plane":
                plane(model, loss, x, y, random_directions(model, generator=gen()), steps=3, batch_size=4)
            else:
                CurvatureOperator(model, loss, x, y, batch_size=4)
    surface = plane(model, weighted, x, y, random_directions(model, generator=gen()), steps=3)
    assert abs(float(surface.centre) - weighted(model(x), y).item()) < 1e-12


def test_the_kl_of_tied_layers_counts_once():
    a, b, c = (LinearVariational(3, 3, dtype=D) for _ in range(3))
    for name, p in a.named_parameters():
        setattr(b, name, p)
    c.weight_mean, c.weight_rho = a.weight_mean, a.weight_rho
    assert float(kl_divergence(nn.Sequential(a, b))) == float(a.kl())
    own = kl_normal(c.bias_mean, c.bias_std, 1.0)
    torch.testing.assert_close(kl_divergence(nn.Sequential(a, b, c)), a.kl() + own, rtol=1e-14, atol=0)
    b.prior_std = 2.0
    with pytest.raises(ValueError, match="two priors"):
        kl_divergence(nn.Sequential(a, b))


# --- gradient modes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("structure", ["full", "kfac", "diag"])
def test_laplace_in_every_gradient_mode(mode, structure):
    model = MLP(3, 3, width=4)
    expected = fit_laplace(model, X, Y, weights="all", structure=structure).predict(X).mean
    with mode():
        inside = fit_laplace(model, X + 0, Y, weights="all", structure=structure).predict(X + 0).mean
    assert torch.equal(inside, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
@pytest.mark.parametrize("batch_size", [None, 20])
def test_curvature_in_every_gradient_mode(mode, matrix, batch_size):
    model = MLP(3, 3, width=4)
    expected = CurvatureOperator(model, F.cross_entropy, X, Y, matrix=matrix, batch_size=batch_size).dense()
    with mode():
        inside = CurvatureOperator(model, F.cross_entropy, X + 0, Y + 0, matrix=matrix, batch_size=batch_size).dense()
    assert torch.equal(inside, expected)
    assert not inside.requires_grad


def test_a_compiled_model_has_a_curvature():
    model = MLP(3, 3, width=4)
    compiled = torch.compile(model, backend="eager")
    for fit in (
        lambda m: fit_laplace(m, X, Y, weights="all", structure="kfac").log_evidence,
        lambda m: CurvatureOperator(m, F.cross_entropy, X, Y).dense(),
    ):
        assert torch.equal(fit(compiled), fit(model))


# --- saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [features.linear(), features.polynomial(3), features.gaussian(torch.zeros(2), 1.0)])
def test_a_linear_posterior_can_be_pickled(phi):
    p = fit_linear(phi, X[:, 0], X[:, 1], alpha=1.0, beta=1.0)
    again = pickle.loads(pickle.dumps(p))  # noqa: S301  (written a line before)
    assert torch.equal(again.predict(X[:, 0]).variance, p.predict(X[:, 0]).variance)


def test_every_posterior_of_a_network_can_be_pickled():
    dropout = nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 3))
    for p in (
        fit_laplace(MLP(3, 3), X, Y),
        fit_laplace(MLP(3, 3), X, Y, weights="all", structure="kfac"),
        VariationalNetwork(LinearVariational(3, 3)),
        MCDropout(dropout),
        Ensemble([MLP(3, 3), MLP(3, 3)]),
    ):
        again = pickle.loads(pickle.dumps(p))  # noqa: S301
        one, two = ({"generator": gen(1)} if isinstance(p, (VariationalNetwork, MCDropout)) else {} for _ in range(2))
        assert torch.equal(again.predict(X, **one).mean, p.predict(X, **two).mean)


# --- tails in float32 ---------------------------------------------------------------------------------------------------


def test_an_interval_of_almost_one():
    low, high = NormalPredictive(torch.zeros(1, 1), torch.ones(1)).interval(1 - 1e-8)
    assert abs(float(high) - 5.730729) < 1e-5  # P(|z| > 5.730729) = 1e-8
    assert float(low) == pytest.approx(-float(high), abs=1e-5)
    low, high = NormalPredictive(torch.zeros(3, 1), torch.ones(1)).interval(1 - 1e-8)
    assert abs(float(high) - 5.730729) < 1e-5


def test_training_points_are_trusted_without_bound():
    model, x = MLP(3, 3, width=32).eval(), 3 * torch.randn(600, 3, generator=gen())
    model.head.bias.data -= model(x).mean(0).detach()
    y = model(x).argmax(1)
    assert bool(fit_trust_score(model, x, y)(x).isinf().all())


def test_the_kl_of_a_tiny_standard_deviation():
    assert float(kl_normal(torch.zeros(1), torch.tensor([1e-23]), 1.0)) == pytest.approx(
        23 * math.log(10) - 0.5, rel=1e-6
    )


@pytest.mark.parametrize("a", [1.0, 1e4, 1e6, 1e8])
def test_the_kl_of_a_sure_dirichlet(a):
    """Dir(a, 1, 1): log(a (a + 1) / 2) + (a - 1)(psi(a) - psi(a + 2)), and psi(a + 2) - psi(a) = 1/a + 1/(a + 1)."""
    expected = math.log(a * (a + 1) / 2) - (a - 1) * (1 / a + 1 / (a + 1))
    assert float(dirichlet_kl(torch.tensor([[a, 1.0, 1.0]]))) == pytest.approx(expected, rel=1e-6, abs=1e-6)


# --- messages -----------------------------------------------------------------------------------------------------------


def test_the_advice_for_one_logit_is_right():
    z = torch.randn(4000, generator=gen()) * 2
    y = (torch.rand(4000, generator=gen(1)) < torch.sigmoid(z / 2)).long()  # T = 2
    with pytest.raises(ValueError, match=r"torch.stack\(\[torch.zeros_like\(z\), z\], -1\)"):
        fit_temperature(z[:, None], y)
    assert abs(float(fit_temperature(torch.stack([torch.zeros_like(z), z], -1), y)) - 2) < 0.15


def test_probabilities_are_no_logits():
    with pytest.raises(ValueError, match="these are probabilities"):
        fit_temperature(torch.randn(40, 3, generator=gen()).softmax(1), Y)


def test_a_model_that_squeezes():
    class Squeezes(nn.Linear):
        def forward(self, x):
            return super().forward(x).squeeze()

    for score in (ood.max_softmax, ood.odin):
        assert score(Squeezes(3, 3), torch.randn(200, 3)).shape == (200,)
        with pytest.raises(ValueError, match=r"logits"):
            score(Squeezes(3, 3), torch.randn(201, 3))


def test_a_last_batch_of_one_and_batch_normalisation():
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="batch_size=32 leaves a last batch of one"):
        train(model, supervised(F.cross_entropy), X[:33], Y[:33], epochs=1, batch_size=32, progress=False)


def test_nothing_to_train():
    with pytest.raises(ValueError, match="requires_grad_"):
        train(MLP(3, 3).requires_grad_(False), supervised(F.cross_entropy), X, Y, epochs=1, progress=False)


def test_a_float32_softmax_as_float64():
    p = torch.randn(500, 10, generator=gen()).softmax(1)
    y = torch.randint(10, (500,), generator=gen())
    assert reliability(p.double(), y).ece == pytest.approx(reliability(p, y).ece, abs=1e-6)
    assert CategoricalPredictive(p.double()[None]).mean.shape == (500, 10)


def test_integers_of_numpy_count():
    assert MCDropout(MLP(3, 3, dropout=0.5)).predict(X, samples=np.int64(5)).probs.shape == (5, 40, 3)
    with pytest.raises(ValueError, match="samples=True"):
        MCDropout(MLP(3, 3, dropout=0.5)).predict(X, samples=True)
