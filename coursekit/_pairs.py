"""Targets (N,) beside outputs (N, 1): broadcast to (N, N), a loss of all pairs, least at the mean of the targets."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Losses that compare entry with entry; cross_entropy and its kin take (N, C) beside (N,) by right.
_ENTRYWISE = {
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.poisson_nll_loss,
    F.kl_div,
    F.soft_margin_loss,
    F.hinge_embedding_loss,
}


class RefusePairs(TorchFunctionMode):
    """Inside, no operation may meet a column (N, 1) and a row (N,) of ``watched`` values and make all pairs of them.

    Looking at the operations, not at the shapes alone, lets a loss pass that reads ``outputs[:, 0]`` by itself.

    Args:
        watched: tensors, or conversions of them, of which one must take part; N >= 2, or nothing is ambiguous.
    """

    def __init__(self, *watched: object):
        super().__init__()
        self.watched = [value for value in watched if isinstance(value, Tensor)]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        tensors = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)]
        watched = any(t is w for t in tensors for w in self.watched)
        n = _pairs(tensors) if watched and len(tensors) > 1 else 0
        if n and function in _ENTRYWISE:
            raise _error(n)
        result = function(*args, **(kwargs or {}))
        if watched and isinstance(result, Tensor):
            if n and result.shape == (n, n):
                raise _error(n)
            if result.shape == tensors[0].shape:
                self.watched.append(result)  # y.double(), y.to(outputs), 2 * outputs
        return result


def needs_a_look(outputs: object, targets: object) -> bool:
    """Whether outputs and targets have the two shapes that broadcast against each other."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        return False
    return {outputs.shape, targets.shape} == {(len(outputs), 1), (len(outputs),)} if outputs.ndim else False


def _pairs(tensors: Sequence[Tensor]) -> int:
    """The N >= 2 of which a column (N, 1) and a row (N,) are there, or 0."""
    shapes = {tuple(t.shape) for t in tensors}
    return next((shape[0] for shape in shapes if len(shape) == 1 and shape[0] > 1 and (*shape, 1) in shapes), 0)


def _error(n: int) -> ValueError:
    return ValueError(
        f"the loss compares a tensor ({n}, 1) with one of shape ({n},): that makes all {n} x {n} pairs; give targets "
        "of the shape of the outputs, y[:, None], or let the model return (N,)"
    )
