import numpy as np
import pytest
import torch

from coursekit import plots
from coursekit.predictive import NormalPredictive
from coursekit.uncertainty.calibration import adaptive_reliability, reliability
from coursekit.uncertainty.regression import calibration_curve


@pytest.mark.parametrize("method", [reliability, adaptive_reliability])
def test_reliability_diagram_shows_each_full_bin(method, generator, device):
    logits = 2 * torch.randn(500, 3, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    result = method(logits.softmax(1).to(device), labels.to(device), bins=10)
    ax = plots.calibration.reliability_diagram(result, label="net")
    full = (result.counts > 0).cpu()
    diagonal, curve = ax.lines
    np.testing.assert_array_equal(curve.get_xdata(), result.confidence.cpu()[full].numpy())
    np.testing.assert_array_equal(curve.get_ydata(), result.accuracy.cpu()[full].numpy())
    assert curve.get_label() == f"net: ECE {result.ece:.3f}"
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx((result.counts / 500).tolist()) and sum(heights) == pytest.approx(1)
    assert [bar.get_x() for bar in ax.patches] == pytest.approx(result.edges[:-1].tolist())
    gaps = [tuple(part[:, 1]) for group in ax.collections for part in group.get_segments()]
    drawn = sorted(abs(high - low) for low, high in gaps)
    assert drawn == pytest.approx(sorted(result.gaps[result.counts > 0].abs().tolist()))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("confidence", "accuracy")


def test_coverage_curves_share_one_diagonal(device):
    predictive = NormalPredictive(torch.zeros(1, 50, device=device), torch.ones(1, 50, device=device))
    levels = torch.linspace(0.1, 0.9, 9)
    observed = calibration_curve(predictive, torch.linspace(-2, 2, 50).to(device), levels=levels)
    ax = plots.calibration.coverage_curve(levels, observed, label="a")
    plots.calibration.coverage_curve(levels, observed, label="b", ax=ax)
    assert [line.get_label() for line in ax.lines] == ["calibrated", "a", "b"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), observed.cpu().numpy())
