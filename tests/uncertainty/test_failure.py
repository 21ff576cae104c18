import math

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from coursekit.nets import MLP
from coursekit.predictive import CategoricalPredictive
from coursekit.uncertainty.detection import risk_coverage
from coursekit.uncertainty.failure import (
    confidence_scores,
    failure_metrics,
    fit_confidnet,
    fit_trust_score,
    max_class_probability,
    true_class_probability,
)


def blobs(generator, n=600, device="cpu", noise=1.5):
    """Three overlapping clusters in the plane, and a linear classifier that fits them, with dropout."""
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    y = torch.randint(3, (n,), generator=generator)
    x = centres[y] + noise * torch.randn(n, 2, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MLP(2, 3, width=12, depth=1, dropout=0.5)
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        for _ in range(60):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model.to(device), x.to(device), y.to(device)


def test_true_class_probability_decides_above_a_half_and_below_one_in_c(generator, device):  # claim B7.1
    alpha = torch.full((200_000, 5), 0.6, dtype=torch.float64)
    torch.manual_seed(0)
    probs = torch.distributions.Dirichlet(alpha).sample().to(device)
    labels = torch.randint(5, (200_000,), generator=generator).to(device)
    tcp = true_class_probability(probs, labels)
    correct = probs.argmax(1) == labels
    assert bool(correct[tcp > 1 / 2].all()) and int((tcp > 1 / 2).sum()) > 1000
    assert not bool(correct[tcp < 1 / 5].any()) and int((tcp < 1 / 5).sum()) > 1000
    between = correct[(tcp >= 1 / 5) & (tcp <= 1 / 2)]
    assert 0 < float(between.double().mean()) < 1  # it decides nothing there
    torch.testing.assert_close(max_class_probability(probs), probs.max(1).values)
    assert torch.equal(tcp[correct], max_class_probability(probs)[correct])


def test_confidence_scores_agree_that_larger_is_surer():
    sure = torch.tensor([[[0.98, 0.02]], [[0.96, 0.04]], [[0.97, 0.03]]])
    unsure = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]], [[0.6, 0.4]]])
    scores = confidence_scores(CategoricalPredictive(torch.cat([sure, unsure], 1)))
    assert set(scores) == {"MCP", "entropy", "variation ratio", "mutual information"}
    for score in scores.values():
        assert float(score[0]) > float(score[1])
    assert float(scores["variation ratio"][1]) == pytest.approx(2 / 3)


def test_entropy_is_that_of_the_mean_not_the_mean_of_entropies():
    # a snapshot of torch-uncertainty called the mean entropy of the members the entropy: 0 here, where it is log 2
    differ = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert float(confidence_scores(CategoricalPredictive(differ))["entropy"]) == pytest.approx(-math.log(2))


def test_variation_ratio_of_members_first(generator):
    # torch-uncertainty 0.13 documents (B, N, C) and computes on (N, B, C): three numbers for two inputs
    probs = torch.tensor([[[0.6, 0.4], [0.1, 0.9]], [[0.7, 0.3], [0.8, 0.2]], [[0.2, 0.8], [0.7, 0.3]]])
    ratio = 1 - confidence_scores(CategoricalPredictive(probs))["variation ratio"]
    torch.testing.assert_close(ratio, torch.tensor([1 / 3, 1 / 3]))


def test_metrics_from_one_sort_are_those_of_each(generator, device):
    confidence = (torch.rand(3000, generator=generator) * 50).round() / 50  # ties
    correct = torch.rand(3000, generator=generator) < 0.5 + confidence / 2
    m = failure_metrics(confidence.to(device), correct.to(device))
    c, k = confidence.numpy(), correct.numpy()
    assert m.detection.auroc == pytest.approx(roc_auc_score(k, c), abs=1e-12)
    assert m.aupr_success == pytest.approx(average_precision_score(k, c), abs=1e-12)
    assert m.aupr_error == pytest.approx(average_precision_score(~k, -c), abs=1e-12)
    alone = risk_coverage(confidence, correct)
    assert (m.selective.aurc, m.selective.eaurc) == pytest.approx((alone.aurc, alone.eaurc), abs=1e-14)
    torch.testing.assert_close(m.selective.risk.cpu(), alone.risk)


def brute_trust(model, x, y, points):
    model.eval()
    with torch.no_grad():
        features, new = model.features(x), model.features(points)
        predicted = model(points).argmax(1)
    model.train()
    values = []
    for point, c in zip(new, predicted.tolist(), strict=True):
        distance = (features - point).square().sum(1).sqrt()
        values.append(float(distance[y != c].min() / distance[y == c].min()))
    return torch.tensor(values)


def test_trust_score_by_brute_force(generator, device):
    model, x, y = blobs(generator, n=120, device=device)
    model.train()
    points = torch.randn(30, 2, generator=generator).to(device)
    score = fit_trust_score(model, x, y, batch_size=7)(points)
    torch.testing.assert_close(score.cpu(), brute_trust(model, x, y, points), rtol=1e-3, atol=1e-4)
    assert model.training


