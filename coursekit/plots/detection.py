"""Detection: ROC, precision and recall, risk against coverage, and the scores of two sets side by side.

Call a function again with the same Axes to compare scores: each call adds a curve.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from coursekit.plots.regression import array
from coursekit.plots.style import COLORS
from coursekit.uncertainty.detection import DetectionMetrics, RiskCoverage


def roc(result: DetectionMetrics, *, label: str = "", ax: Axes | None = None) -> Axes:
    """True against false positive rate over all thresholds, with the AUROC and the point of 95 % TPR."""
    ax = ax or plt.gca()
    if not any(line.get_label() == "chance" for line in ax.lines):
        ax.plot([0, 1], [0, 1], "--", color=COLORS["black"], lw=1, label="chance")
    fpr, tpr = (np.concatenate([[0.0], array(rate)]) for rate in (result.fpr, result.tpr))
    (line,) = ax.plot(fpr, tpr, label=f"{label} AUROC {result.auroc:.3f}".strip())
    first = int(np.argmax(tpr >= 0.95))
    ax.plot(fpr[first], tpr[first], "o", ms=5, color=line.get_color())
    ax.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    ax.legend(loc="lower right", fontsize="small")
    return ax


def precision_recall(
    result: DetectionMetrics, *, negatives: bool = False, label: str = "", ax: Axes | None = None
) -> Axes:
    """Precision against recall over all thresholds, with the average precision: the area under these steps.

    Args:
        negatives: find the negatives by small scores (errors, foreign inputs) instead of the positives by large ones.
    """
    ax = ax or plt.gca()
    positives, others = array(result.true_positives), array(result.false_positives)
    if negatives:  # counts of scores <= threshold, from the smallest threshold up
        positives, others = (
            (n[-1] - np.concatenate([[0.0], n[:-1]]))[::-1] for n in (array(result.false_positives), positives)
        )
    area = result.aupr_negative if negatives else result.aupr
    precision, recall = positives / (positives + others), positives / positives[-1]
    # average precision takes for each step of recall the precision at its end
    ax.step(
        np.concatenate([[0.0], recall]),
        np.concatenate([precision[:1], precision]),
        where="pre",
        label=f"{label} AUPR {area:.3f}".strip(),
    )
    ax.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    ax.legend(loc="lower left", fontsize="small")
    return ax


def risk_coverage_curve(result: RiskCoverage, *, label: str = "", ax: Axes | None = None) -> Axes:
    """Share of errors among the most confident inputs, against the share of inputs answered; lower is better."""
    ax = ax or plt.gca()
    ax.plot(array(result.coverage), array(result.risk), label=f"{label} AURC {result.aurc:.4f}".strip())
    ax.set(xlabel="coverage: share of inputs answered", ylabel="selective risk: share of errors", xlim=(0, 1))
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper left", fontsize="small")
    return ax


def score_histograms(
    scores: dict[str, Tensor], *, bins: int = 40, xlabel: str = "score", ax: Axes | None = None
) -> Axes:
    """Densities of the scores of several sets in common bins, in-distribution first.

    Args:
        scores: name -> (N,) scores; infinite ones are left out of the picture.
    """
    ax = ax or plt.gca()
    finite = {name: values[np.isfinite(values)] for name, values in ((n, array(s)) for n, s in scores.items())}
    drawn = np.concatenate(list(finite.values()))
    if drawn.size == 0:
        raise ValueError("no finite score to draw")
    edges = np.histogram_bin_edges(drawn.astype(float), bins)
    palette = [COLORS[c] for c in ("blue", "orange", "green", "purple", "amber", "sky")]
    for k, (name, values) in enumerate(finite.items()):
        color = palette[k % len(palette)]
        ax.hist(values, edges, density=True, color=color, alpha=0.3)
        ax.hist(values, edges, density=True, color=color, histtype="step", lw=1.5, label=name)
    ax.set(xlabel=xlabel, ylabel="density")
    ax.legend(fontsize="small")
    return ax
