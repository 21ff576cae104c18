"""What the metrics ask of their inputs, said once: a clear error before a wrong number."""

import torch
from torch import Tensor

from coursekit.predictive import CategoricalUncertainty


def check_scores(name: str, scores: Tensor) -> Tensor:
    """(N,) numbers without NaN, N >= 1; booleans become 0 and 1."""
    if not isinstance(scores, Tensor) or scores.is_complex():
        raise TypeError(f"{name} must be a tensor of real numbers (N,), got {describe(scores)}")
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"{name} must have shape (N,) with N >= 1, got {tuple(scores.shape)}")
    scores = scores.detach()
    if scores.is_floating_point() and bool(scores.isnan().any()):
        raise ValueError(f"{name} holds {int(scores.isnan().sum())} NaN: the model diverged or its input did")
    return scores.to(torch.uint8) if scores.dtype == torch.bool else scores


def check_flags(name: str, flags: Tensor, like: Tensor) -> Tensor:
    """(N,) booleans, or numbers 0 and 1, beside ``like`` (N,) on the same device."""
    if not isinstance(flags, Tensor):
        raise TypeError(f"{name} must be a boolean tensor (N,), got {describe(flags)}")
    if flags.shape != like.shape[:1]:
        raise ValueError(f"{name} must have shape {tuple(like.shape[:1])}, got {tuple(flags.shape)}")
    check_device(name, flags, like)
    if flags.dtype != torch.bool:
        if not bool(((flags == 0) | (flags == 1)).all()):
            raise ValueError(f"{name} must be booleans, or zeros and ones")
        flags = flags == 1
    return flags


def check_logits(logits: Tensor) -> Tensor:
    """(N, C) finite floating-point numbers, N >= 1, C >= 2."""
    _check_matrix("logits", logits, "for one logit z of class 1 write torch.stack([torch.zeros_like(z), z], -1)")
    if not bool(logits.isfinite().all()):
        raise ValueError("logits holds NaN or infinity: the model diverged or its input did")
    # Scores are differences of large numbers or near 1: half precision would tie them.
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def look_like_probabilities(values: Tensor) -> bool:
    """Whether the rows of (..., C), C >= 2, all lie in [0, 1] and sum to one: no logits do by chance."""
    return (
        values.shape[-1] > 1
        and bool((values >= 0).all())
        and bool(((values.sum(-1) - 1).abs() <= sum_tolerance(values.reshape(-1, values.shape[-1]))).all())
    )


def check_probs(probs: Tensor) -> Tensor:
    """(N, C) probabilities, N >= 1, C >= 2, rows that sum to one."""
    _check_matrix("probs", probs, "for one probability p of class 1 write torch.stack([1 - p, p], -1)")
    probs = probs.detach()
    low, high = (float(v) for v in probs.sum(1).aminmax())
    # written so that NaN fails: a comparison with NaN is never true
    if not (bool(probs.min() >= 0) and max(1 - low, high - 1) <= sum_tolerance(probs)):
        raise ValueError(
            "probs must be probabilities: no NaN, entries >= 0 and rows that sum to 1; apply softmax(-1) to logits"
        )
    return probs


def sum_tolerance(probs: Tensor) -> float:
    """How far the sum of a row of probabilities (N, C) may be from one: the rounding of a softmax in its dtype."""
    # A softmax in float32 stays what it is in float64.
    return 8 * max(torch.finfo(probs.dtype).eps, torch.finfo(torch.float32).eps) * max(probs.shape[1], 8)


def check_labels(labels: Tensor, like: Tensor) -> Tensor:
    """(N,) integers in 0 .. C-1 beside ``like`` (N, C) on the same device."""
    if (
        not isinstance(labels, Tensor)
        or labels.is_floating_point()
        or labels.is_complex()
        or labels.dtype == torch.bool
    ):
        raise TypeError(f"labels must be an integer tensor (N,), got {describe(labels)}")
    if labels.shape != like.shape[:1]:
        raise ValueError(f"labels must have shape {tuple(like.shape[:1])}, got {tuple(labels.shape)}")
    check_device("labels", labels, like)
    low, high = (int(v) for v in labels.aminmax())
    if low < 0 or high >= like.shape[1]:
        raise ValueError(
            f"labels go from {low} to {high}, expected 0 to {like.shape[1] - 1} for {like.shape[1]} classes"
        )
    return labels.to(torch.int64)


def check_categorical(predictive: object) -> None:
    """A law over classes with its uncertainty, what a posterior predicts."""
    if not isinstance(predictive, CategoricalUncertainty):
        raise TypeError(
            "predictive must be a CategoricalPredictive or an EvidentialCategorical (what .predict of a posterior over "
            f"classes returns), got {describe(predictive)}; for probabilities (N, C) write "
            "CategoricalPredictive(probs[None])"
        )


def check_device(name: str, tensor: Tensor, like: Tensor) -> None:
    """Both tensors on one device."""
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}, the rest on {like.device}: move one with .to(device)")


def describe(value: object) -> str:
    """'a float32 tensor of shape (2, 3)', or the name of the type."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__


def _check_matrix(name: str, value: Tensor, advice: str) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor (N, C), got {describe(value)}")
    if value.ndim != 2 or value.shape[0] == 0 or value.shape[1] < 2:
        raise ValueError(f"{name} must have shape (N, C) with N >= 1 and C >= 2, got {tuple(value.shape)}; {advice}")
