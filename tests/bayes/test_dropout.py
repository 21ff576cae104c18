"""MC Dropout: closed-form moments, torch's own dropout, the plan against whole passes, then behaviour."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coursekit.bayes import dropout_plan
from coursekit.bayes._shadow import shadow
from coursekit.bayes.dropout import MCDropout
from coursekit.nets import LeNet

D = torch.float64


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)  # the parameters of torch's own layers


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=D)


# --- closed forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_of_a_linear_model_is_weighted_ridge(p):
    """B6.4: the expected loss is least squares plus a ridge, and the variance of the output a quadratic form."""
    model = nn.Sequential(nn.Dropout(p), nn.Linear(5, 1, bias=False, dtype=D))
    x, y, n = randn(8, 5, seed=1), randn(8, seed=2), 20_000
    w = model[1].weight[0].detach()
    result = MCDropout(model, likelihood="regression").predict(x, samples=n, generator=gen(3))
    variance = p / (1 - p) * (w.square() * x.square()).sum(1)
    assert float(((result.mean - x @ w) / (variance / n).sqrt()).abs().max()) < 4
    torch.testing.assert_close(result.epistemic, variance, rtol=0.06, atol=0)
    losses = (y - result.means).square().sum(1)
    expected = (y - x @ w).square().sum() + p / (1 - p) * (w.square() * x.square().sum(0)).sum()
    assert abs(float(losses.mean() - expected)) < 4 * float(losses.std()) / math.sqrt(n)


KINDS = [
    (nn.Dropout, (6, 5)),
    (nn.Dropout, (6, 5, 4, 4)),
    (nn.Dropout1d, (6, 5, 4)),
    (nn.Dropout1d, (6, 5)),
    (nn.Dropout2d, (6, 5, 4, 4)),
    (nn.Dropout3d, (6, 5, 2, 2, 2)),
    (nn.Dropout3d, (6, 5, 2, 2)),
    (nn.AlphaDropout, (6, 5)),
    (nn.FeatureAlphaDropout, (6, 5, 4)),
]


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_masks_have_the_law_of_torch(kind, shape):
    """Same support, same pattern of shared entries, same mean and second moment as the module of torch."""
    p, n = 0.3, 4000
    x = randn(*shape, seed=1).abs() + 1  # positive: what is kept is the largest value
    mask, module = dropout_plan.Mask(kind, p, dropout_plan.Source(gen(2))), kind(p).train()
    ours = torch.stack([mask(x) for _ in range(n)])
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = torch.stack([module(x) for _ in range(n)])
    kept = [(draws - draws.amax(0)).abs() < 1e-9 for draws in (ours, theirs)]
    torch.testing.assert_close(ours.amax(0), theirs.amax(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.amin(0), theirs.amin(0), rtol=1e-6, atol=1e-6)
    for share in kept:
        assert float((share.double().mean(0) - 0.7).abs().max()) < 4.5 * math.sqrt(0.21 / n)
    patterns = [share.flatten(1).double().T.corrcoef() > 0.5 for share in kept]
    assert torch.equal(*patterns)


def test_subclasses_of_the_kinds_are_found():
    class Mine(nn.Dropout):
        pass

    model = nn.Sequential(Mine(0.5), nn.Linear(3, 2))
    assert float(MCDropout(model).predict(torch.ones(1, 3), samples=20, generator=gen()).probs.std(0).min()) > 0


# --- the plan ---------------------------------------------------------------------------------------------------


class Counted(nn.Linear):
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


class Branches(nn.Module):
    """A residual network with functional dropout, in-place changes and a branch that no dropout reaches."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6, dtype=D), nn.Linear(6, 6, dtype=D)
        self.side, self.head = Counted(4, 6, dtype=D), nn.Linear(6, 3, dtype=D)
        self.drop, self.act = nn.Dropout(0.4), nn.ReLU(inplace=True)
        self.register_buffer("shift", torch.ones(6, dtype=D))

    def forward(self, x):
        h = self.act(self.one(x))
        h = h + self.drop(h) + self.shift
        h = F.dropout(h, 0.2, self.training)
        h = self.act(self.two(h))
        h = h + self.side(x).view(x.shape[0], -1)
        return self.head(h)


class LateInPlace(nn.Module):
    """A fixed tensor that a random operation writes into, and one changed after a dropout has read it."""

    def __init__(self, late: bool):
        super().__init__()
        self.body, self.head, self.drop, self.late = (
            nn.Linear(4, 4, dtype=D),
            nn.Linear(4, 3, dtype=D),
            nn.Dropout(),
            late,
        )

    def forward(self, x):
        h = self.body(x)
        d = self.drop(h)
        if self.late:
            h.relu_()
            return self.head(d + h)
        h += d
        return self.head(h)


class DataDependent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.drop, self.head = nn.Linear(4, 4, dtype=D), nn.Dropout(), nn.Linear(4, 3, dtype=D)

    def forward(self, x):
        return self.head(self.drop(self.body(x))) if x.sum() > -1e9 else x


