"""What the networks of this package have in common: checked inputs, likelihoods, predictives made of outputs."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from coursekit._inputs import all_finite
from coursekit.predictive import CategoricalPredictive, NormalPredictive

Likelihood = Literal["classification", "regression", "heteroscedastic"]

# One meaning for the outputs (N, K) of a network, everywhere:
#   classification    K >= 2 logits (softmax), or K = 1 logit of class 1 (sigmoid)
#   regression        K = 1, the mean; the noise has one standard deviation, noise_std
#   heteroscedastic   K = 2, the mean and the log variance of the noise
LIKELIHOODS = ("classification", "regression", "heteroscedastic")


def as_columns(outputs: Tensor, n: int, likelihood: Likelihood) -> Tensor:
    """The outputs of a network as (N, K), with the K that the likelihood needs."""
    columns = outputs[:, None] if isinstance(outputs, Tensor) and outputs.ndim == 1 else outputs
    if not isinstance(columns, Tensor) or columns.ndim != 2 or len(columns) != n:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"the model must return outputs (N, K) or (N,) with N = {n}, got {shape}")
    wanted = {"classification": None, "regression": 1, "heteroscedastic": 2}[likelihood]
    if wanted is not None and columns.shape[1] != wanted:
        what = {1: "one output a row, the mean", 2: "two outputs a row, the mean and the log variance"}[wanted]
        raise ValueError(f'likelihood="{likelihood}" needs {what}; the model returns {columns.shape[1]}')
    return columns


def check_targets(y: Tensor, x: Tensor, classes: int, likelihood: Likelihood) -> Tensor:
    """Targets (N,) of the right kind: labels as int64, or real targets in the dtype of x."""
    if not isinstance(y, Tensor):
        raise TypeError(f"y must be a tensor, got {type(y).__name__}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (len(x),):
        raise ValueError(f"y must have shape (N,) with N = {len(x)} inputs, got {tuple(y.shape)}")
    if y.device != x.device:
        raise ValueError(f"y is on {y.device}, x on {x.device}: move one with .to(...)")
    if likelihood != "classification":
        if y.dtype != x.dtype:
            raise TypeError(f"y must be {x.dtype} like x, got {y.dtype}")
        if not all_finite(y):
            raise ValueError("y holds NaN or infinity: drop or fill the missing targets")
        return y
    labels = y.long()
    if y.is_floating_point() and not bool((labels == y).all()):
        raise ValueError("y must hold class numbers 0, 1, ..., got fractions or NaN")
    count = max(classes, 2)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= count:
        raise ValueError(f"labels must lie in 0..{count - 1} for a model with {classes} outputs, got {low}..{high}")
    return labels


def log_likelihood(outputs: Tensor, y: Tensor, likelihood: Likelihood, noise_std: float = 1.0) -> Tensor:
    """(N,) log p(y_n | outputs_n) in nats, for checked outputs (N, K) and targets (N,)."""
    if likelihood == "classification":
        if outputs.shape[1] == 1:
            return -F.binary_cross_entropy_with_logits(outputs[:, 0], y.to(outputs.dtype), reduction="none")
        return -F.cross_entropy(outputs, y, reduction="none")
    residual = y - outputs[:, 0]
    if likelihood == "regression":
        return -0.5 * (residual / noise_std).square() - math.log(noise_std) - 0.5 * math.log(2 * math.pi)
    log_variance = outputs[:, 1]
    return -0.5 * (residual.square() * (-log_variance).exp() + log_variance + math.log(2 * math.pi))


def class_probabilities(logits: Tensor) -> Tensor:
    """(..., C) probabilities of logits (..., C), or of one logit (..., 1) of class 1."""
    if logits.shape[-1] == 1:
        return torch.sigmoid(torch.cat([-logits, logits], -1))
    return logits.softmax(-1)


def predictive_of(
    outputs: Tensor, likelihood: Likelihood, noise_std: float
) -> CategoricalPredictive | NormalPredictive:
    """The predictive made of S members with outputs (S, N, K)."""
    if likelihood == "classification":
        return CategoricalPredictive(class_probabilities(outputs))
    if likelihood == "regression":
        return NormalPredictive(outputs[..., 0], torch.full_like(outputs[..., 0], noise_std**2))
    return NormalPredictive(outputs[..., 0], outputs[..., 1].exp())
