import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import nn

from coursekit import landscape, plots
from coursekit.landscape import Line, Path, Spectrum, Surface, Trajectory


@pytest.fixture
def bowl(device):
    """L = 1 + a^2 + 2 b^2 on an oblong grid, so that exchanged axes show."""
    a = torch.linspace(-1, 1, 21, dtype=torch.float64, device=device)
    b = torch.linspace(-2, 2, 31, dtype=torch.float64, device=device)
    loss = 1 + a[:, None] ** 2 + 2 * b[None, :] ** 2
    return Surface(a, b, loss, torch.ones((), dtype=torch.float64, device=device))


def test_surface_draws_the_loss_at_its_coordinates(bowl):
    ax = plots.landscape.surface(bowl)
    (dot,) = ax.lines
    assert [float(v[0]) for v in dot.get_data_3d()] == [0, 0, 1]
    low, high = ax.get_zlim()
    assert 0.5 < low < 1 and 10 < high < 10.5
    assert (ax.get_xlabel(), ax.get_zlabel()) == ("along $d_1$", "loss")
    log = plots.landscape.surface(bowl, log=True)
    assert log.get_zlim()[1] < 1.2  # log10 of 10
    with pytest.raises(ValueError, match="3d"):
        plots.landscape.surface(bowl, ax=plt.figure().gca())


@pytest.mark.parametrize("log", [False, True])
def test_contour_has_its_lines_where_the_loss_is(bowl, log):
    trajectory = Trajectory(
        torch.tensor([[0.5, 1.0], [0.2, 0.3]], device=bowl.a.device), torch.tensor([1.0, 0.0], device=bowl.a.device)
    )
    ax = plots.landscape.contour(bowl, trajectory=trajectory, log=log, explained_variance=torch.tensor([0.8, 0.15]))
    lines = ax.collections[1]
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        if len(path.vertices) and path.vertices.any():
            x, y = path.vertices.T
            assert np.abs(1 + x**2 + 2 * y**2 - level).max() < 0.05
    np.testing.assert_allclose(ax.lines[0].get_xydata(), trajectory.coordinates.cpu())
    assert ax.get_xlabel() == "along $d_1$ (80.0% of the way)"
    assert "distance from the plane" in [other.get_ylabel() for other in ax.figure.axes]


def test_contour_refuses_what_has_no_levels(bowl):
    flat = Surface(bowl.a, bowl.b, torch.ones_like(bowl.loss), bowl.centre)
    for surface, options, message in (
        (flat, {}, "everywhere"),
        (Surface(bowl.a, bowl.b, bowl.loss * float("nan"), bowl.centre), {}, "no finite loss"),
        (Surface(bowl.a, bowl.b, bowl.loss - 2, bowl.centre), {"log": True}, "log=False"),
        (bowl, {"trajectory": Trajectory(torch.zeros(3, 1), torch.zeros(3))}, "coordinates"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.landscape.contour(surface, **options)


def test_line_and_path(device):
    t = torch.linspace(0, 1, 5, device=device)
    ax = plots.landscape.line(Path(t, t**2), label="curve")
    plots.landscape.line(Line(t - 0.5, t, t[2]), ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), (t**2).cpu())
    assert ax.lines[2].get_xydata().tolist() == [[0.0, 0.5]]


def test_spectrum_integrates_to_one(device):
    s = Spectrum(
        torch.tensor([[0.0, 1.0, 9.0]], dtype=torch.float64, device=device),
        torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64, device=device),
        100,
    )
    ax = plots.landscape.spectrum(s)
    x, y = ax.lines[0].get_data()
    assert float(np.trapezoid(y, x)) == pytest.approx(1, abs=1e-4)
    assert ax.get_yscale() == "log"


def test_from_a_network_to_the_figures(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2)).to(device)
    x, y = torch.randn(20, 2, device=device), (torch.arange(20) % 2).to(device)
    run = [nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2)).to(device) for _ in range(3)] + [model]
    d = landscape.pca_directions(run)
    trajectory = landscape.project(run, model, d)
    s = landscape.plane(model, F.cross_entropy, x, y, d, extent=trajectory.extent(), steps=7)
    ax = plots.landscape.contour(s, trajectory=trajectory, explained_variance=d.explained_variance)
    assert ax.get_xlim()[0] <= float(trajectory.coordinates[:, 0].min())
    density = landscape.spectral_density(model, F.cross_entropy, x, y, samples=2, steps=9)
    top = landscape.top_eigenvalues(model, F.cross_entropy, x, y, k=3)
    ticks = plots.landscape.spectrum(density, eigenvalues=top, ax=plt.figure().gca()).lines[1]
    np.testing.assert_allclose(ticks.get_xdata(), top.values.cpu())
