import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.landscape import line, plane, random_directions, top_eigenvalues
from coursekit.landscape import surface as module


class Branches(nn.Module):
    """Two layers see the data, one of them twice; a tied weight; a layer used without its call."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.twice = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)
        self.tied = nn.Linear(5, 5, bias=False)
        self.tied.weight = self.right.weight
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        h = torch.tanh(self.left(x)) + self.right(x) + self.twice(self.twice(x)) + self.tied(x)
        return F.linear(torch.relu_(h), self.head.weight, self.head.bias)


def models():
    torch.manual_seed(0)
    image = (1, 6, 6)
    return {
        "mlp": (nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)), (5,)),
        "linear": (nn.Linear(5, 3, bias=False), (5,)),
        "cnn": (
            nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular", bias=False),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Flatten(),
                nn.Dropout(),
                nn.Linear(144, 3),
            ),
            image,
        ),
        "branches": (Branches(), (5,)),
        "frozen first layer": (nn.Sequential(nn.Linear(5, 4).requires_grad_(False), nn.ReLU(), nn.Linear(4, 3)), (5,)),
        "weight norm": (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Linear(4, 3)), (5,)),
    }


@pytest.fixture(params=list(models()))
def case(request, generator):
    model, shape = models()[request.param]
    x = torch.randn(16, *shape, generator=generator)
    return model.double(), x.double(), torch.randint(3, (16,), generator=generator)


def moved(model, directions, coordinates):
    """A copy of the model at theta + sum c_i d_i, in evaluation mode: brute force."""
    result = copy.deepcopy(model).eval()
    with torch.no_grad():
        for d, c in zip(directions, coordinates, strict=True):
            for name, p in result.named_parameters():
                p.add_(d[name], alpha=c)
    return result


def test_every_point_of_the_plane_is_the_loss_there(case, generator):
    model, x, y = case
    d = random_directions(model, normalize="none", generator=generator)
    s = plane(model, F.cross_entropy, x, y, d, steps=5, extent=((-0.5, 1.0), (-1.0, 2.0)))
    for i, a in enumerate(s.a.tolist()):
        for j, b in enumerate(s.b.tolist()):
            expected = F.cross_entropy(moved(model, d, (a, b))(x), y)
            torch.testing.assert_close(s.loss[i, j], expected, atol=1e-12, rtol=1e-12)


def test_the_centre_is_the_loss_of_the_unmoved_model_to_the_last_bit(case, generator):
    model, x, y = case
    for cast in (torch.float32, torch.float64):
        m, u = copy.deepcopy(model).to(cast), x.to(cast)
        d = random_directions(m, normalize="none", generator=generator)
        expected = F.cross_entropy(copy.deepcopy(m).eval()(u), y)
        s = plane(m, F.cross_entropy, u, y, d, steps=5)
        assert float(s.a[2]) == float(s.b[2]) == 0
        assert torch.equal(s.loss[2, 2], expected.detach())
        assert torch.equal(s.centre, expected.detach())
        assert torch.equal(line(m, F.cross_entropy, u, y, d[0], steps=7).loss[3], expected.detach())


def test_the_grid_is_registered(generator):
    """A peer shifts every second row by one step: on L = |theta - theta_0|^2 the loss tells where a point really is."""
    layer = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    x = torch.eye(2, dtype=torch.float64)
    d = [{"weight": x[:1]}, {"weight": x[1:]}]
    target = torch.tensor([[5.0], [7.0]], dtype=torch.float64)
    s = plane(layer, lambda f, y: (f - y).square().sum(), x, target, d, extent=2.0, steps=9)
    torch.testing.assert_close(s.a.diff(), torch.full((8,), 0.5, dtype=torch.float64), atol=1e-15, rtol=0)
    expected = (s.a[:, None] - 5).square() + (s.b[None, :] - 7).square()
    torch.testing.assert_close(s.loss, expected, atol=1e-12, rtol=0)
    steps = s.loss.diff(dim=0)  # moving one row on changes the loss by the same at every b
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), atol=1e-12, rtol=0)


def test_the_model_is_not_moved(case, generator):
    """A peer leaves the caller's model at the last grid point."""
    model, x, y = case
    model.train()
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    wishes = [p.requires_grad for p in model.parameters()]
    d = random_directions(model, normalize="none", generator=generator)
    plane(model, F.cross_entropy, x, y, d, steps=3)
    line(model, F.cross_entropy, x, y, d[0], steps=3)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wishes
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert "forward" not in vars(next(model.modules()))


def test_first_layers_are_found_and_only_those():
    def names(model, x):
        flat = module.FlatModel(model)
        found = [m for m, _ in module._entry_layers(flat.module, x)]
        return [name for name, m in flat.module.named_modules() if m in found]

    torch.manual_seed(0)
    assert names(*_with_data("mlp")) == ["0"]
    assert names(*_with_data("cnn")) == ["0"]
    assert names(*_with_data("branches")) == ["left"]
    assert names(*_with_data("weight norm")) == []


def _with_data(name):
    model, shape = models()[name]
    return model, torch.randn(4, *shape)


