"""The one training loop of the course: minibatches, an optimiser, a progress bar, a history."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm


@dataclass(frozen=True)
class History:
    """What a training run leaves behind: ``losses``, the mean loss of each epoch."""

    losses: tuple[float, ...]


def train(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int | None = None,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    generator: torch.Generator | None = None,
    progress: bool = True,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
) -> History:
    r"""Minimise the mean of ``loss(model(x_batch), y_batch)`` over shuffled minibatches; changes ``model`` in place.

    Args:
        model: trained in training mode; the mode it came with is put back at the end, also after an error.
        loss: (outputs, targets) -> scalar, a mean over the batch.
        x, y: (N, ...) inputs and targets on one device (the model is expected there too).
        batch_size: ``None``: the full batch, not shuffled.
        optimizer: called as ``optimizer(parameters, lr=..., weight_decay=...)``; only parameters that require a
            gradient are handed over.
        generator: shuffles the minibatches; of any device.
        on_epoch: called as ``on_epoch(epoch, model)`` after each epoch, 1 to ``epochs``: checkpoints, curves.

    Raises:
        ValueError: no data, x and y of different length, or epochs < 1.
        FloatingPointError: the loss became NaN or infinite: lower ``lr`` or look at the data.

    >>> model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    >>> x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> sgd = torch.optim.SGD
    >>> _ = train(model, nn.functional.mse_loss, x, 3 * x, epochs=200, lr=0.1, optimizer=sgd, progress=False)
    >>> round(model.weight.item(), 6)
    3.0
    """
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"x and y need the same number of rows, at least one; got {len(x)} and {len(y)}")
    if epochs < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"epochs={epochs}, batch_size={batch_size}: both are at least 1")
    steps = optimizer([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=weight_decay)
    was_training = model.training
    losses = []
    model.train()
    try:
        bar = tqdm(range(1, epochs + 1), desc="training", unit="epoch", disable=not progress, leave=False)
        for epoch in bar:
            total = 0.0
            for index in _batches(len(x), batch_size, generator):
                batch = (x, y) if index is None else (x[index.to(x.device)], y[index.to(y.device)])
                steps.zero_grad(set_to_none=True)
                value = loss(model(batch[0]), batch[1])
                value.backward()
                steps.step()
                total = total + value.detach() * len(batch[0])  # stays on the device: no wait within an epoch
            losses.append(float(total) / len(x))
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss is {losses[-1]} after epoch {epoch}: lower lr={lr:g}, check the data"
                )
            bar.set_postfix(loss=f"{losses[-1]:.4f}")
            if on_epoch is not None:
                on_epoch(epoch, model)
    finally:
        steps.zero_grad(set_to_none=True)
        model.train(was_training)
    return History(tuple(losses))


def _batches(n: int, size: int | None, generator: torch.Generator | None):
    if size is None or size >= n:
        return [None]
    return torch.randperm(n, generator=generator, device="cpu" if generator is None else generator.device).split(size)
