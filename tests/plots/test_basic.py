import re

import matplotlib.pyplot as plt
import pytest
import torch

from coursekit import plots
from coursekit.bayes.features import linear
from coursekit.bayes.linear import fit_linear
from coursekit.data import toy
from coursekit.predictive import CategoricalPredictive


@pytest.fixture
def fitted(generator, device):
    x, t = (v.to(device) for v in toy.hole(20, generator=generator))
    grid = torch.linspace(-5, 5, 50, dtype=torch.float64, device=device)
    posterior = fit_linear(linear(), x, t, alpha=2.0, beta=25.0)
    return x, t, grid, posterior


def test_predictive_band_draws_what_it_is_given(fitted):
    x, t, grid, posterior = fitted
    predictive = posterior.predict(grid)
    ax = plots.regression.predictive_band(grid, predictive, data=(x, t), truth=toy.line_truth(grid))
    mean, truth, dots = ax.lines
    torch.testing.assert_close(torch.as_tensor(mean.get_ydata()), predictive.mean.cpu())
    torch.testing.assert_close(torch.as_tensor(truth.get_ydata()), toy.line_truth(grid).cpu())
    assert len(dots.get_xdata()) == 20
    three = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert three.max() == pytest.approx(float((predictive.mean + 3 * predictive.std).max()))


def test_predictive_variance_splits_the_range_at_the_hole(fitted):
    x, _, grid, posterior = fitted
    ax = plots.regression.predictive_variance(grid, posterior.predict(grid), data=x)
    assert len(ax.patches) == 2
    torch.testing.assert_close(torch.as_tensor(ax.lines[0].get_ydata()), posterior.predict(grid).variance.cpu())


def test_weight_density_is_a_density_with_the_cross_at_the_truth(fitted):
    posterior = fitted[3]
    ax = plots.regression.weight_density(posterior.mean, posterior.covariance, truth=toy.LINE_WEIGHTS, steps=801)
    image = torch.as_tensor(ax.images[0].get_array())
    assert float(image.sum()) * (2 / 800) ** 2 == pytest.approx(1, abs=1e-3)
    row, column = divmod(int(image.argmax()), 801)
    assert -1 + column * 2 / 800 == pytest.approx(float(posterior.mean[0]), abs=2e-3)
    assert -1 + row * 2 / 800 == pytest.approx(float(posterior.mean[1]), abs=2e-3)
    assert (ax.lines[0].get_xdata()[0], ax.lines[0].get_ydata()[0]) == toy.LINE_WEIGHTS
    with pytest.raises(ValueError, match="two weights"):
        plots.regression.weight_density(torch.zeros(3), torch.eye(3))


@pytest.mark.parametrize("show", ["probability", "entropy", "mutual_information", "variation_ratio", "confidence"])
def test_decision_surface(show, generator, device):
    x, y = (v.to(device) for v in toy.blobs(40, generator=generator))

    def predict(points):
        p = torch.sigmoid(points.sum(1) * torch.tensor([[0.5], [2.0]], dtype=torch.float64, device=device))
        return CategoricalPredictive(torch.stack([1 - p, p], -1))

    ax = plots.classification.decision_surface(predict, x, y, show=show, steps=20)
    values = torch.as_tensor(ax.collections[0].get_array()).reshape(20, 20)
    if show == "probability":
        assert float(values[-1, -1]) > 0.9 > 0.1 > float(values[0, 0])
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        plots.classification.decision_surface(predict, torch.ones(3, 3), y)


def draw(n):
    figure, ax = plt.subplots()
    ax.plot([0, n])
    return figure


def test_slider_is_self_contained_and_accessible():
    widget = plots.frames.slider(draw, [1, 2, 3], label="n", alt='a line "rising"', start=1, dpi=40)
    page = widget._repr_html_()
    assert len(widget.images) == 3
    assert not re.search(r"https?://", page)
    assert 'alt="a line &quot;rising&quot; (n = 2)"' in page
    assert '<label for="' in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert plt.get_fignums() == []
    key = re.search(r'id="(ck-slider-[^"]+)"', page)[1]
    assert key not in widget._repr_html_()  # shown twice on a page: two ids


@pytest.mark.parametrize("change", [{"values": []}, {"values": range(61)}, {"alt": " "}, {"start": 3}])
def test_slider_refuses(change):
    arguments = {"values": [1, 2, 3], "label": "n", "alt": "a line", **change}
    with pytest.raises(ValueError, match="slider|alt|start"):
        plots.frames.slider(draw, arguments.pop("values"), **arguments)


def test_style_and_unknown_modules():
    plots.style.use()
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"][0] == plots.style.COLORS["blue"]
    with pytest.raises(AttributeError, match="its modules are"):
        plots.pie  # noqa: B018
