"""The one training loop of the course: minibatches, an optimiser, a progress bar, a history."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from coursekit._inputs import check_count, check_generator, check_input, check_module, check_positive, describe
from coursekit._pairs import RefusePairs, needs_a_look

Loss = Callable[[Tensor, Tensor], Tensor]
Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]

__all__ = ["History", "Objective", "supervised", "train"]


@dataclass(frozen=True)
class History:
    """What a training run leaves behind: ``losses``, the mean of the objective over each epoch."""

    losses: tuple[float, ...]


def supervised(loss: Loss) -> Objective:
    r"""The objective :math:`(f, x, y) \mapsto \ell(f(x), y)` of a loss that compares outputs with targets.

    Args:
        loss: (outputs, targets) -> scalar, a mean over the batch, such as ``nn.functional.cross_entropy``.

    Raises:
        TypeError: no function, or a class such as ``nn.CrossEntropyLoss`` without its parentheses.
        ValueError: when called, a loss that compares outputs (N, 1) with targets (N,): it would average over all
            N x N pairs.

    >>> objective = supervised(nn.functional.mse_loss)
    >>> objective(nn.Identity(), torch.ones(2, 1), torch.zeros(2, 1)).item()
    1.0
    >>> objective(nn.Identity(), torch.ones(2, 1), torch.zeros(2))
    Traceback (most recent call last):
    ValueError: the loss compares a tensor (2, 1) with one of shape (2,): that makes all 2 x 2 pairs; ...
    """
    check_loss("loss", loss, "supervised(nn.functional.cross_entropy)")

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return compare(loss, model(x), y)

    return objective


def compare(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of outputs and targets, which may not be broadcast to all pairs."""
    if not needs_a_look(outputs, targets):
        return loss(outputs, targets)
    with RefusePairs(outputs, targets):
        return loss(outputs, targets)


def check_loss(name: str, value: object, example: str) -> None:
    """A function or a module, not a class."""
    if isinstance(value, type):
        raise TypeError(f"{name} is the class {value.__name__}: write {value.__name__}(), or {example}")
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {type(value).__name__}; for example {example}")


def train(
    model: nn.Module,
    objective: Objective,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    generator: torch.Generator | None = None,
    progress: bool = True,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
) -> History:
    r"""Minimise the mean of ``objective(model, x_batch, y_batch)`` over shuffled minibatches; changes the model.

    The objective runs the model itself, so it may look at more than its outputs: the Kullback-Leibler term of a
    variational network, the gradient in the input for adversarial examples, the constants of its layers.

    Args:
        model: trained in training mode; the mode it came with is put back at the end, also after an error.
        objective: (model, x, y) -> scalar, a mean over the batch: :func:`supervised` makes one of a loss of outputs
            and targets, :func:`~coursekit.bayes.negative_elbo` that of variational inference.
        x, y: (N, ...) inputs and targets on one device (the model is expected there too).
        batch_size: examples a step; ``None``: all of them, not shuffled.
        optimizer: called as ``optimizer(parameters, lr=..., weight_decay=...)``; only parameters that require a
            gradient are handed over.
        generator: shuffles the minibatches; of any device.
        on_epoch: called as ``on_epoch(epoch, model)`` after each epoch, 1 to ``epochs``: checkpoints, curves.

    Raises:
        TypeError: an objective that is no function of three arguments, or returns no scalar.
        ValueError: no data, x and y of different length, or epochs < 1; targets (N,) compared with outputs (N, 1).
        FloatingPointError: the objective became NaN or infinite: lower ``learning_rate`` or look at the data.

    >>> model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    >>> x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> options = {"epochs": 200, "learning_rate": 0.1, "optimizer": torch.optim.SGD, "progress": False}
    >>> _ = train(model, supervised(nn.functional.mse_loss), x, 3 * x, **options)
    >>> round(model.weight.item(), 6)
    3.0
    """
    check_loss("objective", objective, "supervised(nn.functional.cross_entropy)")
    check_module("model", model)
    check_generator(generator)
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor (N, ...), got {describe(value)}")
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"x and y need the same number of rows, at least one; got {len(x)} and {len(y)}")
    epochs = check_count("epochs", epochs)
    batch_size = None if batch_size is None else check_count("batch_size", batch_size)
    learning_rate = check_positive("learning_rate", learning_rate)
    if x.is_floating_point():
        check_input(model, x)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the model requires a gradient: call model.requires_grad_(True)")
    if batch_size is not None and len(x) > batch_size and len(x) % batch_size == 1:
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms:
            raise ValueError(
                f"batch_size={batch_size} leaves a last batch of one of the {len(x)} examples, and "
                f"{type(norms[0]).__name__} cannot normalise one: take another batch_size"
            )
    steps = optimizer(parameters, lr=learning_rate, weight_decay=weight_decay)
    was_training = model.training
    losses = []
    model.train()
    try:
        bar = tqdm(range(1, epochs + 1), desc="training", unit="epoch", disable=not progress, leave=False)
        evaluate = _first
        for epoch in bar:
            total = 0.0
            for index in _batches(len(x), batch_size, generator):
                batch = (x, y) if index is None else (x[index.to(x.device)], y[index.to(y.device)])
                steps.zero_grad(set_to_none=True)
                value = evaluate(objective, model, *batch)
                evaluate = _again
                value.backward()
                steps.step()
                total = total + value.detach() * len(batch[0])  # stays on the device: no wait within an epoch
            losses.append(float(total) / len(x))
            if not math.isfinite(losses[-1]):
                half = parameters[0].dtype in (torch.float16, torch.bfloat16)
                advice = (
                    f"the model is {parameters[0].dtype}, where an optimiser's epsilon rounds to 0: train in float32"
                    if half
                    else f"lower learning_rate={learning_rate:g}, check the data"
                )
                raise FloatingPointError(f"the objective is {losses[-1]} after epoch {epoch}: {advice}")
            bar.set_postfix(loss=f"{losses[-1]:.4f}")
            if on_epoch is not None:
                on_epoch(epoch, model)
    finally:
        steps.zero_grad(set_to_none=True)
        model.train(was_training)
    return History(tuple(losses))


def _first(objective: Objective, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The first value of the objective, looked at: what is wrong with it is wrong from the start."""
    with RefusePairs(y):
        value = objective(model, x, y)
    if not isinstance(value, Tensor) or value.ndim != 0 or not value.requires_grad:
        got = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"objective(model, x, y) must return a scalar tensor with a gradient, got {got}; reduce it with .mean(), "
            "compute it from model(x)"
        )
    return value


def _again(objective: Objective, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return objective(model, x, y)


def _batches(n: int, size: int | None, generator: torch.Generator | None):
    if size is None or size >= n:
        return [None]
    return torch.randperm(n, generator=generator, device="cpu" if generator is None else generator.device).split(size)
