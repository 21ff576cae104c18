"""The rows of the benchmark: what is timed, beside whom, and by what factor ours should be faster."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    """One row.

    Args:
        title: what is computed, on what.
        build: ``module:function`` below :mod:`coursekit.bench.cases`; ``function(device, dtype) -> Case``.
        targets: peer -> the least ratio (its time / ours) that we promise.
        exact: also compare the outputs in float64, where a bound can be tight, before they are compared and timed
            in float32.
    """

    title: str
    build: str
    targets: dict[str, float] = field(default_factory=dict)
    exact: bool = True


TASKS = {
    "laplace-last-fit": Task(
        "last-layer full Laplace fit, MLP 784-128-64-10, 4,000 images", "laplace:last_layer_fit", {"laplace-torch": 5}
    ),
    "laplace-last-predict": Task(
        "its probit predictive, 2,000 images", "laplace:last_layer_predict", {"laplace-torch": 15}
    ),
    "laplace-kfac-predict": Task(
        "all-weights KFAC predictive, 64 images", "laplace:kfac_predict", {"laplace-torch": 100}
    ),
    "laplace-diag-fit": Task("all-weights diagonal GGN fit, 64 images", "laplace:diagonal_fit", {"laplace-torch": 100}),
    "dropout-lenet": Task(
        "MC Dropout, 100 samples, LeNet, 1,000 images", "sampling:dropout_lenet", {"torch-uncertainty": 15}, exact=False
    ),
    "dropout-mlp": Task(
        "MC Dropout, 100 samples, MLP, 10,000 images", "sampling:dropout_mlp", {"torch-uncertainty": 1.5}, exact=False
    ),
    "eigenvalues": Task(
        "top-10 Hessian eigenvalues, MLP, 500 images",
        "landscape:eigenvalues",
        {"PyHessian": 3.5, "curvlinops + eigsh": 5, "hessian-eigenthings": 1.5},
    ),
    "trace": Task("Hessian trace, 99 products, MLP, 500 images", "landscape:trace"),
    "plane": Task("51 x 51 loss plane, MLP, 1,000 images", "landscape:loss_plane", {"loss-landscapes": 4}, exact=False),
    "odin": Task("ODIN, LeNet, 10,000 images", "uncertainty:odin_scores", {"pytorch-ood": 1.3}, exact=False),
    "ece": Task("ECE of 10^6 x 10 probabilities", "uncertainty:ece", {"torchmetrics": 2, "netcal": 5}, exact=False),
    "detection": Task(
        "AUROC + AUPR + FPR95 + AURC of 10^6 scores (scikit-learn: three of the four)",
        "uncertainty:detection",
        {"scikit-learn": 1.2},
        exact=False,
    ),
    "ensemble": Task(
        "ensemble of 5, one epoch, MLP, 10,000 images", "sampling:ensemble", {"a plain loop": 1.0}, exact=False
    ),
}
