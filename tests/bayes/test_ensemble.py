"""Deep ensembles: the ambiguity identity, members against plain training, loop against vectorised, behaviour."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coursekit.bayes.ensemble import Ensemble, ambiguity_decomposition, train_ensemble
from coursekit.nets import MLP

D = torch.float64


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)  # the parameters of torch's own layers


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=D)


def build() -> nn.Module:
    return MLP(3, 4, width=6, depth=1)


def data(n: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    x = randn(n, 3, seed=1)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0)


def train(**options) -> Ensemble:
    x, y = data()
    settings = {
        "members": 3,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.01,
        "progress": False,
        "generator": gen(5),
    }
    return train_ensemble(build, x, y, **settings | options)


# --- closed forms -----------------------------------------------------------------------------------------------


def test_ambiguity_decomposition():
    """B7.3, exactly; and the spread is the epistemic variance of the predictive."""
    x = randn(20, 3, seed=1)
    models = [nn.Linear(3, 1, dtype=D) for _ in range(5)]
    result = Ensemble(models, likelihood="regression").predict(x)
    y = randn(20, seed=2)
    terms = ambiguity_decomposition(result.means, y)
    torch.testing.assert_close(terms.ensemble, terms.members - terms.spread, rtol=0, atol=1e-14)
    torch.testing.assert_close(terms.ensemble, (result.mean - y).square().mean(), rtol=0, atol=1e-14)
    torch.testing.assert_close(terms.spread, result.epistemic.mean(), rtol=0, atol=1e-14)


def test_the_ensemble_has_at_most_the_mean_nll_of_its_members():
    x, y = data()
    probs = Ensemble([build().double() for _ in range(5)]).predict(x)
    ensemble = -probs.mean.log()[range(50), y]
    members = -probs.probs.log()[:, range(50), y].mean(0)
    assert bool((ensemble <= members + 1e-12).all())


def test_predictive_is_the_mixture_of_the_members():
    x, _ = data()
    models = [build().double() for _ in range(3)]
    result = Ensemble(models).predict(x)
    expected = torch.stack([m(x).softmax(-1) for m in models]).detach()
    torch.testing.assert_close(result.probs, expected)
    torch.testing.assert_close(Ensemble(models).predict(x, samples=2).probs, expected[:2])


def test_heteroscedastic_members():
    x = randn(5, 3)
    models = [nn.Linear(3, 2, dtype=D) for _ in range(4)]
    result = Ensemble(models, likelihood="heteroscedastic").predict(x)
    outputs = torch.stack([m(x) for m in models]).detach()
    torch.testing.assert_close(result.mean, outputs[..., 0].mean(0))
    torch.testing.assert_close(result.aleatoric, outputs[..., 1].exp().mean(0))
    torch.testing.assert_close(result.epistemic, outputs[..., 0].var(0, correction=0))


# --- training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["classification", "regression", "heteroscedastic"])
@pytest.mark.parametrize("batch_size", [16, None])
def test_all_at_once_equals_one_by_one(likelihood, batch_size, device):
    x, y = data()
    outputs = {"classification": 4, "regression": 1, "heteroscedastic": 2}[likelihood]
    target = y if likelihood == "classification" else x.sin().sum(1)
    settings = {"members": 3, "epochs": 3, "batch_size": batch_size, "learning_rate": 0.01, "weight_decay": 1e-3}
    settings |= {"likelihood": likelihood, "noise_std": 0.3, "progress": False}
    x, target = x.to(device), target.to(device)
    one, all_ = (
        train_ensemble(lambda: MLP(3, outputs, width=6, depth=1), x, target, vectorize=v, generator=gen(5), **settings)
        for v in (False, True)
    )
    for a, b in zip(one.models, all_.models, strict=True):
        torch.testing.assert_close(
            nn.utils.parameters_to_vector(a.parameters()),
            nn.utils.parameters_to_vector(b.parameters()),
            rtol=1e-6,
            atol=1e-8,
        )


def test_a_member_is_plain_adam_on_the_mean_loss():
    x, y = data()
    ensemble = train(members=1, batch_size=None, epochs=4)
    seed = int(torch.randint(2**31, (1,), generator=gen(5)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    for p, q in zip(model.parameters(), ensemble.models[0].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("vectorize", [False, True])
def test_training_learns(vectorize):
    x, y = data()
    before = -train(epochs=1, learning_rate=1e-9).predict(x).mean.log()[range(50), y].mean()
    after = -train(epochs=200, vectorize=vectorize).predict(x).mean.log()[range(50), y].mean()
    assert float(after) < 0.5 * float(before)


def test_same_generator_same_members_and_members_differ():
    x, _ = data()
    first, second, other = (train(generator=gen(s)).predict(x).probs for s in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first[0], first[1])


def test_members_with_dropout_and_batchnorm_are_trained_one_by_one():
    def noisy():
        return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 4))

    x, y = data()
    first, second = (
        train_ensemble(noisy, x, y, members=2, epochs=2, progress=False, generator=gen(1)).predict(x).probs
        for _ in range(2)
    )
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="BatchNorm1d"):
        train_ensemble(noisy, x, y, vectorize=True)


# --- behaviour --------------------------------------------------------------------------------------------------


def test_global_generator_stays_when_one_is_given():
    state = torch.get_rng_state()
    train()
    train(vectorize=True)
    assert torch.equal(state, torch.get_rng_state())


def test_predict_leaves_the_members_as_they_are():
    models = [
        nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 2)).train() for _ in range(2)
    ]
    models[1][1].eval()
    states = [{k: v.clone() for k, v in m.state_dict().items()} for m in models]
    modes = [[m.training for m in model.modules()] for model in models]
    x = torch.randn(7, 3, generator=gen())
    first, second = (Ensemble(models).predict(x).probs for _ in range(2))
    assert torch.equal(first, second)  # evaluation mode: no dropout
    assert modes == [[m.training for m in model.modules()] for model in models]
    for model, state in zip(models, states, strict=True):
        assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Ensemble([]), ValueError, "at least one model"),
        (lambda: Ensemble([len]), TypeError, "builtin_function"),
        (lambda: Ensemble([nn.Linear(1, 1)], likelihood="x"), ValueError, "'x'"),
        (lambda: Ensemble([nn.Linear(1, 2)]).predict(torch.ones(1, 1), samples=2), ValueError, "1 members"),
        (lambda: Ensemble([nn.Linear(1, 2)]).predict(torch.full((1, 1), math.nan)), ValueError, "NaN"),
        (lambda: Ensemble([nn.Linear(1, 2)]).predict(torch.ones(0, 1)), ValueError, "at least one input"),
        (lambda: train(members=0), ValueError, "members=0"),
        (lambda: train_ensemble(build, torch.ones(2, 3), torch.tensor([0, 4])), ValueError, r"0\.\.3"),
        (lambda: train_ensemble(lambda: 3, torch.ones(2, 3), torch.tensor([0, 1])), TypeError, "build"),
        (lambda: train(learning_rate=1e300), FloatingPointError, "lower learning_rate"),
        (lambda: train(learning_rate=1e300, vectorize=True), FloatingPointError, "lower learning_rate"),
        (lambda: ambiguity_decomposition(torch.ones(2, 3), torch.ones(2)), ValueError, r"\(2, 3\)"),
    ],
)
def test_bad_input_is_told(call, error, message):
    with pytest.raises(error, match=message):
        call()
