import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from coursekit.uncertainty.detection import chance_aupr, detection_metrics, risk_coverage

# Scores from few values, so that ties are the rule; both kinds present.
scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({flag for _, flag in pairs}) == 2
)


def split(pairs):
    scores, flags = zip(*pairs, strict=True)
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(flags)


def sklearn_metrics(scores: torch.Tensor, positives: torch.Tensor) -> list[float]:
    s, p = scores.cpu().numpy(), positives.cpu().numpy()
    fpr, tpr, _ = roc_curve(p, s)
    return [
        roc_auc_score(p, s),
        average_precision_score(p, s),
        average_precision_score(~p, -s),
        fpr[np.argmax(tpr >= 0.95)],
    ]


def ours(scores, positives) -> list[float]:
    m = detection_metrics(scores, positives)
    return [m.auroc, m.aupr, m.aupr_negative, m.fpr95]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("digits", [None, 2])
def test_equal_to_scikit_learn(dtype, digits, generator, device):
    positives = torch.rand(20_000, generator=generator) < 0.3
    scores = torch.randn(20_000, generator=generator, dtype=dtype) + positives
    if digits:
        scores = (scores * 10**digits).round() / 10**digits  # ties
    assert ours(scores.to(device), positives.to(device)) == pytest.approx(sklearn_metrics(scores, positives), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(scored)
def test_with_ties_equal_to_scikit_learn_and_to_counting_pairs(pairs):
    scores, positives = split(pairs)
    assert ours(scores, positives) == pytest.approx(sklearn_metrics(scores, positives), abs=1e-12)
    difference = scores[positives][:, None] - scores[~positives]
    wins = (difference > 0).double() + 0.5 * (difference == 0).double()
    assert detection_metrics(scores, positives).auroc == pytest.approx(float(wins.mean()), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(scored, st.randoms(use_true_random=False))
def test_invariant_under_order_and_increasing_maps_and_in_range(pairs, random):
    scores, positives = split(pairs)
    expected = ours(scores, positives)
    assert all(0 <= value <= 1 for value in expected)
    random.shuffle(pairs)
    shuffled, flags = split(pairs)
    assert ours(shuffled, flags) == pytest.approx(expected, abs=1e-14)
    assert ours(shuffled.exp(), flags) == pytest.approx(expected, abs=1e-14)
    # the negatives are the positives of the negated scores
    swapped = detection_metrics(-scores, ~positives)
    assert (swapped.auroc, swapped.aupr) == pytest.approx((expected[0], expected[2]), abs=1e-14)


def test_fpr95_is_that_of_the_first_threshold_that_reaches_95_percent():
    # 20 positives; 18 (90 %) lie above every negative, then one negative before each of the last two. The point nearest
    # to 95 % in a coarser list, or a scan of thresholds within 94.95 to 95.05 %, would give another answer or none.
    scores = torch.cat([torch.arange(100.0, 82.0, -1.0), torch.tensor([80.0, 79.0, 78.0, 77.0])])
    positives = torch.tensor([True] * 18 + [False, True, False, True])
    assert detection_metrics(scores, positives).fpr95 == 0.5  # 19 of 20 is 95 %: reached after one of two negatives
    # three positives: no threshold is near 95 %; the first that reaches it accepts all three
    few = detection_metrics(torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([True, True, False, True]))
    assert few.fpr95 == 1.0
    assert float(few.tpr[1]) < 0.95  # at this threshold FPR would be 0, and wrong


def test_perfect_reversed_constant_and_infinite_scores():
    positives = torch.tensor([True, True, False])
    assert ours(torch.tensor([3.0, 2.0, 1.0]), positives) == [1, 1, 1, 0]
    assert detection_metrics(torch.tensor([1.0, 2.0, 3.0]), positives).auroc == 0
    constant = detection_metrics(torch.zeros(3), positives)
    assert (constant.auroc, constant.aupr, constant.aupr_negative, constant.fpr95) == (0.5, 2 / 3, 1 / 3, 1)
    assert detection_metrics(torch.tensor([math.inf, math.inf, -math.inf]), positives).auroc == 1


def test_average_precision_is_not_the_trapezoid():
    m = detection_metrics(torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([False, True, False, True]))
    assert m.aupr == (1 / 2 + 2 / 4) / 2
    recall, precision = torch.cat([torch.zeros(1), m.tpr]), torch.cat([torch.ones(1), m.precision])
    assert abs(float(torch.trapezoid(precision.double(), recall.double())) - m.aupr) > 0.05


def test_risk_coverage_against_a_loop(generator, device):
    confidence = torch.rand(500, generator=generator)
    correct = torch.rand(500, generator=generator) < confidence
    order = confidence.argsort(descending=True)
    errors = (~correct)[order].tolist()
    risks = [sum(errors[:i]) / i for i in range(1, 501)]
    perfect = sorted(errors)
    best = [sum(perfect[:i]) / i for i in range(1, 501)]
    result = risk_coverage(confidence.to(device), correct.to(device))
    assert result.aurc == pytest.approx(np.mean(risks), abs=1e-12)
    assert result.eaurc == pytest.approx(np.mean(risks) - np.mean(best), abs=1e-12)
    torch.testing.assert_close(result.risk.cpu(), torch.tensor(risks, dtype=torch.float64))
    torch.testing.assert_close(result.coverage.cpu(), torch.arange(1, 501, dtype=torch.float64) / 500)


def test_tied_confidences_count_as_the_mean_over_all_orders():
    confidence = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.1])
    correct = torch.tensor([True, False, True, False, True])
    from itertools import permutations

    means = []
    for order in permutations([1, 2, 3]):
        errors = (~correct)[[0, *order, 4]].double().cumsum(0) / torch.arange(1, 6)
        means.append(float(errors.mean()))
    assert risk_coverage(confidence, correct).aurc == pytest.approx(np.mean(means), abs=1e-14)