def test_a_misread_graph_is_noticed(generator):
    """Behind a detach the second layer seems to see data that depend on no parameter."""

    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.second(self.first(x).detach())

    torch.manual_seed(0)
    model, x, y = Detached().double(), torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 3
    d = random_directions(model, generator=generator)
    s = plane(model, F.cross_entropy, x, y, d, steps=3)
    expected = F.cross_entropy(moved(model, d, (-1.0, 1.0))(x), y)
    torch.testing.assert_close(s.loss[0, 2], expected, atol=1e-12, rtol=0)


def test_batches_give_the_same_surface(case, generator):
    model, x, y = case
    d = random_directions(model, generator=generator, normalize="none")
    whole = plane(model, F.cross_entropy, x, y, d, steps=3)
    parts = plane(model, F.cross_entropy, x, y, d, steps=3, batch_size=5)
    torch.testing.assert_close(parts.loss, whole.loss, atol=1e-12, rtol=1e-12)
    assert torch.equal(parts.loss[1, 1], parts.centre)


def test_a_partial_direction_moves_only_what_it_names(generator):
    torch.manual_seed(0)
    model, x, y = nn.Linear(2, 3).double(), torch.randn(6, 2, dtype=torch.float64), torch.arange(6) % 3
    d = {"bias": torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)}
    values = line(model, F.cross_entropy, x, y, d, steps=3, extent=2.0).loss
    expected = F.cross_entropy(model(x) + 2 * d["bias"], y).detach()
    torch.testing.assert_close(values[2], expected, atol=1e-12, rtol=0)


def test_bad_input_is_named(generator):
    model = nn.Linear(2, 3)
    x, y = torch.randn(4, 2, generator=generator), torch.arange(4) % 3
    d = random_directions(model, generator=generator)
    nan = x.clone()
    nan[0, 0] = float("nan")
    cases = [
        (lambda: plane(model, F.cross_entropy, x, y, d, steps=4), "miss the centre"),
        (lambda: plane(model, F.cross_entropy, x, y, d, steps=1), "two points"),
        (lambda: plane(model, F.cross_entropy, x, y, d, extent=0.0), "extent"),
        (lambda: plane(model, F.cross_entropy, x, y, d, extent=((1, 0), (0, 1))), "low < high"),
        (lambda: plane(model, F.cross_entropy, x, y, d[:1]), "two directions"),
        (lambda: plane(model, F.cross_entropy, nan, y, d), "x holds NaN"),
        (lambda: plane(model, F.cross_entropy, x[:0], y[:0], d), "no example"),
        (lambda: plane(model, F.cross_entropy, x, y[:3], d), "pairs"),
        (lambda: plane(model, F.cross_entropy, x.to("meta"), y, d), "one device"),
        (lambda: line(model, lambda f, t: F.cross_entropy(f, t, reduction="none"), x, y, d[0]), "scalar"),
        (lambda: line(model, lambda f, t: f.sum() * float("nan"), x, y, d[0]), "unmoved model is nan"),
        (lambda: line(model, F.cross_entropy, x, y, {"weight": torch.ones(2, 2)}), "shape"),
        (lambda: line(model, F.cross_entropy, x, y, {"running_mean": torch.ones(2)}), "no parameter"),
        (lambda: line(model, F.cross_entropy, x, y, {"bias": torch.full((3,), float("nan"))}), "direction holds NaN"),
        (lambda: line(nn.ReLU(), F.mse_loss, x, x, {}), "no parameters"),
        (
            lambda: line(model, lambda f, t: F.cross_entropy(f, t, reduction="sum"), x, y, d[0], batch_size=2),
            "averages",
        ),
        (lambda: line(model, F.cross_entropy, x, y, d[0], batch_size=0), "batch_size=0"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="must be a tensor"):
        line(model, F.cross_entropy, x.tolist(), y, d[0])
    with pytest.raises(TypeError, match="Module"):
        line(F.relu, F.cross_entropy, x, y, d[0])


def test_every_device_gives_the_same_surface(device):
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), torch.randn(9, 5), torch.arange(9) % 3
    d = random_directions(model, generator=torch.Generator().manual_seed(0))
    expected = plane(model, F.cross_entropy, x, y, d, steps=5)
    moved_to = copy.deepcopy(model).to(device)
    directions = random_directions(moved_to, generator=torch.Generator().manual_seed(0))
    s = plane(moved_to, F.cross_entropy, x.to(device), y.to(device), directions, steps=5)
    assert s.loss.device.type == s.a.device.type == device.type
    torch.testing.assert_close(s.loss.cpu(), expected.loss, atol=1e-5, rtol=1e-5)


def test_targets_in_a_row_against_a_column_of_outputs_are_refused():
    model, x = nn.Linear(2, 1, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64)
    t = torch.arange(5, dtype=torch.float64)
    (direction,) = random_directions(model, count=1, normalize="none")
    with pytest.raises(ValueError, match=r"all 5 x 5 pairs"):
        line(model, nn.functional.mse_loss, x, t, direction)
    with pytest.raises(ValueError, match=r"all 5 x 5 pairs"):
        top_eigenvalues(model, lambda outputs, y: (outputs - y).square().mean(), x, t, k=1)
    with pytest.raises(TypeError, match=r"the class MSELoss: write MSELoss\(\)"):
        line(model, nn.MSELoss, x, t, direction)
    line(model, lambda outputs, y: nn.functional.mse_loss(outputs[:, 0], y), x, t, direction, steps=3)
