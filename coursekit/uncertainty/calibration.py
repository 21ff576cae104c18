r"""Whether probabilities mean what they say: reliability, calibration errors, proper scores, temperature scaling.

Convention of the bins, here and in Guo et al. 2017: bin b of B holds the confidences in the *half-open interval*
:math:`(\frac{b-1}B, \frac bB]`, closed on the right; the first bin also holds 0. A confidence of exactly 1 therefore
belongs to the last bin like any other. Sums run in float64. Confidence is the largest probability, and the prediction
the first class that has it.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from coursekit._inputs import check_count
from coursekit.uncertainty._checks import (
    check_labels,
    check_logits,
    check_probs,
    look_like_probabilities,
    sum_tolerance,
)

_BLOCK = 65536  # rows at a time on the CPU: what is computed of them stays in the cache


@dataclass(frozen=True)
class Reliability:
    r"""A reliability diagram: for each bin how many predictions, how sure, how often right.

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{N}\,|\mathrm{acc}_b - \mathrm{conf}_b|, \qquad
        \mathrm{MCE} = \max_{b:\,n_b>0} |\mathrm{acc}_b - \mathrm{conf}_b|.

    Attributes:
        edges: (B+1,) float64 borders of the bins.
        counts: (B,) int64 number of predictions in each bin.
        confidence: (B,) float64 mean confidence; NaN in an empty bin.
        accuracy: (B,) float64 share of right predictions; NaN in an empty bin.
    """

    edges: Tensor
    counts: Tensor
    confidence: Tensor
    accuracy: Tensor

    @cached_property
    def gaps(self) -> Tensor:
        """(B,) accuracy minus confidence: negative where the model is overconfident; NaN in an empty bin."""
        return self.accuracy - self.confidence

    @cached_property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1]; of a perfect model it is not 0, see :func:`calibrated_ece`."""
        return float((self.counts * self.gaps.abs().nan_to_num(0)).sum() / self.counts.sum())

    @cached_property
    def mce(self) -> float:
        """Maximum calibration error, in [0, 1]: the largest gap of a bin that is not empty."""
        return float(self.gaps.abs().nan_to_num(0).max())


def reliability(probs: Tensor, labels: Tensor, *, bins: int = 15) -> Reliability:
    """The reliability diagram of the predicted class in equal-width bins, with ``.ece`` and ``.mce``.

    O(N C) time; on the CPU in blocks, so that memory beside the input stays small.

    Args:
        probs: (N, C) probabilities.
        labels: (N,) classes in 0 .. C-1.
        bins: number of bins B; bin b is ((b-1)/B, b/B], the first with 0.

    Raises:
        TypeError, ValueError: no probabilities (NaN, logits, wrong shape), a label out of range, devices that differ,
            or bins < 1.

    Example: two sure predictions, one right; the confidence 1.0 is in the last bin.

    >>> r = reliability(torch.tensor([[1.0, 0.0], [0.95, 0.05]]), torch.tensor([0, 1]), bins=10)
    >>> r.counts.tolist(), round(r.ece, 6)
    ([0, 0, 0, 0, 0, 0, 0, 0, 0, 2], 0.475)
    """
    probs, labels = _check(probs, labels)
    edges = _edges(bins, probs.device)
    slots = torch.zeros(2 * (bins + 2), 2, dtype=torch.float64, device=probs.device)
    rows = _BLOCK if probs.device.type == "cpu" else len(probs)
    for some, their_labels in zip(probs.split(rows), labels.split(rows), strict=True):
        confidence, correct = _confidence_and_correct(some, their_labels)
        slots += _tally(confidence, correct, _slot(confidence, edges), bins)
    return _reliability(slots, edges)


def adaptive_reliability(probs: Tensor, labels: Tensor, *, bins: int = 15) -> Reliability:
    """The reliability diagram in bins that hold (nearly) the same number of predictions; its ``.ece`` is adaptive.

    The borders are quantiles of the confidences, each the largest confidence of its bin; equal confidences share a
    bin, so the result does not depend on the order of the inputs. With many ties some bins are empty.

    Arguments and errors as in :func:`reliability`.

    >>> p = torch.tensor([0.6, 0.7, 0.8, 0.9])
    >>> r = adaptive_reliability(torch.stack([p, 1 - p], -1), torch.tensor([0, 1, 0, 0]), bins=2)
    >>> r.counts.tolist(), r.accuracy.tolist()
    ([2, 2], [0.5, 1.0])
    """
    confidence, correct = _confidence_and_correct(*_check(probs, labels))
    check_count("bins", bins)
    ordered = confidence.sort().values.to(torch.float64)
    last = (torch.arange(1, bins + 1, device=ordered.device) * len(ordered) + bins - 1) // bins - 1
    edges = torch.cat([ordered[:1], ordered[last]])
    return _reliability(_tally(confidence, correct, _search(confidence, edges), bins), edges)


