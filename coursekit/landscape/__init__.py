"""The geometry of a loss: directions, lines and planes, curvature, and paths between solutions."""

from coursekit.landscape.directions import (
    Directions,
    Trajectory,
    pca_directions,
    project,
    random_directions,
)
from coursekit.landscape.hessian import (
    Eigenpairs,
    Spectrum,
    TraceEstimate,
    hessian_trace,
    spectral_density,
    top_eigenvalues,
)
from coursekit.landscape.operators import CurvatureOperator
from coursekit.landscape.paths import Curve, Path, fit_curve, loss_along, straight_line
from coursekit.landscape.surface import Line, Surface, line, plane

__all__ = [
    "CurvatureOperator",
    "Curve",
    "Directions",
    "Eigenpairs",
    "Line",
    "Path",
    "Spectrum",
    "Surface",
    "TraceEstimate",
    "Trajectory",
    "fit_curve",
    "hessian_trace",
    "line",
    "loss_along",
    "pca_directions",
    "plane",
    "project",
    "random_directions",
    "spectral_density",
    "straight_line",
    "top_eigenvalues",
]
