"""MC Dropout: closed-form moments, torch's own dropout, kept results against whole passes, then behaviour."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coursekit.bayes import dropout_plan
from coursekit.bayes.dropout import MCDropout
from coursekit.bayes.ensemble import Ensemble
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
    model, passes, module = kind(p).train(), dropout_plan.Passes(gen(2)), kind(p).train()
    ours = torch.stack(list(passes.run(model, x, n)))
    assert passes.calls == n
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


class Branches(nn.Module):
    """A residual network with functional dropout, in-place changes and a branch that no dropout reaches."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6, dtype=D), nn.Linear(6, 6, dtype=D)
        self.side, self.head = nn.Linear(4, 6, dtype=D), nn.Linear(6, 3, dtype=D)
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


class Reuse(nn.Module):
    """What comes before the first dropout is changed in place before it, and noise that is always on comes first."""

    def __init__(self, noise: bool):
        super().__init__()
        self.body, self.head, self.noise = nn.Linear(4, 4, dtype=D), nn.Linear(4, 3, dtype=D), noise

    def forward(self, x):
        h = self.body(x)
        h += 1
        h[:, 0] = 2.0
        if self.noise:
            h = h + torch.randn_like(h)
        return self.head(F.dropout(h, 0.4, self.training))


@pytest.mark.parametrize(
    "model",
    [Branches(), LateInPlace(False), LateInPlace(True), nn.Sequential(Branches(), nn.Dropout(0.1)), Reuse(False)],
    ids=["branches", "writes into what is kept", "late in place", "nested", "early in place"],
)
def test_kept_results_give_what_whole_passes_give(model, monkeypatch):
    x = randn(5, 4)
    kept = MCDropout(model).predict(x, samples=6, generator=gen(1)).probs
    monkeypatch.setattr(dropout_plan.Passes, "_versions", lambda self: None)  # nothing is ever kept
    whole = MCDropout(model).predict(x, samples=6, generator=gen(1)).probs
    torch.testing.assert_close(kept, whole, rtol=0, atol=0)
    assert float(kept.std(0).min()) > 0


def test_noise_that_is_always_on_is_drawn_anew_in_each_pass():
    probs = MCDropout(Reuse(True)).predict(randn(5, 4), samples=50, generator=gen(1)).probs
    quiet = MCDropout(Reuse(False)).predict(randn(5, 4), samples=50, generator=gen(1)).probs
    assert len(probs.flatten(1).unique(dim=0)) == 50
    assert len(quiet[:, 0].unique(dim=0)) <= 16  # four units, dropped or not


def test_what_comes_before_the_first_dropout_runs_once():
    model = nn.Sequential(nn.Linear(4, 6, dtype=D), nn.Dropout(), nn.Linear(6, 3, dtype=D))
    products = []  # the forward passes are entered each time, what they would multiply is known

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.addmm.default:
                products.append(tuple(args[1].shape))
            return function(*args, **(kwargs or {}))

    with Count():
        MCDropout(model).predict(randn(5, 4), samples=50)
    assert products.count((5, 4)) == 1
    assert products.count((5, 6)) == 50


# --- what a forward does, not what can be seen of it --------------------------------------------------------------


class Written(nn.Module):
    """A network whose dropout is written in one of the ways that torch knows."""

    def __init__(self, way: str):
        super().__init__()
        self.a, self.b, self.d = nn.Linear(3, 32, dtype=D), nn.Linear(32, 3, dtype=D), nn.Dropout(0.5)
        self.way, self.never = way, False
        hidden = nn.Dropout(0.8)
        self.call = lambda h: hidden(h)
        self.plain = {"list": [nn.Dropout(0.8)]}
        self.hidden = hidden

    def forward(self, x):
        assert x.ndim == 2
        h, way = self.d(self.a(x).relu()), self.way
        if way == "functional":
            h = F.dropout(h, 0.8, self.training)
        elif way == "by keyword":
            h = F.dropout(input=h, p=0.8, training=self.training)
        elif way == "torch.dropout":
            h = torch.dropout(h, 0.8, self.training)
        elif way == "in place":
            F.dropout(h, 0.8, self.training, True)
        elif way == "branch":
            if self.training:
                h = F.dropout(h, 0.8)
        elif way == "always":
            h = F.dropout(h, 0.8, True)
        elif way == "never":
            h = F.dropout(h, 0.8, self.never)
        elif way == "closure":
            h = self.call(h)
        elif way == "list in a dict":
            h = self.plain["list"][0](h)
        elif way == "native":
            h = torch.native_dropout(h, 0.8, self.training)[0]
        return self.b(h)


def as_in_training(model: nn.Module, x: torch.Tensor, samples: int) -> torch.Tensor:
    """(S, N, C) probabilities of torch's own training mode."""
    model.train()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(7)
        return torch.stack([model(x) for _ in range(samples)]).softmax(-1)


