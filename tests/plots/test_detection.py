import numpy as np
import pytest
import torch

from coursekit import plots
from coursekit.uncertainty.detection import detection_metrics, risk_coverage


@pytest.fixture
def metrics(generator, device):
    positives = torch.rand(200, generator=generator) < 0.4
    scores = ((torch.randn(200, generator=generator) + positives) * 5).round() / 5  # with ties
    return detection_metrics(scores.to(device), positives.to(device))


def test_roc_encloses_its_area_and_marks_95_percent(metrics):
    ax = plots.detection.roc(metrics, label="score")
    chance, curve, point = ax.lines
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(metrics.auroc)
    assert float(point.get_xdata()[0]) == metrics.fpr95 and float(point.get_ydata()[0]) >= 0.95
    assert curve.get_label() == f"score AUROC {metrics.auroc:.3f}"
    plots.detection.roc(metrics, label="again", ax=ax)
    assert sum(line.get_label() == "chance" for line in ax.lines) == 1


@pytest.mark.parametrize("negatives", [False, True])
def test_precision_recall_steps_enclose_the_average_precision(metrics, negatives):
    ax = plots.detection.precision_recall(metrics, negatives=negatives)
    (curve,) = ax.lines
    recall, precision = curve.get_xdata(), curve.get_ydata()
    area = float(np.diff(recall) @ precision[1:])  # each step at the precision of its end
    assert area == pytest.approx(metrics.aupr_negative if negatives else metrics.aupr)
    assert curve.get_drawstyle() == "steps-pre" and recall[-1] == 1


def test_risk_coverage_ends_at_the_error_rate(generator, device):
    correct = torch.rand(100, generator=generator) < 0.8
    result = risk_coverage(torch.rand(100, generator=generator).to(device), correct.to(device))
    ax = plots.detection.risk_coverage_curve(result, label="MCP")
    (curve,) = ax.lines
    assert curve.get_xdata()[-1] == 1 and curve.get_ydata()[-1] == pytest.approx(1 - float(correct.float().mean()))
    assert curve.get_label() == f"MCP AURC {result.aurc:.4f}"


def test_score_histograms_share_bins_and_leave_infinite_scores_out(generator, device):
    inside = torch.randn(300, generator=generator).to(device)
    outside = torch.cat([torch.randn(300, generator=generator) - 2, torch.tensor([-torch.inf])]).to(device)
    ax = plots.detection.score_histograms({"in": inside, "out": outside}, bins=20, xlabel="energy")
    assert ax.get_legend_handles_labels()[1] == ["in", "out"]
    bars = [p for p in ax.patches if type(p).__name__ == "Rectangle"]
    assert len(bars) == 2 * 20
    for part in (bars[:20], bars[20:]):
        assert sum(b.get_height() * b.get_width() for b in part) == pytest.approx(1)
    assert [b.get_x() for b in bars[:20]] == [b.get_x() for b in bars[20:]]
    with pytest.raises(ValueError, match="no finite score"):
        plots.detection.score_histograms({"a": torch.tensor([torch.inf])})
