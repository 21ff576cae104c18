import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.landscape import Curve, fit_curve, loss_along, straight_line


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Dropout(), nn.Linear(64, 2)).double()


@pytest.fixture
def data(generator):
    x = torch.randn(60, 2, dtype=torch.float64, generator=generator)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def test_the_straight_line_is_the_segment(data):
    a, b = net(0), net(1)
    line = straight_line(a, b)
    path = loss_along(line, a, F.cross_entropy, *data, steps=5)
    for t, value in zip(path.t.tolist(), path.loss, strict=True):
        mixed = copy.deepcopy(a).eval()
        with torch.no_grad():
            for p, q, r in zip(mixed.parameters(), a.parameters(), b.parameters(), strict=True):
                p.copy_((1 - t) * q + t * r)
        torch.testing.assert_close(value, F.cross_entropy(mixed(data[0]), data[1]), atol=1e-12, rtol=0)
        at = line.parameters(t)
        for name, p in mixed.named_parameters():
            torch.testing.assert_close(at[name], p.detach(), atol=1e-12, rtol=0)
    assert torch.equal(path.loss[0], F.cross_entropy(a.eval()(data[0]), data[1]).detach())


def test_barrier_of_a_known_path():
    """L(w) = (w^2 - 1)^2 from w = 1 to w = -1: the barrier is L(0) = 1, and none from a minimum uphill on a line."""
    layer = nn.Linear(1, 1, bias=False).double()
    one = torch.ones(1, 1, dtype=torch.float64)
    well = lambda f, t: (f.square() - 1).square().mean()  # noqa: E731
    curve = Curve({"weight": one}, {"weight": 0 * one}, {"weight": -one})
    path = loss_along(curve, layer, well, one, one)
    assert abs(float(path.barrier) - 1) < 1e-12
    convex = loss_along(curve, layer, lambda f, t: f.square().mean(), one, one)
    assert float(convex.barrier) == 0


def test_a_bezier_curve_goes_through_its_ends_and_stays_low(data, generator):
    x, y = data
    ends = [net(0), net(1)]
    for model in ends:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        for _ in range(300):
            optimizer.zero_grad()
            F.cross_entropy(model.eval()(x), y).backward()
            optimizer.step()
    before = [copy.deepcopy(m.state_dict()) for m in ends]
    curve = fit_curve(*ends, F.cross_entropy, x, y, steps=400, generator=generator)
    straight = loss_along(straight_line(*ends), ends[0], F.cross_entropy, x, y)
    bent = loss_along(curve, ends[0], F.cross_entropy, x, y)
    assert torch.equal(straight.loss[[0, -1]], bent.loss[[0, -1]])
    assert float(bent.barrier) < 0.2 * float(straight.barrier)
    for m, state in zip(ends, before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in m.state_dict().items())


def test_the_same_generator_gives_the_same_curve(data):
    a, b = (
        fit_curve(
            net(0), net(1), F.cross_entropy, *data, steps=5, batch_size=7, generator=torch.Generator().manual_seed(2)
        )
        for _ in range(2)
    )
    assert all(torch.equal(a.bend[n], b.bend[n]) for n in a.bend)


def test_bad_input_is_named(data):
    x, y = data
    normed = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    cases = [
        (lambda: straight_line(net(0), nn.Linear(2, 2)), "differ in"),
        (lambda: fit_curve(net(0), net(1), F.cross_entropy, x, y, steps=0), "steps=0"),
        (lambda: fit_curve(normed, copy.deepcopy(normed), F.cross_entropy, x, y), "running statistics"),
        (lambda: fit_curve(net(0), net(1), F.cross_entropy, x[:0], y[:0]), "no example"),
        (lambda: loss_along(straight_line(net(0), net(1)), net(0), F.cross_entropy, x, y, steps=1), "both ends"),
        (
            lambda: fit_curve(net(0), net(1), lambda f, t: torch.exp(-1e3 * f.mean()), x, y, learning_rate=1e6),
            "diverged",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_every_device_gives_the_same_curve(device, data):
    curves = []
    for place in (torch.device("cpu"), device):
        nets, batch = [net(0).to(place), net(1).to(place)], [v.to(place) for v in data]
        g = torch.Generator().manual_seed(0)
        curves.append(fit_curve(*nets, F.cross_entropy, *batch, steps=20, batch_size=16, generator=g))
        assert curves[-1].bend["0.weight"].device.type == place.type
    for name, value in curves[0].bend.items():
        torch.testing.assert_close(curves[1].bend[name].cpu(), value, atol=1e-8, rtol=0)
