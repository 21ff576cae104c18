r"""Failure prediction: will this prediction be wrong? Scores of confidence, larger meaning more likely right.

The target is the true class probability :math:`\mathrm{TCP}(x) = p(y \mid x)` of the label y. It needs the label, so it
can only be learned (ConfidNet). What it has over the largest probability MCP: above 1/2 the prediction is right, below
1/C it is wrong, while MCP may be large either way.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coursekit._frozen import evaluation_mode
from coursekit.device import seeded
from coursekit.nets import MLP
from coursekit.predictive import CategoricalUncertainty
from coursekit.train import supervised, train
from coursekit.uncertainty._checks import check_categorical, check_flags, check_labels, check_probs, check_scores
from coursekit.uncertainty._model import run_features
from coursekit.uncertainty.detection import DetectionMetrics, RiskCoverage, detection_metrics, selective_risk


def true_class_probability(probs: Tensor, labels: Tensor) -> Tensor:
    """(N,) probability of the label: above 1/2 the prediction is right, below 1/C it is wrong.

    Args:
        probs: (N, C) probabilities.
        labels: (N,) classes in 0 .. C-1.

    Raises:
        TypeError, ValueError: no probabilities (NaN, logits, wrong shape), a label out of range, devices that differ.

    >>> true_class_probability(torch.tensor([[0.75, 0.25]]), torch.tensor([1])).tolist()
    [0.25]
    """
    probs = check_probs(probs)
    return probs.gather(1, check_labels(labels, probs)[:, None]).squeeze(1)


def max_class_probability(probs: Tensor) -> Tensor:
    """(N,) largest probability, in [1/C, 1]; errors as in :func:`true_class_probability`.

    >>> max_class_probability(torch.tensor([[0.75, 0.25]])).tolist()
    [0.75]
    """
    return check_probs(probs).amax(1)


def confidence_scores(predictive: CategoricalUncertainty) -> dict[str, Tensor]:
    """The confidences (N,) that a Bayesian predictive gives by itself, by name; larger means surer, for all of them.

    ``"MCP"`` the largest mean probability, ``"entropy"`` minus the entropy of the mean in nats, ``"variation ratio"``
    one minus it (the share of the most voted class), ``"mutual information"`` minus it in nats.

    Args:
        predictive: what a posterior over classes predicts: a ``CategoricalPredictive`` or an ``EvidentialCategorical``.

    Raises:
        TypeError: anything else; for probabilities (N, C) without samples write ``CategoricalPredictive(probs[None])``.

    >>> from coursekit.predictive import CategoricalPredictive
    >>> p = CategoricalPredictive(torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]))
    >>> {name: score.item() for name, score in confidence_scores(p).items()}
    {'MCP': 1.0, 'entropy': -0.0, 'variation ratio': 1.0, 'mutual information': -0.0}
    """
    check_categorical(predictive)
    return {
        "MCP": predictive.confidence,
        "entropy": -predictive.entropy,
        "variation ratio": 1 - predictive.variation_ratio,
        "mutual information": -predictive.mutual_information,
    }


@dataclass(frozen=True)
class FailureMetrics:
    """What a confidence is worth: the ranking of right against wrong predictions, and the selective risk.

    Attributes:
        detection: right predictions as positives: its ``.auroc``, ``.fpr95`` (errors accepted when 95 % of the right
            predictions are) and curves.
        selective: risk against coverage, with ``.aurc`` and ``.eaurc``.
    """

    detection: DetectionMetrics
    selective: RiskCoverage

    @property
    def aupr_error(self) -> float:
        """Average precision of finding the errors by small confidences: the metric to read when errors are rare."""
        return self.detection.aupr_negative

    @property
    def aupr_success(self) -> float:
        """Average precision of finding the right predictions by large confidences."""
        return self.detection.aupr


def failure_metrics(confidence: Tensor, correct: Tensor) -> FailureMetrics:
    """All metrics of failure prediction from one sort; arguments and errors as in ``detection_metrics``.

    >>> m = failure_metrics(torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, True, False, False]))
    >>> m.detection.auroc, m.aupr_error, m.selective.eaurc
    (1.0, 1.0, 0.0)
    """
    confidence = check_scores("confidence", confidence)
    correct = check_flags("correct", correct, confidence)
    detection = detection_metrics(confidence, correct)
    answered = detection.true_positives + detection.false_positives
    return FailureMetrics(detection, selective_risk(answered, detection.false_positives))


@dataclass(frozen=True)
class TrustScore:
    """Distances to the training features of each class; call it with inputs (N, ...) to get scores (N,)."""

    model: nn.Module
    features: tuple[Tensor, ...]
    batch_size: int

    def __call__(self, x: Tensor) -> Tensor:
        """(N,) distance to the nearest other class over the distance to the predicted class; in [0, infinity]."""
        features, logits = run_features(self.model, x, self.batch_size)
        distance = torch.stack(
            [
                torch.cat([_distances(batch, own).amin(1) for batch in features.split(self.batch_size)])
                for own in self.features
            ],
            dim=1,
        )
        predicted = logits.argmax(1, keepdim=True)
        near = distance.gather(1, predicted).squeeze(1)
        far = distance.scatter(1, predicted, torch.inf).amin(1)
        return torch.where(near == far, torch.ones_like(near), far / near)  # 0/0: as near to one as to the other


def fit_trust_score(
    model: nn.Module, x: Tensor, y: Tensor, *, drop: float = 0.0, neighbors: int = 10, batch_size: int = 200
) -> TrustScore:
    """Keep the training features of each class, without its outliers, to measure distances to. See Jiang et al. 2018.

    Exact distances in the space of penultimate features; O(N M) memory for the features.

    Args:
        model: classifier; run in evaluation mode and left as it was.
        x, y: (N, ...) training inputs and (N,) labels.
        drop: share of each class to leave out: the points with the largest distance to their ``neighbors``-th nearest.

    Returns:
        a :class:`TrustScore`: call it with inputs to get scores, larger meaning more likely right.

    Raises:
        TypeError, ValueError: inputs that do not fit, a class without enough examples, drop outside [0, 1).

    Example: a point on the training point of its predicted class is infinitely trusted.

    >>> net = MLP(1, 2, depth=0)
    >>> _ = net.head.weight.data.copy_(torch.tensor([[-1.0], [1.0]])), net.head.bias.data.zero_()
    >>> score = fit_trust_score(net, torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]))
    >>> score(torch.tensor([[1.0], [0.5]])).tolist()
    [inf, 3.0]
    """
    if not 0 <= drop < 1 or neighbors < 1:
        raise ValueError(f"drop={drop} must lie in [0, 1) and neighbors={neighbors} be at least 1")
    features, logits = run_features(model, x, batch_size)
    y = check_labels(y, logits)
    kept = []
    for c in range(logits.shape[1]):
        own = features[y == c]
        if len(own) <= (neighbors if drop else 0):
            raise ValueError(f"class {c} has {len(own)} examples; drop={drop} needs more than neighbors={neighbors}")
        if drop:
            radius = torch.cat(
                [_distances(part, own).kthvalue(neighbors + 1, dim=1).values for part in own.split(batch_size)]
            )  # + 1: each point is its own nearest
            own = own[radius.argsort(stable=True)[: len(own) - int(drop * len(own))]]
        kept.append(own)
    return TrustScore(model, tuple(kept), batch_size)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) by differences: |a|^2 - 2ab + |b|^2 does not vanish at a = b."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class ConfidNet:
    """A classifier with a learned estimate of its true class probability; call it with inputs to get it.

    Attributes:
        validation_losses: mean squared error to TCP on the validation split after each epoch.
        epoch: the epoch, from 1, whose head was kept: the smallest of these losses.
    """

    model: nn.Module
    head: nn.Module
    validation_losses: tuple[float, ...]
    epoch: int
    batch_size: int

    def __call__(self, x: Tensor) -> Tensor:
        """(N,) estimated probability of the true class, in [0, 1]: larger means more likely right."""
        features, _ = run_features(self.model, x, self.batch_size)
        with evaluation_mode(self.head), torch.no_grad():
            return self.head(features).squeeze(1).sigmoid()


def fit_confidnet(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    validation: float = 0.1,
    epochs: int = 50,
    width: int = 400,
    depth: int = 4,
    learning_rate: float = 1e-4,
    batch_size: int = 100,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> ConfidNet:
    r"""Learn the true class probability of a frozen classifier from its penultimate features (Corbière et al. 2019).

    .. math:: \min_w \frac1N\sum_n \big(\sigma(h_w(\phi(x_n))) - p(y_n \mid x_n)\big)^2

    The classifier runs once over the data, in evaluation mode, so dropout does not blur features or targets; only the
    head h, a perceptron with ``depth`` hidden layers of ``width`` units, is trained, by Adam. The head of the epoch
    with the smallest loss on a random share of the data, held out from training, is kept: the test set has no part.

    Args:
        model: classifier that returns logits; it is left as it was.
        x, y: (N, ...) inputs and (N,) labels. If the classifier makes hardly an error on its own training data there
            is little to learn from them: hand over data that it has not seen.
        validation: share of the data that selects the epoch.
        generator: of any device; draws the split, the first weights and the minibatches; ``None``: a fresh one of
            seed 0.

    Raises:
        TypeError, ValueError: inputs that do not fit, a label out of range, or a share that leaves a side empty.

    >>> net = MLP(2, 3)
    >>> confidnet = fit_confidnet(net, torch.randn(50, 2), torch.arange(50) % 3, epochs=2, width=8, progress=False)
    >>> confidnet(torch.randn(5, 2)).shape
    torch.Size([5])
    """
    features, logits = run_features(model, x, batch_size=200)
    target = true_class_probability(logits.softmax(1), y)
    held_out = round(validation * len(x))
    if not 0 < held_out < len(x):
        raise ValueError(f"validation={validation} of {len(x)} inputs leaves one side of the split empty")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    check, fit = order[:held_out], order[held_out:]
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    with seeded(seed):  # the layers draw their first weights from the global generator
        head = MLP(features.shape[1], 1, width=width, depth=depth).to(features)

    def loss(u: Tensor, tcp: Tensor) -> Tensor:
        return F.mse_loss(u.squeeze(1).sigmoid(), tcp)

    losses: list[float] = []
    best: dict[str, Tensor] = {}

    def select(epoch: int, head: nn.Module) -> None:
        with evaluation_mode(head), torch.no_grad():
            losses.append(float(loss(head(features[check]), target[check])))
        if losses[-1] == min(losses):
            best.update({name: value.clone() for name, value in head.state_dict().items()})

    with torch.inference_mode(False), torch.enable_grad():
        train(
            head,
            supervised(loss),
            features[fit],
            target[fit],
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            generator=generator,
            progress=progress,
            on_epoch=select,
        )
    head.load_state_dict(best)
    return ConfidNet(model, head.eval(), tuple(losses), losses.index(min(losses)) + 1, 200)