@pytest.mark.parametrize(
    "model",
    [Branches(), LateInPlace(False), LateInPlace(True), nn.Sequential(Branches(), nn.Dropout(0.1))],
    ids=["branches", "writes into fixed", "late in place", "nested"],
)
def test_plan_equals_whole_passes(model, monkeypatch):
    x = randn(5, 4)
    planned = MCDropout(model).predict(x, samples=6, generator=gen(1)).probs

    def masked_functional(h, p=0.5, training=True, inplace=False):
        return dropout_plan.Mask(nn.Dropout, p, source)(h)

    # Whole passes: no graph, and the functional dropout replaced by hand by a mask from the same generator.
    source = dropout_plan.Source(gen(1))
    twin = dropout_plan.put_masks(shadow(model), source)
    monkeypatch.setattr(F, "dropout", masked_functional)
    with torch.no_grad():
        whole = torch.stack([twin(x) for _ in range(6)]).softmax(-1)
    torch.testing.assert_close(planned, whole, rtol=1e-12, atol=1e-14)


def test_what_no_dropout_reaches_runs_once():
    model = Branches()
    Counted.calls = 0
    MCDropout(model).predict(randn(5, 4), samples=50)
    assert Counted.calls <= 2  # once to measure the memory, once for all samples


def test_a_network_that_cannot_be_traced_still_works():
    model = DataDependent()
    probs = MCDropout(model).predict(randn(5, 4), samples=200, generator=gen(1)).probs
    assert float(probs.std(0).min()) > 0


def test_lenet_against_a_plain_loop():
    model, x = LeNet().double(), randn(6, 1, 28, 28, seed=1)
    ours = MCDropout(model).predict(x, samples=600, generator=gen(1)).probs
    model.train()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        loop = torch.stack([model(x) for _ in range(600)]).softmax(-1)
    error = (ours.var(0) / 600 + loop.var(0) / 600).sqrt()
    assert float(((ours.mean(0) - loop.mean(0)) / error).abs().max()) < 4.5
    assert 0.7 < float((ours.std(0) / loop.std(0)).mean()) < 1.3


def test_chunks_cover_all_rows(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 6, dtype=D), nn.Dropout(0.5), nn.Linear(6, 3, dtype=D))
    x = randn(11, 4)
    whole = MCDropout(model).predict(x, samples=3000, generator=gen(1))
    monkeypatch.setattr("coursekit.bayes._memory.CHUNK_BYTES", {"cpu": 1000})
    parts = MCDropout(model).predict(x, samples=3000, generator=gen(2))
    error = (whole.probs.var(0) / 1500).sqrt()
    assert float(((whole.mean - parts.mean) / error).abs().max()) < 4.5


# --- behaviour --------------------------------------------------------------------------------------------------


def test_same_generator_same_draws():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)), torch.ones(2, 4)
    first, second = (MCDropout(model).predict(x, samples=5, generator=gen(1)).probs for _ in range(2))
    assert torch.equal(first, second)
    assert float(first.std(0).min()) > 0  # a root flag alone would leave this at 0


class Fails(nn.Module):
    def forward(self, x):
        if len(x) > 1:
            raise RuntimeError("on purpose")
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_model_stays_as_it_is(fails):
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Dropout(0.1), nn.Linear(6, 3))
    if fails:
        model.append(Fails())
    model.train()
    model[2].eval()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes, children = [m.training for m in model.modules()], list(model.modules())
    state = torch.get_rng_state()
    x = torch.randn(5, 4, generator=gen(0))
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            MCDropout(model).predict(x, samples=3, generator=gen(1))
    else:
        MCDropout(model).predict(x, samples=3, generator=gen(1))
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(a is b for a, b in zip(children, model.modules(), strict=True))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_batchnorm_is_in_evaluation_mode():
    model = nn.Sequential(nn.BatchNorm1d(4, dtype=D), nn.Dropout(1e-9), nn.Linear(4, 3, dtype=D)).train()
    x = randn(5, 4) + 7
    probs = MCDropout(model).predict(x, samples=2, generator=gen()).probs
    expected = model[2](x / math.sqrt(1 + model[0].eps)).softmax(-1).detach()  # running mean 0, variance 1
    torch.testing.assert_close(probs[0], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("model", [nn.Linear(3, 2), nn.Sequential(nn.Dropout(0.0), nn.Linear(3, 2))])
def test_a_model_without_dropout_is_an_error(model):
    with pytest.raises(ValueError, match="no active dropout"):
        MCDropout(model).predict(torch.ones(1, 3))


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (torch.full((2, 3), math.nan), {}, ValueError, "NaN"),
        (torch.ones(0, 3), {}, ValueError, "at least one input"),
        (torch.ones(2, 3, dtype=D), {}, TypeError, "float64"),
        (torch.ones(2, 3, device="meta"), {}, ValueError, "x is on meta"),
        (torch.ones(2, 3), {"samples": 0}, ValueError, "samples=0"),
    ],
)
def test_bad_input_is_told(x, options, error, message):
    with pytest.raises(error, match=message):
        MCDropout(nn.Sequential(nn.Dropout(), nn.Linear(3, 2))).predict(x, **options)


def test_every_device(device):
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)).to(device)
    x = torch.randn(5, 4, generator=gen()).to(device)
    result = MCDropout(model).predict(x, samples=2000, generator=torch.Generator(device).manual_seed(0))
    assert result.probs.device.type == torch.device(device).type
    there = MCDropout(model.cpu()).predict(x.cpu(), samples=2000, generator=gen(1))
    error = (there.probs.var(0) / 1000).sqrt()
    assert float(((result.mean.cpu() - there.mean) / error).abs().max()) < 4.5
