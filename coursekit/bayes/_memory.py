"""How many inputs at a time: enough to keep the machine busy, few enough to fit."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

# Working memory for the activations of one chunk of inputs.
CHUNK_BYTES = {"cpu": 2**26, "cuda": 2**30}


def activation_bytes(model: nn.Module, probe: Tensor) -> int:
    """Bytes of the input and of all module outputs for one input (1, ...); no gradients, no trace left behind."""
    total = probe.numel() * probe.element_size()

    def hook(module: nn.Module, args: tuple, output: object) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel() * output.element_size()

    handles = [m.register_forward_hook(hook) for m in model.modules()]
    try:
        with torch.no_grad():
            model(probe)
    finally:
        for handle in handles:
            handle.remove()
    return total


def chunks(x: Tensor, bytes_each: int) -> Iterator[slice]:
    """Slices of the rows of x of which each fits into the working memory."""
    size = max(1, CHUNK_BYTES.get(x.device.type, 2**26) // max(1, bytes_each))
    return (slice(start, start + size) for start in range(0, len(x), size))