@settings(max_examples=60, deadline=None)
@given(scored, st.randoms(use_true_random=False))
def test_risk_invariant_under_order_and_in_range(pairs, random):
    confidence, correct = split(pairs)
    expected = risk_coverage(confidence, correct)
    assert 0 <= expected.eaurc <= expected.aurc <= 1
    assert float(expected.risk[-1]) == pytest.approx(1 - float(correct.double().mean()))
    random.shuffle(pairs)
    assert risk_coverage(*split(pairs)).aurc == pytest.approx(expected.aurc, abs=1e-14)


def test_risk_without_errors_and_with_nothing_else():
    assert risk_coverage(torch.rand(4), torch.ones(4, dtype=torch.bool)).aurc == 0
    result = risk_coverage(torch.rand(4), torch.zeros(4))
    assert (result.aurc, result.eaurc) == (1, 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 4))
def test_chance_aupr_is_the_mean_over_all_rankings(positives, others):  # claim B7.2
    from itertools import combinations

    total = positives + others
    values = []
    for ranks in combinations(range(1, total + 1), positives):
        values.append(np.mean([(k + 1) / rank for k, rank in enumerate(ranks)]))
    assert chance_aupr(positives, total) == pytest.approx(np.mean(values), abs=1e-12)


def test_chance_aupr_of_65_errors_among_10000(generator):  # claim B7.2
    assert chance_aupr(65, 10_000) == pytest.approx(0.00737, abs=5e-6)
    positives = torch.arange(10_000) < 65
    draws = torch.tensor(
        [detection_metrics(torch.rand(10_000, generator=generator), positives).aupr for _ in range(300)],
        dtype=torch.float64,
    )
    assert abs(float(draws.mean()) - chance_aupr(65, 10_000)) < 4 * float(draws.std()) / math.sqrt(300)
    with pytest.raises(ValueError, match="positives"):
        chance_aupr(0, 5)


@pytest.mark.parametrize("function", [detection_metrics, risk_coverage])
def test_bad_input_is_named(function):
    flags = torch.tensor([True, False])
    with pytest.raises(ValueError, match="NaN"):
        function(torch.tensor([math.nan, 1.0]), flags)
    with pytest.raises(ValueError, match="shape"):
        function(torch.zeros(0), flags[:0])
    with pytest.raises(ValueError, match="shape"):
        function(torch.zeros(3), flags)
    with pytest.raises(ValueError, match="shape"):
        function(torch.zeros(2, 1), flags)
    with pytest.raises(ValueError, match="zeros and ones"):
        function(torch.zeros(2), torch.tensor([0, 2]))
    with pytest.raises(TypeError, match="scores|confidence"):
        function([0.1, 0.2], flags)
    with pytest.raises(TypeError, match="positives|correct"):
        function(torch.zeros(2), [True, False])
    with pytest.raises(ValueError, match="device|meta"):
        function(torch.zeros(2), torch.zeros(2, dtype=torch.bool, device="meta"))


@pytest.mark.parametrize("kind", [True, False])
def test_detection_needs_both_kinds(kind):
    with pytest.raises(ValueError, match="no negative" if kind else "no positive"):
        detection_metrics(torch.rand(3), torch.full((3,), kind))
