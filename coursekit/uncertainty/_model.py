"""A model seen from outside: run in evaluation mode, a batch at a time, and left as it was."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from coursekit._frozen import evaluation_mode
from coursekit._inputs import check_count, check_input, describe
from coursekit.nets import features_and_outputs
from coursekit.uncertainty._checks import check_logits


def run_logits(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    """(N, C) logits in evaluation mode, without gradients."""
    batches = batches_of(model, x, batch_size)
    with evaluation_mode(model), torch.no_grad():
        return check_logits(torch.cat([_rows(model(batch), batch) for batch in batches]))


def run_features(model: nn.Module, x: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """(N, M) penultimate features and (N, C) logits in evaluation mode, without gradients."""
    batches = batches_of(model, x, batch_size)
    with evaluation_mode(model):
        pairs = [(batch, *features_and_outputs(model, batch)) for batch in batches]
    logits = check_logits(torch.cat([_rows(outputs, batch) for batch, _, outputs in pairs]))
    return torch.cat([features for _, features, _ in pairs]).to(logits.dtype), logits


def _rows(logits: object, batch: Tensor) -> object:
    """The outputs of one batch, which must be (N, C) in every batch, also one of a single input."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(batch):
        raise ValueError(
            f"the model must return logits (N, C), got {describe(logits)} for {len(batch)} input(s); "
            "squeeze() drops the batch axis of a single input"
        )
    return logits


def batches_of(model: nn.Module, x: Tensor, batch_size: int | None) -> Iterator[Tensor]:
    """Copies of the inputs in batches, after a look at them; to be run through in evaluation mode."""
    check_input(model, x)
    return _batches(model, x, len(x) if batch_size is None else check_count("batch_size", batch_size))


def _batches(model: nn.Module, x: Tensor, batch_size: int) -> Iterator[Tensor]:
    layout = torch.contiguous_format
    if x.ndim == 4 and x.device.type == "cpu" and _takes_channels_last(model, x[:1]):
        layout = torch.channels_last  # pooling is several times faster then, a small network nearly twice
    for batch in x.split(batch_size):
        yield batch.detach().clone(memory_format=layout)


def _takes_channels_last(model: nn.Module, x: Tensor) -> bool:
    """Whether the model runs on images in this layout; one that flattens by ``view`` does not."""
    try:
        with torch.no_grad():
            model(x.clone(memory_format=torch.channels_last))
    except RuntimeError:  # an error of the model itself comes again in the plain layout
        return False
    return True
