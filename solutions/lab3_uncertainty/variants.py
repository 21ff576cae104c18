"""Answers to lab 3 that its checks must reject or accept."""

from coursekit.classroom.labs.variants import Variant


def wrong(question: str, name: str, source: str, loses: tuple[str, ...] = ()) -> Variant:
    return Variant(question, name, "wrong", source, loses or (f"{question}_test",))


def right(question: str, name: str, source: str) -> Variant:
    return Variant(question, name, "right", source)


VARIANTS = [
    # --- 1.1 Monte Carlo dropout
    wrong(
        "q1_1",
        "the published flag on the root",
        """
def mc_probabilities(model, x, samples):
    model.eval()
    model.training = True
    with torch.no_grad():
        probs = torch.stack([model(x).softmax(dim=1) for _ in range(samples)])
    model.training = False
    return probs
""",
    ),
    wrong(
        "q1_1",
        "everything in training mode",
        """
def mc_probabilities(model, x, samples):
    was = model.training
    model.train()
    with torch.no_grad():
        probs = torch.stack([model(x).softmax(dim=1) for _ in range(samples)])
    model.train(was)
    return probs
""",
    ),
    wrong(
        "q1_1",
        "left with dropout on",
        """
def mc_probabilities(model, x, samples):
    model.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.stack([model(x).softmax(dim=1) for _ in range(samples)])
""",
    ),
    wrong(
        "q1_1",
        "left in evaluation mode whatever it was",
        """
def mc_probabilities(model, x, samples):
    model.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    with torch.no_grad():
        probs = torch.stack([model(x).softmax(dim=1) for _ in range(samples)])
    model.eval()
    return probs
""",
    ),
    wrong(
        "q1_1",
        "logits instead of probabilities",
        """
import copy


def mc_probabilities(model, x, samples):
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.stack([model(x) for _ in range(samples)])
""",
    ),
    wrong(
        "q1_1",
        "softmax over the inputs",
        """
import copy


def mc_probabilities(model, x, samples):
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.stack([model(x).softmax(dim=0) for _ in range(samples)])
""",
    ),
    wrong(
        "q1_1",
        "the mean over the passes",
        """
def mc_probabilities(model, x, samples):
    return MCDropout(model).predict(x, samples=samples).mean
""",
    ),
    right(
        "q1_1",
        "on a deep copy",
        """
import copy


def mc_probabilities(model, x, samples):
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.stack([F.softmax(model(x), dim=-1) for _ in range(samples)])
""",
    ),
    right(
        "q1_1",
        "all passes in one batch",
        """
def mc_probabilities(model, x, samples):
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    model.apply(lambda m: m.train() if isinstance(m, torch.nn.Dropout) else None)
    many = x.repeat(samples, *[1] * (x.ndim - 1))
    probs = model(many).detach().softmax(dim=1).reshape(samples, len(x), -1)
    for name, module in model.named_modules():
        module.training = modes[name]
    return probs
""",
    ),
    wrong(
        "q1_1",
        "one mask for ten passes, repeated",
        """
from coursekit.nets import evaluation_mode


def mc_probabilities(model, x, samples):
    with evaluation_mode(model), torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.train()
        few = torch.stack([model(x).softmax(dim=1) for _ in range(10)])
    return few.repeat(samples // 10, 1, 1)
""",
    ),
    wrong(
        "q1_1",
        "NaN",
        """
def mc_probabilities(model, x, samples):
    return torch.full((samples, len(x), model(x).shape[1]), float("nan"))
""",
    ),
    right(
        "q1_1",
        "on a deep copy, in single precision and NumPy",
        """
import copy

import numpy as np


def mc_probabilities(model, x, samples):
    model = copy.deepcopy(model).eval().float()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    with torch.no_grad():
        return np.stack([model(x.float()).softmax(dim=1).cpu().numpy() for _ in range(samples)])
""",
    ),
    # --- 1.2 variation ratio
    wrong(
        "q1_2",
        "the share that does vote for it",
        """
def variation_ratio(probs):
    votes = F.one_hot(probs.argmax(dim=2), probs.shape[2]).sum(dim=0)
    return votes.amax(dim=1) / len(probs)
""",
    ),
    wrong(
        "q1_2",
        "one minus the largest mean probability",
        """
def variation_ratio(probs):
    return 1 - probs.mean(dim=0).amax(dim=1)
""",
    ),
    wrong(
        "q1_2",
        "votes for the class of the mean",
        """
def variation_ratio(probs):
    winner = probs.mean(dim=0).argmax(dim=1)
    return (probs.argmax(dim=2) != winner).to(probs.dtype).mean(dim=0)
""",
    ),
    wrong(
        "q1_2",
        "the entropy under this legend",
        """
def variation_ratio(probs):
    return torch.special.entr(probs.mean(dim=0)).sum(dim=1)
""",
    ),
    wrong(
        "q1_2",
        "share of pairs that disagree",
        """
def variation_ratio(probs):
    share = F.one_hot(probs.argmax(dim=2), probs.shape[2]).to(probs.dtype).mean(dim=0)
    return 1 - share.square().sum(dim=1)
""",
    ),
    right(
        "q1_2",
        "torch.mode",
        """
def variation_ratio(probs):
    votes = probs.argmax(dim=2)
    return (votes != votes.mode(dim=0).values).float().mean(dim=0)
""",
    ),
    right(
        "q1_2",
        "numpy",
        """
import numpy as np


def variation_ratio(probs):
    votes = probs.cpu().numpy().argmax(2)
    return np.array([1 - np.bincount(column).max() / len(column) for column in votes.T])
""",
    ),
    # --- 1.3 entropy and mutual information
    wrong(
        "q1_3",
        "NaN where a probability is 0",
        """
def entropy_and_information(probs):
    mean = probs.mean(dim=0)
    entropy = -(mean * mean.log()).sum(dim=1)
    return entropy, entropy + (probs * probs.log()).sum(dim=2).mean(dim=0)
""",
    ),
    wrong(
        "q1_3",
        "the mean of the entropies",
        """
def entropy_and_information(probs):
    entropy = torch.special.entr(probs).sum(dim=2).mean(dim=0)
    return entropy, torch.special.entr(probs.mean(dim=0)).sum(dim=1) - entropy
""",
    ),
    wrong(
        "q1_3",
        "expected entropy instead of information",
        """
def entropy_and_information(probs):
    return torch.special.entr(probs.mean(dim=0)).sum(dim=1), torch.special.entr(probs).sum(dim=2).mean(dim=0)
""",
    ),
    wrong(
        "q1_3",
        "in bits",
        """
def entropy_and_information(probs):
    entropy = torch.special.entr(probs.mean(dim=0)).sum(dim=1) / torch.log(torch.tensor(2.0))
    expected = torch.special.entr(probs).sum(dim=2).mean(dim=0) / torch.log(torch.tensor(2.0))
    return entropy, entropy - expected
""",
    ),
    wrong(
        "q1_3",
        "information with the wrong sign",
        """
def entropy_and_information(probs):
    entropy = torch.special.entr(probs.mean(dim=0)).sum(dim=1)
    return entropy, torch.special.entr(probs).sum(dim=2).mean(dim=0) - entropy
""",
    ),
    right(
        "q1_3",
        "xlogy, and the divergence from the mean",
        """
def entropy_and_information(probs):
    mean = probs.mean(0)
    entropy = -torch.xlogy(mean, mean).sum(1)
    information = (torch.xlogy(probs, probs) - torch.xlogy(probs, mean)).sum(2).mean(0)
    return [entropy, information]
""",
    ),
    right(
        "q1_3",
        "the object of the course",
        """
from coursekit.predictive import CategoricalPredictive


def entropy_and_information(probs):
    predictive = CategoricalPredictive(probs)
    return predictive.entropy, predictive.mutual_information
""",
    ),
    right(
        "q1_3",
        "one stacked tensor",
        """
def entropy_and_information(probs):
    entropy = torch.special.entr(probs.mean(dim=0)).sum(dim=1)
    return torch.stack([entropy, entropy - torch.special.entr(probs).sum(dim=2).mean(dim=0)])
""",
    ),
    # --- 1.5 calibration error
    wrong(
        "q1_5",
        "bins open on the right lose confidence 1",
        """
def calibration_error(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        inside = (confidence >= b / bins) & (confidence < (b + 1) / bins)
        if inside.any():
            gap = correct[inside].to(confidence.dtype).mean() - confidence[inside].mean()
            total += float(inside.to(confidence.dtype).mean() * gap.abs())
    return total
""",
    ),
    wrong(
        "q1_5",
        "bins not weighted",
        """
def calibration_error(confidence, correct, bins):
    gaps = []
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            gaps.append(float((correct[inside].to(confidence.dtype).mean() - confidence[inside].mean()).abs()))
    return sum(gaps) / len(gaps)
""",
    ),
    wrong(
        "q1_5",
        "signed gaps cancel",
        """
def calibration_error(confidence, correct, bins):
    return float((correct.to(confidence.dtype) - confidence).mean().abs())
""",
    ),
    wrong(
        "q1_5",
        "each prediction its own bin",
        """
def calibration_error(confidence, correct, bins):
    return float((correct.to(confidence.dtype) - confidence).abs().mean())
""",
    ),
    wrong(
        "q1_5",
        "root of the mean square",
        """
def calibration_error(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            gap = correct[inside].to(confidence.dtype).mean() - confidence[inside].mean()
            total += float(inside.to(confidence.dtype).mean() * gap.square())
    return total**0.5
""",
    ),
    right(
        "q1_5",
        "a loop over the bins",
        """
def calibration_error(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        n = inside.sum()
        if n > 0:
            total += n / len(confidence) * abs(correct[inside].float().mean() - confidence[inside].mean())
    return total
""",
    ),
    right(
        "q1_5",
        "the function of the course",
        """
def calibration_error(confidence, correct, bins):
    probs = torch.stack([confidence, 1 - confidence], dim=1)
    probs = torch.cat([probs[:, :1], torch.zeros(len(probs), 40).to(probs) + (1 - confidence[:, None]) / 40], dim=1)
    return calibration.reliability(probs, torch.where(correct, 0, 1), bins=bins).ece
""",
    ),
    wrong(
        "q1_5",
        "NaN of an empty bin",
        """
def calibration_error(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        gap = correct[inside].to(confidence.dtype).mean() - confidence[inside].mean()
        total += float(inside.to(confidence.dtype).mean() * gap.abs())
    return total
""",
    ),
    wrong(
        "q1_5",
        "absolute value missing in each bin",
        """
def calibration_error(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            gap = correct[inside].to(confidence.dtype).mean() - confidence[inside].mean()
            total += float(inside.to(confidence.dtype).mean() * gap)
    return total
""",
    ),
    wrong(
        "q1_5",
        "divided by the number of bins",
        """
def calibration_error(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            gap = correct[inside].to(confidence.dtype).mean() - confidence[inside].mean()
            total += float(gap.abs()) / bins
    return total
""",
    ),
    # --- 1.6 temperature
    wrong(
        "q1_6",
        "the inverse temperature",
        """
def fit_temperature(logits, labels):
    return 1 / float(calibration.fit_temperature(logits, labels))
""",
    ),
    wrong(
        "q1_6",
        "softmax twice",
        """
def fit_temperature(logits, labels):
    grid = torch.logspace(-1.3, 1.3, 1000).tolist()
    return min(grid, key=lambda t: float(F.cross_entropy((logits / t).softmax(dim=1), labels)))
""",
    ),
    wrong(
        "q1_6",
        "an optimiser stopped too early",
        """
def fit_temperature(logits, labels):
    t = torch.ones((), dtype=logits.dtype, device=logits.device, requires_grad=True)
    steps = torch.optim.SGD([t], lr=0.01)
    for _ in range(20):
        steps.zero_grad()
        F.cross_entropy(logits / t, labels).backward()
        steps.step()
    return float(t)
""",
    ),
    wrong(
        "q1_6",
        "a coarse grid",
        """
def fit_temperature(logits, labels):
    grid = [0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0]
    return min(grid, key=lambda t: float(F.cross_entropy(logits / t, labels)))
""",
    ),
    wrong(
        "q1_6",
        "no scaling",
        """
def fit_temperature(logits, labels):
    return 1.0
""",
    ),
    right(
        "q1_6",
        "LBFGS on log T",
        """
def fit_temperature(logits, labels):
    log_t = torch.zeros((), dtype=logits.dtype, device=logits.device, requires_grad=True)
    search = torch.optim.LBFGS([log_t], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        loss = F.cross_entropy(logits / log_t.exp(), labels)
        loss.backward()
        return loss

    search.step(closure)
    return log_t.exp().detach()
""",
    ),
    right(
        "q1_6",
        "a fine grid",
        """
def fit_temperature(logits, labels):
    grid = torch.logspace(-1.3, 1.3, 3000, dtype=torch.float64).tolist()
    losses = [float(F.cross_entropy(logits.double() / t, labels)) for t in grid]
    return grid[losses.index(min(losses))]
""",
    ),
    # --- 2.1 true class probability
    wrong(
        "q2_1",
        "the largest probability",
        """
def true_class_probability(probs, labels):
    tcp = probs.amax(dim=1)
    return tcp, (tcp > 1 / 2).long() - (tcp < 1 / probs.shape[1]).long()
""",
    ),
    wrong(
        "q2_1",
        "wrong below one half",
        """
def true_class_probability(probs, labels):
    tcp = probs[torch.arange(len(labels), device=labels.device), labels]
    return tcp, (tcp > 1 / 2).long() - (tcp < 1 / 2).long()
""",
    ),
    wrong(
        "q2_1",
        "the prediction compared with the label",
        """
def true_class_probability(probs, labels):
    tcp = probs[torch.arange(len(labels), device=labels.device), labels]
    return tcp, torch.where(probs.argmax(dim=1) == labels, 1, -1)
""",
    ),
    wrong(
        "q2_1",
        "ten classes, always",
        """
def true_class_probability(probs, labels):
    tcp = probs[torch.arange(len(labels), device=labels.device), labels]
    return tcp, (tcp > 1 / 2).long() - (tcp < 1 / 10).long()
""",
    ),
    wrong(
        "q2_1",
        "columns of all labels",
        """
def true_class_probability(probs, labels):
    tcp = probs[:, labels]
    return tcp, (tcp > 1 / 2).long() - (tcp < 1 / probs.shape[1]).long()
""",
    ),
    right(
        "q2_1",
        "a one-hot product and torch.where",
        """
def true_class_probability(probs, labels):
    tcp = (probs * F.one_hot(labels, probs.shape[1])).sum(dim=1)
    return [tcp, torch.where(tcp > 0.5, 1.0, torch.where(tcp < 1 / probs.shape[1], -1.0, 0.0))]
""",
    ),
    right(
        "q2_1",
        "one stacked tensor",
        """
def true_class_probability(probs, labels):
    tcp = probs.gather(1, labels[:, None])[:, 0]
    return torch.stack([tcp, (tcp > 0.5).to(tcp) - (tcp < 1 / probs.shape[1]).to(tcp)])
""",
    ),
    # --- 2.2 data of ConfidNet
    wrong(
        "q2_2",
        "as published",
        """
def confidnet_data(model, x, y):
    model.train()
    features = model.features(x)
    target = model(x).softmax(dim=1).amax(dim=1)
    return features, target
""",
    ),
    wrong(
        "q2_2",
        "dropout on",
        """
def confidnet_data(model, x, y):
    was = model.training
    model.train()
    with torch.no_grad():
        features = model.features(x)
        target = model.head(features).softmax(dim=1).gather(1, y[:, None]).squeeze(1)
    model.train(was)
    return features, target
""",
    ),
    wrong(
        "q2_2",
        "the largest probability as target",
        """
from coursekit.nets import evaluation_mode


def confidnet_data(model, x, y):
    with evaluation_mode(model), torch.no_grad():
        return model.features(x), model(x).softmax(dim=1).amax(dim=1)
""",
    ),
    wrong(
        "q2_2",
        "gradients into the classifier",
        """
from coursekit.nets import evaluation_mode


def confidnet_data(model, x, y):
    with evaluation_mode(model):
        return model.features(x), model(x).softmax(dim=1).gather(1, y[:, None]).squeeze(1)
""",
    ),
    wrong(
        "q2_2",
        "left in evaluation mode",
        """
def confidnet_data(model, x, y):
    model.eval()
    with torch.no_grad():
        return model.features(x), model(x).softmax(dim=1).gather(1, y[:, None]).squeeze(1)
""",
    ),
    wrong(
        "q2_2",
        "no softmax",
        """
from coursekit.nets import evaluation_mode


def confidnet_data(model, x, y):
    with evaluation_mode(model), torch.no_grad():
        return model.features(x), model(x).gather(1, y[:, None]).squeeze(1)
""",
    ),
    right(
        "q2_2",
        "one pass of the body, detached",
        """
from coursekit.nets import evaluation_mode


def confidnet_data(model, x, y):
    with evaluation_mode(model):
        features = model.body(x).detach()
        target = torch.exp(-F.cross_entropy(model.head(features), y, reduction="none")).detach()
    return features, target
""",
    ),
    # --- 2.3 loss, and the epoch to keep
    wrong(
        "q2_3",
        "no sigmoid",
        """
def confidence_loss(u, tcp):
    return (u - tcp).square().mean()
""",
    ),
    wrong(
        "q2_3",
        "the sum",
        """
def confidence_loss(u, tcp):
    return (u.sigmoid() - tcp).square().sum()
""",
    ),
    wrong(
        "q2_3",
        "cross-entropy",
        """
def confidence_loss(u, tcp):
    return F.binary_cross_entropy_with_logits(u, tcp)
""",
    ),
    wrong(
        "q2_3",
        "the absolute error",
        """
def confidence_loss(u, tcp):
    return (u.sigmoid() - tcp).abs().mean()
""",
    ),
    right(
        "q2_3",
        "by hand",
        """
def confidence_loss(u, tcp):
    return ((1 / (1 + torch.exp(-u)) - tcp) ** 2).mean()
""",
    ),
    wrong(
        "q2_3_epoch",
        "the best test AUPR: a leak",
        """
def epoch_to_keep(history):
    return history["test AUPR"].index(max(history["test AUPR"]))
""",
    ),
    wrong(
        "q2_3_epoch",
        "the best train AUPR",
        """
def epoch_to_keep(history):
    return history["train AUPR"].index(max(history["train AUPR"]))
""",
    ),
    wrong(
        "q2_3_epoch",
        "the smallest train loss",
        """
def epoch_to_keep(history):
    return history["train loss"].index(min(history["train loss"]))
""",
    ),
    wrong(
        "q2_3_epoch",
        "the last",
        """
def epoch_to_keep(history):
    return len(history["held-out loss"]) - 1
""",
    ),
    wrong(
        "q2_3_epoch",
        "the largest held-out loss",
        """
def epoch_to_keep(history):
    return int(torch.tensor(history["held-out loss"]).argmax())
""",
    ),
    wrong(
        "q2_3_epoch",
        "counted from one",
        """
def epoch_to_keep(history):
    return 1 + int(torch.tensor(history["held-out loss"]).argmin())
""",
    ),
    right(
        "q2_3_epoch",
        "a tensor",
        """
def epoch_to_keep(history):
    return torch.tensor(history["held-out loss"]).argmin()
""",
    ),
    right(
        "q2_3_epoch",
        "the list itself",
        """
def epoch_to_keep(history):
    return history["held-out loss"].index(min(history["held-out loss"]))
""",
    ),
    # --- 2.4 AUPR of errors
    wrong(
        "q2_4",
        "right predictions as positives",
        """
from sklearn.metrics import average_precision_score


def aupr_error(confidence, correct):
    return average_precision_score(correct.cpu(), confidence.cpu())
""",
    ),
    wrong(
        "q2_4",
        "the sign forgotten",
        """
from sklearn.metrics import average_precision_score


def aupr_error(confidence, correct):
    return average_precision_score(~correct.cpu(), confidence.cpu())
""",
    ),
    wrong(
        "q2_4",
        "the trapezoid under the curve",
        """
from sklearn.metrics import auc, precision_recall_curve


def aupr_error(confidence, correct):
    precision, recall, _ = precision_recall_curve(~correct.cpu(), -confidence.cpu())
    return auc(recall, precision)
""",
    ),
    wrong(
        "q2_4",
        "ties in the order in which they come",
        """
def aupr_error(confidence, correct):
    wrong = (~correct)[confidence.argsort(stable=True)].double()
    ranks = torch.arange(1, len(wrong) + 1, device=wrong.device)
    return float((wrong * wrong.cumsum(0) / ranks).sum() / wrong.sum())
""",
    ),
    wrong(
        "q2_4",
        "AUROC",
        """
from sklearn.metrics import roc_auc_score


def aupr_error(confidence, correct):
    return roc_auc_score(~correct.cpu(), -confidence.cpu())
""",
    ),
    right(
        "q2_4",
        "scikit-learn",
        """
from sklearn.metrics import average_precision_score


def aupr_error(confidence, correct):
    return average_precision_score(~correct.cpu(), -confidence.cpu())
""",
    ),
    right(
        "q2_4",
        "a loop over the thresholds",
        """
def aupr_error(confidence, correct):
    total, before = 0.0, 0
    errors = (~correct).sum()
    for threshold in torch.unique(confidence):
        alarms = confidence <= threshold
        found = (alarms & ~correct).sum()
        total = total + (found - before) / errors * found / alarms.sum()
        before = found
    return total
""",
    ),
    # --- 2.5 chance level
    wrong(
        "q2_5",
        "R/N",
        """
def chance_aupr(errors, total):
    return errors / total
""",
    ),
    wrong(
        "q2_5",
        "the error itself is not counted",
        """
def chance_aupr(errors, total):
    return sum((k - 1) * (errors - 1) / (total - 1) / k for k in range(1, total + 1)) / total
""",
    ),
    wrong(
        "q2_5",
        "draws with replacement",
        """
def chance_aupr(errors, total):
    return sum((1 + (k - 1) * errors / total) / k for k in range(1, total + 1)) / total
""",
    ),
    wrong(
        "q2_5",
        "harmonic number of the errors",
        """
def chance_aupr(errors, total):
    harmonic = sum(1 / k for k in range(1, errors + 1))
    return (errors - 1) / (total - 1) + (total - errors) / (total * (total - 1)) * harmonic
""",
    ),
    wrong(
        "q2_5",
        "measured once at random",
        """
def chance_aupr(errors, total):
    correct = torch.arange(total) >= errors
    return failure.failure_metrics(torch.rand(total), correct).aupr_error if errors < total else 1.0
""",
    ),
    right(
        "q2_5",
        "the sum over the ranks",
        """
def chance_aupr(errors, total):
    ranks = torch.arange(1, total + 1, dtype=torch.float64)
    return ((1 + (ranks - 1) * (errors - 1) / (total - 1)) / ranks).mean()
""",
    ),
    # --- 2.6 paired bootstrap
    wrong(
        "q2_6",
        "not paired",
        """
def resampled_differences(confidence_a, confidence_b, correct, indices):
    def aupr(confidence, chosen):
        return failure.failure_metrics(confidence[chosen], correct[chosen]).aupr_error

    return torch.tensor([aupr(confidence_a, i) - aupr(confidence_b, j) for i, j in zip(indices, indices.roll(1, 0))])
""",
    ),
    wrong(
        "q2_6",
        "labels not resampled",
        """
def resampled_differences(confidence_a, confidence_b, correct, indices):
    def aupr(confidence, chosen):
        return failure.failure_metrics(confidence[chosen], correct[: len(chosen)]).aupr_error

    return torch.tensor([aupr(confidence_a, chosen) - aupr(confidence_b, chosen) for chosen in indices])
""",
    ),
    wrong(
        "q2_6",
        "the sign",
        """
def resampled_differences(confidence_a, confidence_b, correct, indices):
    def aupr(confidence, chosen):
        return failure.failure_metrics(confidence[chosen], correct[chosen]).aupr_error

    return torch.tensor([aupr(confidence_b, chosen) - aupr(confidence_a, chosen) for chosen in indices])
""",
    ),
    wrong(
        "q2_6",
        "the mean difference alone",
        """
def resampled_differences(confidence_a, confidence_b, correct, indices):
    def aupr(confidence, chosen):
        return failure.failure_metrics(confidence[chosen], correct[chosen]).aupr_error

    return torch.tensor([aupr(confidence_a, c) - aupr(confidence_b, c) for c in indices]).mean()
""",
    ),
    wrong(
        "q2_6",
        "AUPR of the successes",
        """
def resampled_differences(confidence_a, confidence_b, correct, indices):
    def aupr(confidence, chosen):
        return failure.failure_metrics(confidence[chosen], correct[chosen]).aupr_success

    return torch.tensor([aupr(confidence_a, chosen) - aupr(confidence_b, chosen) for chosen in indices])
""",
    ),
    right(
        "q2_6",
        "scikit-learn in numpy",
        """
import numpy as np
from sklearn.metrics import average_precision_score


def resampled_differences(confidence_a, confidence_b, correct, indices):
    a, b, wrong, indices = (v.cpu().numpy() for v in (confidence_a, confidence_b, ~correct, indices))
    return np.array(
        [average_precision_score(wrong[i], -a[i]) - average_precision_score(wrong[i], -b[i]) for i in indices]
    )
""",
    ),
    # --- 3.1 ODIN: the step and its manners
    wrong(
        "q3_1",
        "as published",
        """
def odin_input(model, x, temperature, epsilon, low, high):
    x.requires_grad_()
    logits = model(x)
    loss = F.cross_entropy(logits, logits.argmax(dim=1))
    loss.backward()
    moved = x - epsilon * x.grad.sign()
    moved.clip(0, 1)
    return moved
""",
        ("q3_1_test", "q3_1_manners_test"),
    ),
    wrong(
        "q3_1",
        "the gradient ignores T",
        """
from coursekit.nets import evaluation_mode


def odin_input(model, x, temperature, epsilon, low, high):
    copy = x.detach().clone().requires_grad_()
    with evaluation_mode(model):
        logits = model(copy)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(dim=1)), copy)
    return (copy.detach() - epsilon * gradient.sign()).clamp(low, high)
""",
    ),
    wrong(
        "q3_1",
        "towards less confidence",
        """
from coursekit.nets import evaluation_mode


def odin_input(model, x, temperature, epsilon, low, high):
    copy = x.detach().clone().requires_grad_()
    with evaluation_mode(model):
        score = (model(copy) / temperature).log_softmax(dim=1).amax(dim=1)
    (gradient,) = torch.autograd.grad(score.sum(), copy)
    return (copy.detach() - epsilon * gradient.sign()).clamp(low, high)
""",
    ),
    wrong(
        "q3_1",
        "the largest logit instead of the softmax",
        """
from coursekit.nets import evaluation_mode


def odin_input(model, x, temperature, epsilon, low, high):
    copy = x.detach().clone().requires_grad_()
    with evaluation_mode(model):
        score = model(copy).amax(dim=1) / temperature
    (gradient,) = torch.autograd.grad(score.sum(), copy)
    return (copy.detach() + epsilon * gradient.sign()).clamp(low, high)
""",
    ),
    wrong(
        "q3_1",
        "the cut thrown away",
        """
from coursekit.nets import evaluation_mode


def odin_input(model, x, temperature, epsilon, low, high):
    copy = x.detach().clone().requires_grad_()
    with evaluation_mode(model):
        score = (model(copy) / temperature).log_softmax(dim=1).amax(dim=1)
    (gradient,) = torch.autograd.grad(score.sum(), copy)
    moved = copy.detach() + epsilon * gradient.sign()
    moved.clamp(low, high)
    return moved
""",
        ("q3_1_manners_test",),
    ),
    wrong(
        "q3_1",
        "cut to 0 and 1 where the range is another",
        """
from coursekit.nets import evaluation_mode


def odin_input(model, x, temperature, epsilon, low, high):
    copy = x.detach().clone().requires_grad_()
    with evaluation_mode(model):
        score = (model(copy) / temperature).log_softmax(dim=1).amax(dim=1)
    (gradient,) = torch.autograd.grad(score.sum(), copy)
    return (copy.detach() + epsilon * gradient.sign()).clamp(0, 1)
""",
        ("q3_1_test", "q3_1_manners_test"),
    ),
    wrong(
        "q3_1",
        "gradients left in the model",
        """
from coursekit.nets import evaluation_mode


def odin_input(model, x, temperature, epsilon, low, high):
    copy = x.detach().clone().requires_grad_()
    with evaluation_mode(model):
        (model(copy) / temperature).log_softmax(dim=1).amax(dim=1).sum().backward()
    return (copy.detach() + epsilon * copy.grad.sign()).clamp(low, high)
""",
        ("q3_1_manners_test",),
    ),
    wrong(
        "q3_1",
        "dropout on",
        """
def odin_input(model, x, temperature, epsilon, low, high):
    copy = x.detach().clone().requires_grad_()
    score = (model(copy) / temperature).log_softmax(dim=1).amax(dim=1)
    (gradient,) = torch.autograd.grad(score.sum(), copy)
    return (copy.detach() + epsilon * gradient.sign()).clamp(low, high)
""",
        ("q3_1_manners_test",),
    ),
    wrong(
        "q3_1",
        "the caller's inputs change",
        """
from coursekit.nets import evaluation_mode


def odin_input(model, x, temperature, epsilon, low, high):
    x.requires_grad_()
    with evaluation_mode(model):
        score = (model(x) / temperature).log_softmax(dim=1).amax(dim=1)
    (gradient,) = torch.autograd.grad(score.sum(), x)
    with torch.no_grad():
        x += epsilon * gradient.sign()
        return x.clamp_(low, high)
""",
        ("q3_1_test", "q3_1_manners_test"),
    ),
    right(
        "q3_1",
        "cross-entropy of tempered logits, one input at a time",
        """
from coursekit.nets import evaluation_mode


def odin_input(model, x, temperature, epsilon, low, high):
    moved = []
    with evaluation_mode(model):
        for part in x.split(1):
            part = part.clone().detach().requires_grad_(True)
            logits = model(part) / temperature
            loss = F.cross_entropy(logits, logits.argmax(dim=1).detach())
            gradient = torch.autograd.grad(loss, part)[0]
            moved.append(torch.clip(part.detach() - epsilon * torch.sign(gradient), low, high))
    return torch.cat(moved)
""",
    ),
    right(
        "q3_1",
        "backward on a deep copy",
        """
import copy


def odin_input(model, x, temperature, epsilon, low, high):
    model = copy.deepcopy(model).eval()
    z = x.detach().clone()
    z.requires_grad = True
    torch.log((model(z) / temperature).softmax(1).max(1).values).sum().backward()
    return torch.clamp(z + epsilon * torch.sign(z.grad), low, high).detach()
""",
    ),
    # --- 3.2 the limit of large T
    wrong(
        "q3_2",
        "the largest logit",
        """
def hot_limit(logits):
    return logits.amax(dim=1)
""",
    ),
    wrong(
        "q3_2",
        "the gap to the second",
        """
def hot_limit(logits):
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return first - second
""",
    ),
    wrong(
        "q3_2",
        "the range",
        """
def hot_limit(logits):
    return logits.amax(dim=1) - logits.amin(dim=1)
""",
    ),
    wrong(
        "q3_2",
        "the gap to the mean of the others",
        """
def hot_limit(logits):
    top = logits.amax(dim=1)
    return top - (logits.sum(dim=1) - top) / (logits.shape[1] - 1)
""",
    ),
    wrong(
        "q3_2",
        "the energy",
        """
def hot_limit(logits):
    return logits.logsumexp(dim=1)
""",
    ),
    right(
        "q3_2",
        "numpy",
        """
import numpy as np


def hot_limit(logits):
    z = logits.cpu().numpy().astype(float)
    return z.max(axis=1) - z.sum(axis=1) / z.shape[1]
""",
    ),
    right(
        "q3_2",
        "the mean gap to all",
        """
def hot_limit(logits):
    return (logits.max(dim=1, keepdim=True).values - logits).mean(dim=1)
""",
    ),
    wrong(
        "q3_2",
        "the factor C missing",
        """
def hot_limit(logits):
    return (logits.amax(dim=1) - logits.mean(dim=1)) / logits.shape[1]
""",
    ),
    wrong(
        "q3_2",
        "a constant",
        """
def hot_limit(logits):
    return torch.full((len(logits),), 2.0)
""",
    ),
    # --- 3.3 Mahalanobis
    wrong(
        "q3_3",
        "covariance about one common mean",
        """
def mahalanobis_scores(features, labels, new, ridge):
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    centred = features - features.mean(dim=0)
    identity = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    precision = torch.linalg.inv(centred.T @ centred / len(features) + ridge * identity)
    gaps = new[:, None] - means
    return -((gaps @ precision) * gaps).sum(dim=2).amin(dim=1)
""",
    ),
    wrong(
        "q3_3",
        "the covariance instead of its inverse",
        """
def mahalanobis_scores(features, labels, new, ridge):
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    centred = features - means[labels]
    identity = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    covariance = centred.T @ centred / len(features) + ridge * identity
    gaps = new[:, None] - means
    return -((gaps @ covariance) * gaps).sum(dim=2).amin(dim=1)
""",
    ),
    wrong(
        "q3_3",
        "the farthest class",
        """
def mahalanobis_scores(features, labels, new, ridge):
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    centred = features - means[labels]
    identity = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    precision = torch.linalg.inv(centred.T @ centred / len(features) + ridge * identity)
    gaps = new[:, None] - means
    return (-((gaps @ precision) * gaps).sum(dim=2)).amin(dim=1)
""",
    ),
    wrong(
        "q3_3",
        "the sign: larger means farther",
        """
def mahalanobis_scores(features, labels, new, ridge):
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    centred = features - means[labels]
    identity = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    precision = torch.linalg.inv(centred.T @ centred / len(features) + ridge * identity)
    gaps = new[:, None] - means
    return ((gaps @ precision) * gaps).sum(dim=2).amin(dim=1)
""",
    ),
    wrong(
        "q3_3",
        "not squared",
        """
def mahalanobis_scores(features, labels, new, ridge):
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    centred = features - means[labels]
    identity = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    precision = torch.linalg.inv(centred.T @ centred / len(features) + ridge * identity)
    gaps = new[:, None] - means
    return -((gaps @ precision) * gaps).sum(dim=2).amin(dim=1).sqrt()
""",
    ),
    wrong(
        "q3_3",
        "Euclidean distance",
        """
def mahalanobis_scores(features, labels, new, ridge):
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    return -torch.cdist(new, means).square().amin(dim=1)
""",
    ),
    right(
        "q3_3",
        "whitened by a Cholesky factor",
        """
def mahalanobis_scores(features, labels, new, ridge):
    one_hot = F.one_hot(labels).to(features)
    means = one_hot.T @ features / one_hot.sum(0)[:, None]
    covariance = torch.cov((features - one_hot @ means).T, correction=0) + ridge * torch.eye(features.shape[1]).to(features)
    factor = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(factor, torch.cat([new, means]).T, upper=False).T
    return -((white[: len(new), None] - white[None, len(new) :]) ** 2).sum(2).min(1).values
""",
    ),
    # --- 4.1 the rule
    wrong(
        "q4_1",
        "accept everything",
        """
def decide(new, known):
    return torch.zeros(len(new.probs), dtype=torch.long)
""",
    ),
    wrong(
        "q4_1",
        "confidence above one half",
        """
def decide(new, known):
    return (new.probs.amax(dim=1) < 0.5).long() * 2
""",
    ),
    wrong(
        "q4_1",
        "nothing is ever rejected",
        """
def decide(new, known):
    return (new.probs.amax(dim=1) < known.probs.amax(dim=1).quantile(0.10)).long()
""",
    ),
    wrong(
        "q4_1",
        "whatever is not sure is rejected",
        """
def decide(new, known):
    return 2 * (new.probs.amax(dim=1) < known.probs.amax(dim=1).quantile(0.20)).long()
""",
    ),
    wrong(
        "q4_1",
        "the distance with the wrong sign",
        """
def decide(new, known):
    decision = (new.probs.amax(dim=1) < known.probs.amax(dim=1).quantile(0.10)).long()
    decision[new.distance < known.distance.quantile(0.04)] = 2
    return decision
""",
    ),
    wrong(
        "q4_1",
        "thresholds from the stream itself",
        """
def decide(new, known):
    decision = (new.probs.amax(dim=1) < new.probs.amax(dim=1).quantile(0.10)).long()
    decision[new.distance > new.distance.quantile(0.96)] = 2
    return decision
""",
    ),
    wrong(
        "q4_1",
        "one score for both: the least sure rejected, the next to a person",
        """
def decide(new, known):
    sure, reference = new.probs.amax(dim=1), known.probs.amax(dim=1)
    return (sure < reference.quantile(0.15)).long() + (sure < reference.quantile(0.04)).long()
""",
    ),
    wrong(
        "q4_1",
        "the energy rejects, on its own",
        """
def decide(new, known):
    decision = (new.probs.amax(dim=1) < known.probs.amax(dim=1).quantile(0.12)).long()
    decision[new.energy < known.energy.quantile(0.04)] = 2
    return decision
""",
    ),
    wrong(
        "q4_1",
        "a person reads everything",
        """
def decide(new, known):
    decision = torch.ones(len(new.probs), dtype=torch.long)
    decision[new.distance.cpu() > known.distance.cpu().quantile(0.96)] = 2
    return decision
""",
    ),
    right(
        "q4_1",
        "ranks among the known, numpy",
        """
import numpy as np


def decide(new, known):
    def share_worse(values, reference):
        reference = np.sort(reference.cpu().numpy())
        return 1 - np.searchsorted(reference, values.cpu().numpy()) / len(reference)

    far = share_worse(new.distance, known.distance)
    torn = share_worse(new.mutual_information, known.mutual_information)
    decision = np.where(torn < 0.12, 1, 0)
    decision[np.minimum(far, torn) < 0.02] = 2
    return decision
""",
    ),
    right(
        "q4_1",
        "two thresholds for rejecting",
        """
def decide(new, known):
    def beyond(values, reference):
        return values > reference.quantile(0.98)

    strange = beyond(new.distance, known.distance) | beyond(new.mutual_information, known.mutual_information)
    unsure = new.probs.amax(dim=1) < known.probs.amax(dim=1).quantile(0.10)
    return torch.where(strange, 2, torch.where(unsure, 1, 0))
""",
    ),
    right(
        "q4_1",
        "entropy for the person",
        """
def decide(new, known):
    def entropy(evidence):
        return torch.special.entr(evidence.probs).sum(dim=1)

    decision = torch.where(entropy(new) > entropy(known).quantile(0.9), 1, 0)
    strange = torch.maximum(
        new.distance / known.distance.quantile(0.98), new.mutual_information / known.mutual_information.quantile(0.98)
    )
    return torch.where(strange > 1, 2, decision)
""",
    ),
    wrong(
        "q4_1",
        "the order of the rehearsal by heart",
        """
def decide(new, known):
    decision = torch.zeros(len(new.probs), dtype=torch.long)
    decision[len(decision) * 4 // 5 :] = 2
    return decision
""",
    ),
]