def classwise_ece(probs: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    r"""Mean over the classes of the calibration error of each class probability (not only the largest).

    .. math:: \frac1C\sum_c\sum_b \frac1N\Big|\sum_{n:\,p_{nc}\in b} (\mathbb 1[y_n = c] - p_{nc})\Big|

    Arguments and errors as in :func:`reliability`; memory O(N C). See Kull et al. 2019.

    Example: class 0 is predicted with 0.8 and occurs always: both classes are 0.2 off.

    >>> round(classwise_ece(torch.tensor([[0.8, 0.2]]), torch.tensor([0])), 6)
    0.2
    """
    probs, labels = _check(probs, labels)
    classes = probs.shape[1]
    slot = _slot(probs, _edges(bins, probs.device)).clamp_(1, bins) - 1
    slot += bins * torch.arange(classes, device=probs.device)
    excess = torch.nn.functional.one_hot(labels, classes) - probs.to(torch.float64)
    sums = torch.bincount(slot.flatten(), excess.flatten(), minlength=bins * classes)
    return float(sums.abs().sum() / probs.numel())


def calibrated_ece(probs: Tensor, *, bins: int = 15) -> float:
    r"""About the ECE that a *perfectly calibrated* model with these probabilities shows on N inputs; it is not zero.

    If each prediction is right with probability equal to its confidence p, the gap of a bin times its count is a sum
    of :math:`n_b` centred Bernoulli variables, whose mean absolute value tends to that of a normal law:

    .. math:: \frac1N\sum_b \sqrt{\tfrac2\pi \textstyle\sum_{n \in b} p_n(1-p_n)}.

    Arguments and errors as in :func:`reliability`.

    Example: N predictions of confidence 1/2 in one bin: sqrt(1 / (2 pi N)).

    >>> round(calibrated_ece(torch.full((10_000, 2), 0.5)), 6)
    0.003989
    """
    confidence = check_probs(probs).amax(1)
    slot = _slot(confidence, _edges(bins, confidence.device)).clamp_(1, bins) - 1
    p = confidence.to(torch.float64).clamp_max(1)
    spread = torch.bincount(slot, p * (1 - p), minlength=bins)
    return float((2 / torch.pi * spread).sqrt().sum() / len(p))


def brier_score(probs: Tensor, labels: Tensor) -> float:
    r"""Mean squared distance of the probabilities to the one-hot label, in [0, 2].

    .. math:: \frac1N\sum_n\sum_c (p_{nc} - \mathbb 1[y_n=c])^2

    The sum runs over all classes (see Brier 1950); for two classes it is twice the squared error of one probability.

    Raises:
        TypeError, ValueError: as in :func:`reliability`.

    >>> round(brier_score(torch.tensor([[0.8, 0.2]]), torch.tensor([0])), 6)
    0.08
    """
    probs, labels = _check(probs, labels)
    p = probs.to(torch.float64)
    true = p.gather(1, labels[:, None]).squeeze(1)
    return float((p.square().sum(1) - 2 * true + 1).mean())


def negative_log_likelihood(probs: Tensor, labels: Tensor) -> float:
    r"""Mean of :math:`-\log p_{n,y_n}` in nats; infinite if a label was given probability 0.

    Raises:
        TypeError, ValueError: as in :func:`reliability`.

    >>> round(negative_log_likelihood(torch.tensor([[0.25, 0.75]]), torch.tensor([0])), 6)
    1.386294
    """
    probs, labels = _check(probs, labels)
    return float(-probs.gather(1, labels[:, None]).to(torch.float64).log().mean())


def fit_temperature(logits: Tensor, labels: Tensor, *, tol: float = 1e-10) -> Tensor:
    r"""The temperature T that makes softmax(logits / T) most likely: the optimum of a convex problem, by Newton.

    In :math:`\beta = 1/T` the mean negative log-likelihood
    :math:`\ell(\beta) = \frac1N\sum_n [\log\sum_c e^{\beta z_{nc}} - \beta z_{n,y_n}]` is convex, with

    .. math::
        \ell'(\beta) = \frac1N\sum_n (\mathrm E_{p_n}[z_n] - z_{n,y_n}), \qquad
        \ell''(\beta) = \frac1N\sum_n \mathrm{Var}_{p_n}[z_n] \ge 0, \qquad p_n = \mathrm{softmax}(\beta z_n).

    A Newton step that leaves the bracket of the root is replaced by a bisection, so the search cannot fail. Dividing by
    T > 0 leaves every predicted class as it was. Fit on validation data, never on the test set. See Guo et al. 2017.

    Args:
        logits: (N, C).
        labels: (N,) classes in 0 .. C-1.
        tol: stop when the relative change of 1/T is below it.

    Returns:
        T, a scalar tensor of the dtype and on the device of ``logits``.

    Raises:
        TypeError, ValueError: no finite logits, a label out of range, devices that differ; or no optimum with
            0 < T < infinity: every label has the largest logit (T tends to 0), or the logits do no better than chance.

    Example: logits (0, a) and labels of which 3 in 4 are class 1: the best p is 3/4, so a / T = log 3.

    >>> z = torch.tensor([0.0, 5.0], dtype=torch.float64).expand(4, 2)
    >>> t = fit_temperature(z, torch.tensor([1, 1, 1, 0]))
    >>> round(float(torch.exp(5.0 / t)), 9)
    3.0
    """
    z = check_logits(logits).detach().to(torch.float64)
    labels = check_labels(labels, z)
    if look_like_probabilities(logits):
        raise ValueError(
            "the rows of logits lie in [0, 1] and sum to 1: these are probabilities; give logits, or probs.log()"
        )
    z = z - z.mean(1, keepdim=True)  # changes no probability, and keeps the sums small
    true = z.gather(1, labels[:, None]).squeeze(1)
    if bool((true == z.amax(1)).all()):
        raise ValueError(
            "every label has the largest logit, so the likelihood grows as T tends to 0: use data with errors"
        )
    if float(true.mean()) <= 0:
        raise ValueError(
            "the logits of the labels are on average no larger than the others: no finite T is best; "
            "check that labels belong to logits"
        )

    def derivatives(beta: float) -> tuple[float, float]:
        p = torch.softmax(beta * z, 1)
        mean = (p * z).sum(1)
        return float((mean - true).mean()), float(((p * z * z).sum(1) - mean.square()).mean())

    low, high, beta = 0.0, float("inf"), 1.0
    for _ in range(200):
        slope, curvature = derivatives(beta)
        step = slope / curvature if curvature > 0 else float("inf")
        if abs(step) <= tol * beta:
            beta -= step
            break
        low, high = (beta, high) if slope < 0 else (low, beta)
        if low < beta - step < min(high, 8 * beta):
            beta -= step
        else:
            beta = 2 * beta if high == float("inf") else (low + high) / 2
    return torch.tensor(1 / beta, dtype=logits.dtype, device=logits.device)


def _check(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    probs = check_probs(probs)
    return probs, check_labels(labels, probs)


def _confidence_and_correct(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The largest probability, and whether it is the label's; among equals the first class is predicted.

    Faster than ``probs.max(1)``, whose search for indices is slow: only a label that has the largest probability can
    tie with another class, and no two classes have more than half of a row that sums to one.
    """
    confidence = probs.amax(1)
    correct = probs.gather(1, labels[:, None]).squeeze(1) == confidence
    doubtful = (correct & (confidence <= 0.5 + sum_tolerance(probs))).nonzero().squeeze(1)
    if len(doubtful):
        tied = doubtful[(probs[doubtful] == confidence[doubtful, None]).sum(1) > 1]
        correct[tied] = probs[tied].argmax(1) == labels[tied]
    return confidence, correct


def _edges(bins: int, device: torch.device) -> Tensor:
    check_count("bins", bins)
    return torch.arange(bins + 1, dtype=torch.float64, device=device) / bins


def _slot(values: Tensor, edges: Tensor) -> Tensor:
    """1 .. B for the equal-width bin of each value; 0 for the value 0, B+1 for a rounding above 1."""
    if values.dtype == torch.float64:
        return _search(values, edges)
    # The product of a shorter float and a small integer is exact in float64: the same bins, several times faster.
    return (values.to(torch.float64) * (len(edges) - 1)).ceil_().to(torch.int64)


def _search(values: Tensor, edges: Tensor) -> Tensor:
    """The index i with edges[i-1] < value <= edges[i]."""
    return torch.bucketize(values.to(torch.float64), edges)


def _tally(confidence: Tensor, correct: Tensor, slot: Tensor, bins: int) -> Tensor:
    """(2 (B+2), 2): count and sum of confidence of the wrong and the right predictions of each slot, in turn."""
    slot = torch.add(correct, slot, alpha=2)
    size = 2 * (bins + 2)
    counts = torch.bincount(slot, minlength=size)
    return torch.stack(
        [counts.to(torch.float64), torch.bincount(slot, confidence.to(torch.float64), minlength=size)], 1
    )


def _reliability(slots: Tensor, edges: Tensor) -> Reliability:
    tally = slots.view(len(edges) + 1, 2, 2)
    tally[1] += tally[0]  # 0 belongs to the first bin,
    tally[-2] += tally[-1]  # a rounding above 1 to the last
    tally = tally[1:-1]
    counts = tally[:, :, 0].sum(1)
    return Reliability(edges, counts.to(torch.int64), tally[:, :, 1].sum(1) / counts, tally[:, 1, 0] / counts)
