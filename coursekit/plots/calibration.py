"""Calibration: the reliability diagram of a classifier, the coverage of predictive intervals."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from coursekit.plots.regression import array
from coursekit.plots.style import COLORS
from coursekit.uncertainty.calibration import Reliability


def reliability_diagram(result: Reliability, *, label: str | None = None, ax: Axes | None = None) -> Axes:
    """Accuracy of each bin at its mean confidence, the gap to the diagonal, and the share of predictions in the bin.

    Orange, below the diagonal, says overconfident; blue, above it, underconfident.

    Args:
        result: what ``reliability`` or ``adaptive_reliability`` returned.
        label: name of the model, before the ECE in the legend.
    """
    ax = ax or plt.gca()
    edges, counts = array(result.edges), array(result.counts)
    full = counts > 0
    confidence, accuracy = array(result.confidence)[full], array(result.accuracy)[full]
    widths = np.diff(edges)
    ax.bar(
        edges[:-1],
        counts / counts.sum(),
        widths,
        align="edge",
        color=COLORS["grey"],
        alpha=0.25,
        label="share of predictions",
    )
    ax.plot([0, 1], [0, 1], "--", color=COLORS["black"], lw=1, label="calibrated")
    over = accuracy < confidence
    for side, color in ((over, COLORS["orange"]), (~over, COLORS["blue"])):
        ax.vlines(confidence[side], accuracy[side], confidence[side], color=color, lw=5, alpha=0.35)
    name = f"{label}: " if label else ""
    ax.plot(confidence, accuracy, "o-", color=COLORS["blue"], ms=4, label=f"{name}ECE {result.ece:.3f}")
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="upper left", fontsize="small")
    return ax


def coverage_curve(levels: Tensor, observed: Tensor, *, label: str = "model", ax: Axes | None = None) -> Axes:
    """Observed coverage of the central intervals against their level; below the diagonal: too narrow, overconfident.

    Args:
        levels: (L,) nominal probabilities.
        observed: (L,) what ``calibration_curve`` returned; call again on the same Axes for another model.
    """
    ax = ax or plt.gca()
    if not any(line.get_label() == "calibrated" for line in ax.lines):
        ax.plot([0, 1], [0, 1], "--", color=COLORS["black"], lw=1, label="calibrated")
    ax.plot(array(levels), array(observed), "o-", ms=4, label=label)
    ax.set(xlabel="level of the interval", ylabel="share of targets inside", xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="upper left", fontsize="small")
    return ax