def test_trust_score_drops_outliers():
    model = MLP(1, 2, depth=0)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model.head.bias.zero_()
    left, right = torch.arange(-1.5, -0.5, 0.1), torch.arange(0.5, 1.5, 0.1)
    x = torch.cat([left, right, torch.tensor([3.0])])[:, None]  # a left point far out on the right
    y = torch.tensor([0] * len(left) + [1] * len(right) + [0])
    point = torch.tensor([[3.1]])
    assert float(fit_trust_score(model, x, y)(point)) < 0.1  # its neighbour says the prediction is wrong
    assert float(fit_trust_score(model, x, y, drop=0.1, neighbors=3)(point)) > 2
    with pytest.raises(ValueError, match="needs more than"):
        fit_trust_score(model, x, y, drop=0.1, neighbors=11)
    with pytest.raises(ValueError, match="class 1 has 0"):
        fit_trust_score(model, x, torch.zeros_like(y))
    with pytest.raises(ValueError, match="drop"):
        fit_trust_score(model, x, y, drop=1.0)


def test_confidnet_learns_the_true_class_probability(generator, device):
    model, x, y = blobs(generator, n=1500, device=device)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    net = fit_confidnet(
        model, x, y, epochs=15, width=32, depth=2, learning_rate=5e-3, generator=generator, progress=False
    )
    # the classifier is left as it was, and without gradients
    assert model.training and all(m.training for m in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    # dropout is off: two calls agree
    new = torch.randn(200, 2, generator=generator).to(device) * 2
    first = net(new)
    assert torch.equal(first, net(new)) and first.shape == (200,) and first.device == x.device
    assert bool(((first >= 0) & (first <= 1)).all()) and not first.requires_grad
    # it beats the best constant at predicting TCP on data that neither has seen
    _, x_new, y_new = blobs(torch.Generator().manual_seed(7), n=1500, device=device)
    model.eval()
    tcp = true_class_probability(model(x_new).detach().softmax(1), y_new)
    assert float((net(x_new) - tcp).square().mean()) < 0.8 * float(tcp.var())


def test_confidnet_keeps_the_epoch_that_validates_best(generator):
    model, x, y = blobs(generator)
    options = {"width": 16, "depth": 1, "learning_rate": 0.3, "progress": False}  # so large a step that the loss jumps
    net = fit_confidnet(model, x, y, epochs=12, generator=torch.Generator().manual_seed(3), **options)
    losses = net.validation_losses
    assert len(losses) == 12 and net.epoch == losses.index(min(losses)) + 1 < 12
    shorter = fit_confidnet(model, x, y, epochs=net.epoch, generator=torch.Generator().manual_seed(3), **options)
    assert torch.equal(net(x), shorter(x))
    # and the loss it reports is that of its held-out tenth: the first of the order the generator draws
    held_out = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))[: len(x) // 10]
    model.eval()
    tcp = true_class_probability(model(x).detach().softmax(1), y)
    assert float((net(x[held_out]) - tcp[held_out]).square().mean()) == pytest.approx(min(losses), rel=1e-5)


def test_confidnet_is_reproducible_and_leaves_the_global_generator(generator):
    model, x, y = blobs(generator, n=60)
    options = {"epochs": 2, "width": 8, "progress": False}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = fit_confidnet(model, x, y, **options)(x)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(99)
    assert torch.equal(fit_confidnet(model, x, y, **options)(x), first)
    with torch.no_grad():
        assert torch.equal(fit_confidnet(model, x, y, **options)(x), first)


def test_the_classifier_runs_once_over_the_data(generator):
    calls = []

    class Counted(MLP):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    model = Counted(2, 3, width=4)
    x, y = torch.randn(1200, 2, generator=generator), torch.arange(1200) % 3
    fit_confidnet(model, x, y, epochs=3, width=8, depth=1, batch_size=400, progress=False)
    assert sum(calls) == 1200


def test_bad_input_is_named(generator):
    model, x, y = blobs(generator, n=60)
    with pytest.raises(ValueError, match="validation"):
        fit_confidnet(model, x, y, validation=0.0)
    with pytest.raises(ValueError, match="validation"):
        fit_confidnet(model, x, y, validation=1.0)
    with pytest.raises(ValueError, match="labels go from"):
        fit_confidnet(model, x, y + 1)
    with pytest.raises(ValueError, match="NaN"):
        fit_confidnet(model, x * math.nan, y)
    with pytest.raises(ValueError, match="softmax"):
        true_class_probability(torch.randn(3, 3) * 5, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="labels go from"):
        true_class_probability(torch.tensor([[0.5, 0.5]]), torch.tensor([2]))
    with pytest.raises(ValueError, match="NaN"):
        failure_metrics(torch.tensor([math.nan, 0.0]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="no negative"):
        failure_metrics(torch.rand(2), torch.tensor([True, True]))
