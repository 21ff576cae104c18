"""The geometry of a loss: surfaces, contours with the path of a training run, lines, spectra."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from coursekit.landscape import Eigenpairs, Line, Path, Spectrum, Surface, Trajectory
from coursekit.plots.regression import array
from coursekit.plots.style import COLORS, SEQUENTIAL


def surface(surface: Surface, *, log: bool = False, ax: Axes | None = None) -> Axes:
    """The loss over a plane as a surface in space; the dot is the trained network.

    Args:
        surface: from :func:`coursekit.landscape.plane`.
        log: draw log10 of the loss, which shows a basin whose rim is high.
        ax: axes with ``projection="3d"``; ``None``: new ones in the current figure.
    """
    ax = plt.gcf().add_subplot(projection="3d") if ax is None else ax
    if ax.name != "3d":
        raise ValueError('a surface needs axes in space: plt.subplots(subplot_kw={"projection": "3d"})')
    height = np.log10(_positive(surface)) if log else array(surface.loss)
    b, a = np.meshgrid(array(surface.b), array(surface.a))
    ax.plot_surface(a, b, height, cmap=SEQUENTIAL, rcount=60, ccount=60, linewidth=0, antialiased=True, alpha=0.95)
    centre = float(surface.centre)
    ax.plot([0], [0], [np.log10(centre) if log else centre], "o", color=COLORS["orange"], ms=6, zorder=10)
    ax.set(xlabel="along $d_1$", ylabel="along $d_2$", zlabel="log10 of the loss" if log else "loss")
    return ax


def contour(
    surface: Surface,
    *,
    trajectory: Trajectory | None = None,
    explained_variance=None,
    levels: int = 14,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Level lines of the loss over a plane, with the path of a training run projected onto it.

    Each dot of the path is coloured by its distance from the plane: the loss drawn below it is its own loss only
    where that distance is zero.

    Args:
        surface: from :func:`coursekit.landscape.plane`.
        trajectory: from :func:`coursekit.landscape.project`, onto the directions of the plane.
        explained_variance: (2,) of :func:`coursekit.landscape.pca_directions`, for the labels of the axes.
        levels: number of levels.
        log: space the levels evenly in the logarithm of the loss.
    """
    ax = ax or plt.gca()
    loss = _positive(surface) if log else array(surface.loss)
    finite = loss[np.isfinite(loss)]
    if finite.size == 0:
        raise ValueError("the surface holds no finite loss; take a smaller extent")
    low, high = finite.min(), finite.max()
    if low == high:
        raise ValueError(f"the loss is {low:.6g} everywhere on this plane: there are no level lines to draw")
    heights = np.geomspace(low, high, levels) if log else np.linspace(low, high, levels)
    norm = LogNorm(low, high) if log else Normalize(low, high)
    drawn = ax.contourf(array(surface.a), array(surface.b), loss.T, heights, cmap=SEQUENTIAL, norm=norm)
    ax.contour(array(surface.a), array(surface.b), loss.T, heights, colors="white", linewidths=0.5, norm=norm)
    bar = ax.figure.colorbar(drawn, ax=ax, label="loss", ticks=heights[::2], format="%.3g")
    bar.minorticks_off()
    if trajectory is not None:
        points = array(trajectory.coordinates)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"a trajectory on a plane has coordinates (n, 2), got {points.shape}")
        ax.plot(*points.T, "-", color="white", lw=1.4, zorder=3)
        dots = ax.scatter(
            *points.T, c=array(trajectory.distance), cmap="Greys", s=26, edgecolors=COLORS["black"], lw=0.6, zorder=4
        )
        ax.figure.colorbar(dots, ax=ax, label="distance from the plane")
    ax.plot([0], [0], "*", color=COLORS["orange"], ms=12, mec="white", mew=0.7, zorder=5)
    labels = ["along $d_1$", "along $d_2$"]
    if explained_variance is not None:
        labels = [f"{label} ({float(v):.1%} of the way)" for label, v in zip(labels, explained_variance, strict=True)]
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.grid(False)
    return ax


def line(line: Line | Path, *, label: str | None = None, ax: Axes | None = None) -> Axes:
    """The loss along a line of parameter space, or along a curve between two networks."""
    ax = ax or plt.gca()
    curve = isinstance(line, Path)
    x = array(line.t if curve else line.a)
    ax.plot(x, array(line.loss), label=label)
    if not curve and x[0] <= 0 <= x[-1]:
        ax.plot([0], [float(line.centre)], "*", color=ax.lines[-1].get_color(), ms=10)
    ax.set(xlabel="position t on the curve" if curve else "distance $a$ along the direction", ylabel="loss")
    if label is not None:
        ax.legend(fontsize="small")
    return ax


def spectrum(
    spectrum: Spectrum,
    *,
    eigenvalues: Eigenpairs | None = None,
    width: float | None = None,
    floor: float = 1e-7,
    ax: Axes | None = None,
) -> Axes:
    """The density of all eigenvalues on a logarithmic scale; ticks on the axis mark eigenvalues known one by one.

    Args:
        spectrum: from :func:`coursekit.landscape.spectral_density`.
        eigenvalues: from :func:`coursekit.landscape.top_eigenvalues`.
        width: standard deviation of the smoothing; ``None``: a hundredth of the range of the spectrum.
        floor: the lowest density drawn.
    """
    ax = ax or plt.gca()
    low, high = float(spectrum.nodes.min()), float(spectrum.nodes.max())
    width = width or max(0.01 * (high - low), 1e-12)
    grid = torch.linspace(low - 6 * width, high + 6 * width, 1001, dtype=torch.float64)
    density = array(spectrum.density(grid, width=width))
    ax.fill_between(array(grid), floor, np.maximum(density, floor), color=COLORS["blue"], alpha=0.25, lw=0)
    ax.plot(array(grid), np.maximum(density, floor), color=COLORS["blue"], label="spectral density")
    if eigenvalues is not None:
        values = array(eigenvalues.values)
        ax.plot(
            values,
            np.full(len(values), floor),
            "|",
            ms=18,
            mew=1.6,
            color=COLORS["orange"],
            label=f"{len(values)} eigenvalues",
            clip_on=False,
        )
        ax.legend(fontsize="small")
    ax.set(yscale="log", ylim=(floor, None), xlabel="eigenvalue", ylabel="density")
    return ax


def _positive(surface: Surface) -> np.ndarray:
    loss = array(surface.loss)
    if not (loss[np.isfinite(loss)] > 0).all():
        raise ValueError("log=True needs a loss that is positive on the whole grid; take log=False")
    return loss
