import copy

import pytest
import torch
from torch import nn

from coursekit.landscape import pca_directions, project, random_directions


def test_each_filter_has_the_norm_of_the_filter_it_moves(generator):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4), nn.LayerNorm((4,)))
    for d in random_directions(model, generator=generator, count=3):
        assert d.keys() == dict(model.named_parameters()).keys()
        for name in ("0.weight", "3.weight"):
            p = model.get_parameter(name)
            torch.testing.assert_close(d[name].flatten(1).norm(dim=1), p.detach().flatten(1).norm(dim=1))
        for name in ("0.bias", "1.weight", "1.bias", "3.bias", "4.weight", "4.bias"):
            assert not d[name].any(), f"{name} must stay"


def test_a_filter_of_a_transposed_convolution_is_an_output_channel(generator):
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    (d,) = random_directions(layer, count=1, generator=generator)
    # Output channel o of group g is made by weight[in of g, o]; move that channel alone, and no other changes.
    ratio = d["weight"].view(2, 2, 3, 9).norm(dim=(1, 3)) / layer.weight.detach().view(2, 2, 3, 9).norm(dim=(1, 3))
    torch.testing.assert_close(ratio, torch.ones(2, 3))


def test_layer_norm_of_two_axes_does_not_move(generator):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm((2, 4)))
    (d,) = random_directions(model, count=1, generator=generator)
    assert not d["1.weight"].any()


def test_layer_normalisation_and_none(generator):
    layer = nn.Linear(300, 200)
    (d,) = random_directions(layer, normalize="layer", count=1, generator=generator)
    torch.testing.assert_close(d["weight"].norm(), layer.weight.detach().norm())
    (d,) = random_directions(layer, normalize="none", count=1, generator=generator)
    assert d["bias"].any()


def test_directions_are_gaussian_not_uniform(generator):
    """A peer draws from U[0, 1): mean 1/2, no negative entry. Ours: mean 0, variance 1, kurtosis 3."""
    (d,) = random_directions(nn.Linear(500, 400), normalize="none", count=1, generator=generator)
    v = d["weight"].double()
    n = v.numel()
    assert abs(float(v.mean())) < 4 / n**0.5
    assert abs(float(v.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((v**4).mean()) - 3) < 4 * (96 / n) ** 0.5


def test_the_same_generator_gives_the_same_directions():
    model = nn.Linear(4, 3)
    a, b = (random_directions(model, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(u[n], v[n]) for u, v in zip(a, b, strict=True) for n in u)
    assert not torch.equal(a[0]["weight"], a[1]["weight"])


def test_pca_of_a_run_in_a_plane_is_exact(generator):
    """theta_t = c + s_t e1 + r_t e2 with e1, e2 orthonormal: directions, shares and coordinates are known."""
    e = torch.linalg.qr(torch.randn(11, 2, dtype=torch.float64, generator=generator))[0].T
    s = torch.tensor([9.0, 6.0, 2.0, 0.0], dtype=torch.float64)
    r = torch.tensor([1.0, -1.0, -1.5, 0.0], dtype=torch.float64)
    r[:3] -= s[:3] * (s @ r) / (s @ s)  # uncorrelated, so that e1, e2 are the principal axes
    points = torch.outer(s, e[0]) + torch.outer(r, e[1]) + 1.0
    run = [{"a": p[:5].view(5, 1), "b": p[5:]} for p in points]
    d = pca_directions(run)
    flat = torch.stack([torch.cat([v["a"].reshape(-1), v["b"]]) for v in d])
    torch.testing.assert_close((flat @ e.T).abs(), torch.eye(2, dtype=torch.float64), atol=1e-12, rtol=0)
    share = torch.stack([s @ s, r @ r]) / (s @ s + r @ r)
    torch.testing.assert_close(d.explained_variance, share, atol=1e-12, rtol=0)
    t = project(run, run[-1], d)
    torch.testing.assert_close(t.coordinates.abs(), torch.stack([s, r], 1).abs(), atol=1e-12, rtol=0)
    assert float(t.distance.max()) < 1e-12
    assert bool((t.coordinates[0] >= 0).all())
    (low, high), _ = t.extent()
    assert low < 0 < 9 < high


def test_projection_on_oblique_directions_solves_least_squares(generator):
    axes = torch.randn(2, 6, dtype=torch.float64, generator=generator)
    point = torch.randn(6, dtype=torch.float64, generator=generator)
    t = project([{"w": point}], {"w": torch.zeros_like(point)}, [{"w": a} for a in axes])
    solution = torch.linalg.lstsq(axes.T, point[:, None]).solution[:, 0]
    torch.testing.assert_close(t.coordinates[0], solution, atol=1e-12, rtol=0)
    torch.testing.assert_close(t.distance[0], (point - axes.T @ solution).norm(), atol=1e-12, rtol=0)


def test_state_dicts_and_modules_give_the_same_directions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    run, states = [], []
    for _ in range(4):
        model(torch.randn(8, 3))  # moves the running statistics, which are no part of the landscape
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        run.append(copy.deepcopy(model))
        states.append({k: v.clone() for k, v in model.state_dict().items()})
    a, b = pca_directions(run), pca_directions(states)
    assert all(torch.equal(u[n], v[n]) for u, v in zip(a, b, strict=True) for n in u)
    assert "1.running_mean" not in b[0]


def test_checkpoints_that_share_memory_are_refused():
    model = nn.Linear(2, 2)
    run = []
    for _ in range(3):
        with torch.no_grad():
            model.weight.add_(1.0)
        run.append(model.state_dict())  # the common mistake: three views of one model
    with pytest.raises(ValueError, match="shares memory"):
        pca_directions(run)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_directions(nn.Linear(2, 2), normalize="filters"), "normalize="),
        (lambda: random_directions(nn.Linear(2, 2), count=0), "count=0"),
        (lambda: random_directions(nn.ReLU()), "no parameters"),
        (lambda: random_directions(nn.LayerNorm(3)), "normalize='none'"),
        (lambda: pca_directions([nn.Linear(2, 2)]), "at least two"),
        (lambda: pca_directions([nn.Linear(2, 2), nn.Linear(2, 3)]), "shape"),
        (lambda: pca_directions([nn.Linear(2, 2), nn.Linear(2, 2, bias=False)]), "bias"),
        (lambda: pca_directions([nn.Linear(2, 2), nn.Linear(2, 2)], count=2), "spans 1"),
        (lambda: pca_directions([{"w": torch.tensor([float("nan")])}, {"w": torch.ones(1)}]), "NaN"),
        (lambda: project([], nn.Linear(2, 2), []), "no checkpoint"),
        (
            lambda: project([{"w": torch.ones(2)}], {"w": torch.zeros(2)}, [{"w": torch.ones(2)}] * 2),
            "linearly dependent",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
