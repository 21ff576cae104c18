import re

import pytest
import torch
from torch import nn

from coursekit.train import supervised, train


def problem(generator):
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.3


def test_least_squares_reaches_the_closed_form(generator, device):
    x, t = (v.to(device) for v in problem(generator))
    torch.manual_seed(0)
    model = nn.Linear(3, 1, dtype=torch.float64, device=device)
    history = train(
        model,
        supervised(nn.functional.mse_loss),
        x,
        t,
        epochs=500,
        learning_rate=0.1,
        optimizer=torch.optim.SGD,
        progress=False,
    )
    torch.testing.assert_close(
        model.weight.detach().cpu(), torch.tensor([[1.0, -2.0, 0.5]]).double(), rtol=0, atol=1e-8
    )
    assert history.losses[-1] < 1e-15 < history.losses[0]


def test_one_step_is_the_gradient_step(generator):
    x, t = problem(generator)
    model = nn.Linear(3, 1, dtype=torch.float64)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    residual = x @ weight.T + bias - t
    train(
        model,
        supervised(nn.functional.mse_loss),
        x,
        t,
        epochs=1,
        learning_rate=0.1,
        optimizer=torch.optim.SGD,
        progress=False,
    )
    torch.testing.assert_close(model.weight.detach(), weight - 0.1 * 2 * (residual * x).mean(0, keepdim=True))
    torch.testing.assert_close(model.bias.detach(), bias - 0.1 * 2 * residual.mean(0))


def test_minibatches_are_reproducible_and_see_every_row(generator):
    x, t = problem(generator)
    seen, results = [], []

    def loss(output, target):
        seen.append(len(target))
        return nn.functional.mse_loss(output, target)

    for _ in range(2):
        torch.manual_seed(1)
        model = nn.Linear(3, 1, dtype=torch.float64)
        shuffle = torch.Generator().manual_seed(3)
        history = train(model, supervised(loss), x, t, epochs=2, batch_size=16, generator=shuffle, progress=False)
        results.append((model.weight.detach().clone(), history))
    assert seen == [16, 16, 8] * 4
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_mode_comes_back_and_epochs_are_reported(generator):
    x, t = problem(generator)
    model = nn.Sequential(nn.Linear(3, 1, dtype=torch.float64), nn.Dropout(0.5)).eval()
    calls = []

    def note(epoch, net):
        calls.append((epoch, net.training))

    train(model, supervised(nn.functional.mse_loss), x, t, epochs=3, progress=False, on_epoch=note)
    assert calls == [(1, True), (2, True), (3, True)]
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_stay(generator):
    x, t = problem(generator)
    model = nn.Linear(3, 1, dtype=torch.float64)
    model.bias.requires_grad_(False)
    before = model.bias.clone()
    train(model, supervised(nn.functional.mse_loss), x, t, epochs=2, progress=False)
    assert torch.equal(model.bias, before)


def test_divergence_is_an_error_and_the_mode_comes_back(generator):
    x, t = problem(generator)
    model = nn.Linear(3, 1, dtype=torch.float64).eval()
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(
            model,
            supervised(nn.functional.mse_loss),
            x,
            t,
            epochs=2000,
            learning_rate=1e3,
            optimizer=torch.optim.SGD,
            progress=False,
        )
    assert not model.training


@pytest.mark.parametrize("n, m, epochs", [(0, 0, 1), (3, 2, 1), (3, 3, 0)])
def test_bad_input_says_so(n, m, epochs):
    with pytest.raises(ValueError, match="at least|epochs=0: expected an integer >= 1"):
        train(nn.Linear(1, 1), supervised(nn.functional.mse_loss), torch.ones(n, 1), torch.ones(m, 1), epochs=epochs)


COLUMN = {
    "mse_loss": nn.functional.mse_loss,
    "a loss of one's own": lambda outputs, y: (outputs - y).square().mean(),
    "targets converted on the way": lambda outputs, y: (y.double() - 2 * outputs).abs().mean(),
    "a module": nn.HuberLoss(),
}


@pytest.mark.parametrize("loss", COLUMN.values(), ids=COLUMN)
def test_targets_in_a_row_against_outputs_in_a_column_are_refused(generator, loss):
    x, t = problem(generator)
    model = nn.Linear(3, 1, dtype=torch.float64)
    before = model.weight.detach().clone()
    for objective in (supervised(loss), lambda model, x, y: loss(model(x), y)):
        with pytest.raises(ValueError, match=r"\(40, 1\) with one of shape \(40,\).*y\[:, None\]"):
            train(model, objective, x, t[:, 0], epochs=1, progress=False)
    assert torch.equal(model.weight, before)
    with pytest.raises(ValueError, match=r"\(40,\)"):
        train(nn.Sequential(model, nn.Flatten(0)), supervised(loss), x, t, epochs=1, progress=False)


def test_a_loss_that_takes_the_column_itself_is_right(generator):
    x, t = problem(generator)
    model = nn.Linear(3, 1, dtype=torch.float64)
    losses = [
        lambda outputs, y: nn.functional.mse_loss(outputs[:, 0], y),
        lambda outputs, y: nn.functional.cross_entropy(torch.cat([-outputs, outputs], 1), (y > 0).long()),
        lambda outputs, y: nn.functional.cross_entropy(outputs, (0 * y).long()) + 0 * outputs.sum(),
    ]
    for loss in losses:
        train(model, supervised(loss), x, t[:, 0], epochs=1, progress=False)


def test_an_objective_sees_the_model_and_its_inputs(generator):
    """Ridge regression, the penalty in the objective: the closed form."""
    x, t = problem(generator)
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)

    def ridge(model, x, y):
        return (model(x) - y).square().mean() + 0.3 * model.weight.square().sum()

    train(model, ridge, x, t, epochs=3000, learning_rate=0.1, optimizer=torch.optim.SGD, progress=False)
    expected = torch.linalg.solve(x.T @ x / 40 + 0.3 * torch.eye(3, dtype=torch.float64), x.T @ t / 40)
    torch.testing.assert_close(model.weight.detach().T, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "objective, words",
    [
        (nn.CrossEntropyLoss, "the class CrossEntropyLoss: write CrossEntropyLoss()"),
        (0.5, "must be a function, got float"),
        (lambda model, x, y: (model(x) - y).square(), r"a scalar tensor with a gradient, got a tensor (3, 1)"),
        (lambda model, x, y: 1.0, "got float"),
    ],
)
def test_what_is_no_objective_is_refused(objective, words):
    x = torch.ones(3, 1)
    with pytest.raises(TypeError, match=re.escape(words)):
        train(nn.Linear(1, 1), objective, x, x, epochs=1, progress=False)
    if isinstance(objective, type):
        with pytest.raises(TypeError, match=re.escape(words)):
            supervised(objective)
