"""Classification in the plane: what a predictive says at each point, and how unsure it is."""

from collections.abc import Callable
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from coursekit.plots.regression import array
from coursekit.plots.style import COLORS, DIVERGING, SEQUENTIAL
from coursekit.predictive import CategoricalPredictive

_TITLES = {
    "probability": "probability of class 1",
    "confidence": "confidence",
    "entropy": "entropy (nats)",
    "mutual_information": "mutual information (nats)",
    "variation_ratio": "variation ratio",
}


def decision_surface(
    predict: Callable[[Tensor], CategoricalPredictive],
    x: Tensor,
    y: Tensor,
    *,
    show: Literal["probability", "confidence", "entropy", "mutual_information", "variation_ratio"] = "probability",
    margin: float = 1.0,
    steps: int = 120,
    ax: Axes | None = None,
) -> Axes:
    """A quantity of the predictive over the plane, with the data and the decision boundary.

    Args:
        predict: points (K, 2) -> CategoricalPredictive.
        x, y: (N, 2) inputs and (N,) labels, drawn as dots; they set the window.
        show: ``"probability"`` (of class 1, two classes) or a quantity of the predictive.
        margin: how far the window goes beyond the data, in ranges of the data.
    """
    ax = ax or plt.gca()
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"a surface needs inputs (N, 2), got {tuple(x.shape)}")
    low, high = x.amin(0), x.amax(0)
    reach = margin * (high - low) / 2
    axes = [torch.linspace(float(a), float(b), steps).to(x) for a, b in zip(low - reach, high + reach, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1).reshape(-1, 2)
    with torch.no_grad():
        predictive = predict(points)
    values = predictive.mean[:, 1] if show == "probability" else getattr(predictive, show)
    grid = array(values).reshape(steps, steps)
    if show == "probability":
        limits = {"cmap": DIVERGING, "vmin": 0, "vmax": 1}
    else:
        limits = {"cmap": SEQUENTIAL, "vmin": 0 if show != "confidence" else None}
    horizontal, vertical = map(array, axes)
    image = ax.pcolormesh(horizontal, vertical, grid, shading="gouraud", rasterized=True, **limits)
    labels = array(predictive.labels).reshape(steps, steps)
    for level in np.unique(labels)[1:]:
        ax.contour(horizontal, vertical, labels >= level, levels=[0.5], colors="white", linewidths=1.2)
    points, classes = array(x), array(y)
    for k, (color, marker) in zip(np.unique(classes), _markers(), strict=False):
        chosen = classes == k
        ax.scatter(
            *points[chosen].T, s=14, c=color, marker=marker, edgecolors="white", linewidths=0.5, label=f"class {int(k)}"
        )
    ax.figure.colorbar(image, ax=ax, label=_TITLES[show])
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    ax.grid(False)
    return ax


def _markers():
    colors = (COLORS["blue"], COLORS["orange"], COLORS["green"], COLORS["purple"], COLORS["amber"], COLORS["sky"])
    return list(zip(colors, "osD^vP", strict=True))
