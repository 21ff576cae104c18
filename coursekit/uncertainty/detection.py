r"""How well a score ranks: detection metrics and selective risk, each from one sort.

Larger scores mean *more positive* (more in-distribution, more likely right). A threshold accepts every input whose
score is at least the threshold, so inputs with equal scores are accepted together: no result depends on the order in
which ties come in. Counts are summed in float64, where they are exact up to 2^53.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from coursekit.uncertainty._checks import check_flags, check_scores


@dataclass(frozen=True)
class DetectionMetrics:
    r"""Counts at each distinct threshold, from the largest score down, and the metrics that follow from them.

    With P positives and M negatives, G distinct scores, and at threshold g the true positives :math:`t_g` and false
    positives :math:`f_g` (:math:`t_0 = f_0 = 0`):

    .. math::
        \mathrm{AUROC} = \frac1{PM}\sum_g (f_g - f_{g-1})\frac{t_g + t_{g-1}}2, \qquad
        \mathrm{AUPR} = \frac1P\sum_g (t_g - t_{g-1})\frac{t_g}{t_g + f_g}.

    AUPR is the average precision (a sum of steps, as in scikit-learn), not the trapezoid under the curve, which is
    too optimistic.

    Attributes:
        thresholds: (G,) distinct scores, decreasing.
        true_positives, false_positives: (G,) float64 counts of positives and negatives with a score >= threshold.
    """

    thresholds: Tensor
    true_positives: Tensor
    false_positives: Tensor

    @cached_property
    def tpr(self) -> Tensor:
        """(G,) true positive rate, also called recall."""
        return self.true_positives / self.true_positives[-1]

    @cached_property
    def fpr(self) -> Tensor:
        """(G,) false positive rate."""
        return self.false_positives / self.false_positives[-1]

    @cached_property
    def precision(self) -> Tensor:
        """(G,) share of positives among the accepted."""
        return self.true_positives / (self.true_positives + self.false_positives)

    @cached_property
    def auroc(self) -> float:
        """Probability that a random positive scores above a random negative, a tie counting one half."""
        area = _steps(self.false_positives) @ (self.true_positives - _steps(self.true_positives) / 2)
        return float(area / (self.true_positives[-1] * self.false_positives[-1]))

    @cached_property
    def aupr(self) -> float:
        """Average precision of the positives; see :func:`chance_aupr` for its value at random."""
        return float(_steps(self.true_positives) @ self.precision / self.true_positives[-1])

    @cached_property
    def aupr_negative(self) -> float:
        """Average precision when the negatives are to be found, by small scores."""
        negatives, positives = self.false_positives, self.true_positives
        found = negatives[-1] - (negatives - _steps(negatives))  # negatives with a score <= threshold
        mistaken = positives[-1] - (positives - _steps(positives))
        return float(_steps(negatives) @ (found / (found + mistaken)) / negatives[-1])

    @cached_property
    def fpr95(self) -> float:
        """False positive rate at the first threshold, from above, that accepts at least 95 % of the positives."""
        first = int((self.tpr < 0.95).sum())  # tpr never decreases
        return float(self.fpr[first])


@dataclass(frozen=True)
class RiskCoverage:
    r"""The selective risk: the share of errors among the inputs answered, when only the surest are answered.

    Answering the i most confident of N inputs makes :math:`e_i` errors, so the risk at coverage i/N is
    :math:`e_i / i`; :math:`\mathrm{AURC} = \frac1N\sum_i e_i/i`. Among equal confidences the order is random, and
    :math:`e_i` is its expectation: linear between the ends of the group.

    Attributes:
        coverage: (G,) share of inputs with a confidence >= threshold, at each distinct confidence, increasing.
        risk: (G,) share of errors among them.
        aurc: area under the risk-coverage curve; smaller is better.
        eaurc: aurc minus that of a perfect ranking of the same errors, >= 0 (Geifman, Uziel and El-Yaniv 2019 define
            it with an approximation of the second term; here the term is exact).
    """

    coverage: Tensor
    risk: Tensor
    aurc: float
    eaurc: float


def detection_metrics(scores: Tensor, positives: Tensor) -> DetectionMetrics:
    """AUROC, AUPR both ways, FPR at 95 % TPR and their curves; one sort, O(N log N) time, O(N) memory.

    Args:
        scores: (N,) larger means more positive; infinite values are fine, equal scores are tied.
        positives: (N,) booleans (or zeros and ones).

    Raises:
        TypeError: not tensors of real numbers.
        ValueError: shapes or devices that differ, NaN, no input, or only one of the two kinds.

    Example: of the four pairs (positive, negative) the score orders three: AUROC 3/4.

    >>> m = detection_metrics(torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, False, True, False]))
    >>> m.auroc, round(m.aupr, 6), m.fpr95
    (0.75, 0.833333, 0.5)
    """
    scores, positives = _check(scores, positives, "scores", "positives")
    thresholds, accepted, hits = _rank(scores, positives)
    if not 0 < float(hits[-1]) < len(scores):
        kind = "negative" if float(hits[-1]) else "positive"
        raise ValueError(f"there is no {kind} among {len(scores)} inputs: detection needs both kinds")
    return DetectionMetrics(thresholds, hits, accepted - hits)


def risk_coverage(confidence: Tensor, correct: Tensor) -> RiskCoverage:
    """Selective risk, AURC and E-AURC; one sort, O(N log N) time, O(N) memory.

    Args:
        confidence: (N,) larger means surer.
        correct: (N,) whether the prediction was right, booleans (or zeros and ones).

    Raises:
        TypeError: not tensors of real numbers.
        ValueError: shapes or devices that differ, NaN, no input.

    Example: one error, ranked last but one, costs 1/3 at rank 3 and 1/4 at rank 4.

    >>> r = risk_coverage(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([True, True, False, True]))
    >>> round(r.aurc, 6) == round((1 / 3 + 1 / 4) / 4, 6), round(r.eaurc, 6) == round((1 / 3 + 1 / 4 - 1 / 4) / 4, 6)
    (True, True)
    """
    confidence, correct = _check(confidence, correct, "confidence", "correct")
    _, answered, right = _rank(confidence, correct)
    return selective_risk(answered, answered - right)


def selective_risk(answered: Tensor, errors: Tensor) -> RiskCoverage:
    """The risk-coverage curve from the counts (G,) of answers and errors at each distinct confidence."""
    total, wrong = int(answered[-1]), int(errors[-1])
    ranks = torch.arange(1, total + 1, dtype=torch.float64, device=answered.device)
    if len(answered) == total:
        expected = errors
    else:  # ties: the expected errors grow linearly from one end of a group to the other
        size, lost = _steps(answered), _steps(errors)
        share = lost / size
        start = (errors - lost) - (answered - size) * share
        count = size.to(torch.int64)
        expected = start.repeat_interleave(count) + ranks * share.repeat_interleave(count)
    aurc = float((expected / ranks).mean())
    best = float((ranks[:wrong] / ranks[total - wrong :]).sum()) / total
    return RiskCoverage(answered / total, errors / answered, aurc, max(aurc - best, 0.0))


def chance_aupr(positives: int, total: int) -> float:
    r"""The expected average precision of a random ranking of R positives among N, which is not R/N.

    .. math:: \frac{R-1}{N-1} + \frac{N-R}{N(N-1)}\,H_N, \qquad H_N = \sum_{k=1}^N \frac1k.

    A rank k holds a positive with probability R/N, and then :math:`1 + (k-1)\frac{R-1}{N-1}` of the first k are
    expected to be positive; the sum over k of both divided by k R is the formula (see Bestgen 2015).

    Raises:
        ValueError: not 1 <= positives <= total.

    Example: 65 errors in 10,000.

    >>> round(chance_aupr(65, 10_000), 5), chance_aupr(1, 2), chance_aupr(5, 5)
    (0.00737, 0.75, 1.0)
    """
    if not 1 <= positives <= total:
        raise ValueError(f"positives={positives}, total={total}: expected 1 <= positives <= total")
    if total == 1:
        return 1.0
    harmonic = float(torch.arange(1, total + 1, dtype=torch.float64).reciprocal().sum())
    return (positives - 1) / (total - 1) + (total - positives) / (total * (total - 1)) * harmonic


def _check(scores: Tensor, flags: Tensor, scores_name: str, flags_name: str) -> tuple[Tensor, Tensor]:
    scores = check_scores(scores_name, scores)
    return scores, check_flags(flags_name, flags, scores)


def _rank(scores: Tensor, flags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct scores (G,), decreasing; float64 counts (G,) of inputs and of flags at or above each."""
    ordered, order = scores.sort(descending=True)
    last = torch.ones(len(scores), dtype=torch.bool, device=scores.device)  # the last of its group of equals
    torch.ne(ordered[1:], ordered[:-1], out=last[:-1])
    ends = last.nonzero().squeeze(1)
    return ordered[ends], (ends + 1).to(torch.float64), flags[order].cumsum(0, dtype=torch.float64)[ends]


def _steps(counts: Tensor) -> Tensor:
    """(G,) increase of a cumulative count at each threshold."""
    return torch.diff(counts, prepend=counts.new_zeros(1))
