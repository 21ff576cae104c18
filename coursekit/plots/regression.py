"""Regression in one dimension: predictive bands, their variance, and the density of two weights."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from coursekit.plots.style import COLORS
from coursekit.predictive import NormalPredictive


def predictive_band(
    x: Tensor,
    predictive: NormalPredictive,
    *,
    data: tuple[Tensor, Tensor] | None = None,
    truth: Tensor | None = None,
    stds: Sequence[float] = (1, 2, 3),
    ax: Axes | None = None,
) -> Axes:
    """Mean and bands of ``stds`` standard deviations at sorted x (N,), with data, truth and the range of the data.

    Args:
        data: training inputs and targets, drawn as dots; their range is shaded on the axis.
        truth: (N,) noiseless values at x, drawn as a dashed line.
    """
    ax = ax or plt.gca()
    x, mean, std = array(x), array(predictive.mean), array(predictive.std)
    for k in sorted(stds, reverse=True):
        ax.fill_between(x, mean - k * std, mean + k * std, color=COLORS["blue"], alpha=0.16, lw=0)
    ax.plot(x, mean, color=COLORS["blue"], label="predictive mean")
    if truth is not None:
        ax.plot(x, array(truth), "--", color=COLORS["black"], lw=1.2, label="truth")
    if data is not None:
        ax.plot(array(data[0]), array(data[1]), "o", ms=4, color=COLORS["orange"], label="data", zorder=3)
    names = ", ".join(f"{k:g}" for k in sorted(stds))
    ax.fill_between([], [], [], color=COLORS["blue"], alpha=0.3, label=f"± {names} std")
    ax.set(xlabel="input x", ylabel="target t")
    ax.legend(loc="best", fontsize="small")
    return ax


def predictive_variance(
    x: Tensor,
    predictive: NormalPredictive,
    *,
    data: Tensor | None = None,
    gap: float = 1.0,
    ax: Axes | None = None,
) -> Axes:
    """Predictive variance and its aleatoric part along sorted x (N,); the range of the data is shaded.

    Args:
        data: (n,) training inputs; the shaded range is split wherever two neighbours are more than ``gap`` apart.
    """
    ax = ax or plt.gca()
    ax.plot(array(x), array(predictive.variance), color=COLORS["blue"], label="predictive variance")
    ax.plot(array(x), array(predictive.aleatoric), ":", color=COLORS["black"], label="noise (aleatoric)")
    if data is not None and len(data):
        for k, (low, high) in enumerate(_runs(np.sort(array(data)), gap)):
            label = {} if k else {"label": "range of the data"}
            ax.axvspan(low, high, color=COLORS["grey"], alpha=0.18, lw=0, **label)
        ax.axvline(array(data).mean(), ls="--", lw=1.2, color=COLORS["orange"], label="mean of the inputs")
    ax.set(xlabel="input x", ylabel="variance of t")
    ax.legend(loc="best", fontsize="small")
    return ax


def weight_density(
    mean: Tensor,
    covariance: Tensor,
    *,
    truth: Sequence[float] | None = None,
    limits: tuple[float, float] = (-1.0, 1.0),
    steps: int = 201,
    ax: Axes | None = None,
) -> Axes:
    """The normal density of two weights (intercept, slope) on a square, with a cross at the true weights."""
    ax = ax or plt.gca()
    mean, covariance = mean.detach().cpu().double(), covariance.detach().cpu().double()
    if mean.shape != (2,) or covariance.shape != (2, 2):
        raise ValueError(f"two weights are drawn: mean (2,), covariance (2, 2); got {tuple(mean.shape)}")
    axis = torch.linspace(*limits, steps, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    density = torch.distributions.MultivariateNormal(mean, covariance).log_prob(grid).exp().numpy()
    ax.imshow(density, origin="lower", extent=(*limits, *limits), aspect="equal", interpolation="bilinear")
    if truth is not None:
        ax.plot(*truth, "+", ms=11, mew=2, color=COLORS["orange"], label="true weights")
        ax.legend(loc="upper right", fontsize="small", labelcolor="white")
    ax.set(xlabel="intercept $w_0$", ylabel="slope $w_1$")
    ax.grid(False)
    return ax


def array(values) -> np.ndarray:
    """A NumPy array of a tensor on any device, or of anything array-like."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _runs(values: np.ndarray, gap: float) -> list[tuple[float, float]]:
    """The ends of each run of sorted values without a step larger than ``gap``."""
    breaks = np.flatnonzero(np.diff(values) > gap) + 1
    return [(part[0], part[-1]) for part in np.split(values, breaks)]
