"""ODIN, calibration and detection metrics beside pytorch-ood, torchmetrics, netcal and scikit-learn."""

import torch

from coursekit.bench.case import Agreement, Case
from coursekit.bench.cases.material import images, lenet
from coursekit.uncertainty.calibration import reliability
from coursekit.uncertainty.failure import failure_metrics
from coursekit.uncertainty.ood import odin


def odin_scores(device: torch.device, dtype: torch.dtype) -> Case:
    model = lenet(device, dtype)
    x, _ = images("train", 10000, device, dtype)

    def prepare():
        from pytorch_ood.detector import ODIN

        detector = ODIN(model, eps=0.0014, temperature=1000.0)
        return lambda: torch.cat([detector.predict(batch) for batch in x.split(500)])

    def compare(peer, ours, theirs):
        return Agreement("scores differ by", float((ours + theirs.detach()).abs().max()), 1e-6)  # it gives -score

    def ours():
        return odin(model, x, temperature=1000.0, epsilon=0.0014, batch_size=500)

    return Case(ours, {"pytorch-ood": prepare}, compare)


def ece(device: torch.device, dtype: torch.dtype) -> Case:
    generator = torch.Generator().manual_seed(0)
    probs = (2 * torch.randn(1_000_000, 10, generator=generator)).softmax(1).to(device, dtype)
    labels = torch.multinomial(probs.cpu().pow(0.7), 1, generator=generator)[:, 0].to(device)

    def torchmetrics():
        from torchmetrics.functional.classification import multiclass_calibration_error

        return lambda: multiclass_calibration_error(probs, labels, num_classes=10, n_bins=15, norm="l1")

    def netcal():
        from netcal.metrics import ECE

        p, y = probs.numpy(), labels.numpy()
        return lambda: ECE(15).measure(p, y)

    def compare(peer, ours, theirs):
        # One of them sums 10^6 terms in float32, ours in float64.
        bound = {"torchmetrics": 1e-5, "netcal": 1e-6}[peer]
        return Agreement("errors differ by", abs(float(ours) - float(theirs)), bound)

    return Case(
        lambda: reliability(probs, labels, bins=15).ece,
        {"torchmetrics": torchmetrics, "netcal": netcal},
        compare,
        bytes=probs.numel() * probs.element_size() + labels.numel() * labels.element_size(),
    )


def detection(device: torch.device, dtype: torch.dtype) -> Case:
    generator = torch.Generator().manual_seed(0)
    correct = (torch.rand(1_000_000, generator=generator) < 0.9).to(device)
    scores = torch.randn(1_000_000, generator=generator).to(device) + 1.5 * correct
    scores[::2] = (scores[::2] * 50).round() / 50  # half of them tied

    def ours():
        m = failure_metrics(scores, correct)
        return m.detection.auroc, m.detection.aupr, m.detection.fpr95, m.selective.aurc

    def prepare():
        from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

        s, y = scores.numpy(), correct.numpy()

        def call():
            fpr, tpr, _ = roc_curve(y, s)
            return roc_auc_score(y, s), average_precision_score(y, s), fpr[(tpr >= 0.95).argmax()]

        return call

    def compare(peer, mine, theirs):
        error = max(abs(a - b) for a, b in zip(mine[:3], theirs, strict=True))
        return Agreement("metrics differ by", float(error), 1e-9)

    bytes_ = scores.numel() * scores.element_size() + correct.numel()
    return Case(ours, {"scikit-learn": prepare}, compare, bytes=bytes_)