WAYS = ["functional", "by keyword", "torch.dropout", "in place", "branch", "always", "never", "closure"]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("way", [*WAYS, "list in a dict", "native"])
def test_dropout_is_on_however_it_is_written(way, mode):
    model, x = Written(way), randn(20, 3, seed=3)
    model.train(mode)
    model.plain["list"][0].train()
    ours = MCDropout(model).predict(x, samples=600, generator=gen(1)).probs
    again = MCDropout(model).predict(x, samples=600, generator=gen(1)).probs
    assert torch.equal(ours, again)
    theirs = as_in_training(model, x, 600)
    assert abs(float(ours.var(0).mean() / theirs.var(0).mean()) - 1) < 0.1
    error = ((ours.var(0) + theirs.var(0)) / 600).sqrt()
    assert float(((ours.mean(0) - theirs.mean(0)) / error).abs().max()) < 4.5


class Attends(nn.Module):
    def __init__(self, layer: str):
        super().__init__()
        self.layer = layer
        options = {"batch_first": True, "dtype": D}
        if layer == "encoder":
            self.body = nn.TransformerEncoderLayer(4, 2, 16, dropout=0.5, **options)
        elif layer == "attention":
            self.body = nn.MultiheadAttention(4, 2, dropout=0.5, **options)
        elif layer == "lstm":
            self.body = nn.LSTM(4, 4, 2, dropout=0.5, **options)
        self.head = nn.Linear(8, 3, dtype=D)

    def forward(self, x):
        if self.layer == "product":
            h = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)
        elif self.layer == "encoder":
            h = self.body(x)
        elif self.layer == "lstm":
            h = self.body(x)[0]
        else:
            h = self.body(x, x, x, need_weights=False)[0]
        return self.head(h.flatten(1)) * 5


@pytest.mark.parametrize("layer", ["encoder", "attention", "product", "lstm"])
def test_dropout_inside_attention_and_recurrent_layers(layer):
    model, x = Attends(layer).eval(), randn(10, 2, 4, seed=3)
    state = torch.get_rng_state()
    ours = MCDropout(model).predict(x, samples=1500, generator=gen(1)).probs
    assert torch.equal(ours, MCDropout(model).predict(x, samples=1500, generator=gen(1)).probs)
    assert torch.equal(state, torch.get_rng_state())
    theirs = as_in_training(model, x, 1500)
    assert abs(float(ours.var(0).mean() / theirs.var(0).mean()) - 1) < 0.1


class PlainLayers(nn.Module):
    """Layers in a plain list, registered beside it or not at all."""

    def __init__(self, registered: bool):
        super().__init__()
        parts = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, 3)]
        self.layers = parts
        if registered:
            self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("wrap", [lambda m: Ensemble([m]), MCDropout], ids=["ensemble", "dropout"])
def test_layers_in_a_plain_list(registered, wrap):
    model, x = PlainLayers(registered).train(), torch.randn(5, 1, 8, 8)
    before = {k: v.clone() for k, v in model.layers[1].state_dict().items()}
    posterior = wrap(model)
    first, second = posterior.predict(x), posterior.predict(x)
    assert all(torch.equal(before[k], v) for k, v in model.layers[1].state_dict().items())
    assert all(layer.training for layer in model.layers)
    if isinstance(posterior, Ensemble):
        assert torch.equal(first.mean, second.mean)
    else:
        assert float(first.probs.std(0).min()) > 0


def test_batch_statistics_asked_for_by_hand_are_not_used():
    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)
            self.register_buffer("mean", torch.zeros(4))
            self.register_buffer("var", torch.ones(4))

        def forward(self, x):
            x = F.batch_norm(x, self.mean, self.var, training=self.training)
            return self.head(F.dropout(x, 0.5, self.training))

    model = ByHand().train()
    MCDropout(model).predict(torch.randn(6, 4) + 3, samples=3)
    assert torch.equal(model.mean, torch.zeros(4))
    assert torch.equal(model.var, torch.ones(4))


def test_a_compiled_model_is_as_uncompiled():
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).train()
    compiled, x = torch.compile(plain, backend="eager"), torch.randn(6, 4)
    expected = MCDropout(plain).predict(x, samples=5, generator=gen(1)).probs
    assert torch.equal(MCDropout(compiled).predict(x, samples=5, generator=gen(1)).probs, expected)
    assert torch.equal(Ensemble([compiled]).predict(x).mean, Ensemble([plain]).predict(x).mean)
    assert plain[2].training


def test_a_private_mask_is_refused():
    class Private(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.drop = nn.Linear(4, 3), nn.Dropout()

        def forward(self, x):
            if self.training:
                x = x * (torch.rand_like(x) > 0.5) * 2
            return self.head(self.drop(x))

    with pytest.raises(ValueError, match=r"Private draws masks of its own.*write nn.Dropout"):
        MCDropout(Private()).predict(torch.ones(2, 4))


def test_a_layer_that_rows_choose():
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.drop, self.other = nn.Linear(4, 3), nn.Dropout(0.1), nn.Dropout(0.5)

        def forward(self, x):
            return self.head(self.other(x) if len(x) > 1 else self.drop(x))

    assert float(MCDropout(Chooses()).predict(torch.ones(2, 4), samples=50).probs.std(0).min()) > 0


def test_a_forward_that_depends_on_the_data():
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
