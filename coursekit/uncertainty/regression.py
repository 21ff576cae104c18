"""Whether predictive distributions of a number are calibrated and sharp: coverage, calibration curve, CRPS.

Every function takes a :class:`~coursekit.predictive.NormalPredictive`, an equal mixture of S normal laws for each of N
targets, so the output of any regression posterior goes straight in; one Gaussian is a mixture with S = 1.
"""

import math

import torch
from torch import Tensor

from coursekit.predictive import NormalPredictive
from coursekit.uncertainty._checks import check_device, describe


def coverage(predictive: NormalPredictive, t: Tensor, *, level: float = 0.95) -> float:
    """Share of targets inside their central interval of probability ``level``; calibrated means equal to ``level``.

    t is inside if and only if (1 - level) / 2 <= F(t) <= (1 + level) / 2: no quantile has to be found.

    Args:
        t: (N,) targets.

    Raises:
        TypeError, ValueError: targets that do not fit, NaN, or a level outside (0, 1).

    >>> p = NormalPredictive(torch.zeros(1, 3), torch.ones(1, 3))
    >>> round(coverage(p, torch.tensor([-1.9, 0.0, 2.0])), 6)
    0.666667
    """
    return float(calibration_curve(predictive, t, levels=torch.tensor([level], dtype=torch.float64))[0])


def calibration_curve(predictive: NormalPredictive, t: Tensor, *, levels: Tensor) -> Tensor:
    """(L,) observed coverage of the central intervals of each of ``levels`` (L,); calibrated means the diagonal.

    Arguments and errors as in :func:`coverage`. See Kuleshov, Fenner and Ermon 2018.

    >>> p = NormalPredictive(torch.zeros(1, 2), torch.ones(1, 2))
    >>> calibration_curve(p, torch.tensor([0.1, 1.0]), levels=torch.tensor([0.1, 0.5, 0.9])).tolist()
    [0.5, 0.5, 1.0]
    """
    levels = torch.as_tensor(levels)
    if levels.ndim != 1 or len(levels) == 0 or not bool(((levels > 0) & (levels < 1)).all()):
        raise ValueError(f"levels={levels.tolist()}: probabilities (L,) strictly between 0 and 1 are expected")
    distance = 2 * (pit(predictive, t).to(torch.float64) - 0.5).abs()
    ordered = distance.sort().values
    inside = torch.searchsorted(ordered, levels.to(ordered), right=True)
    return inside.to(torch.float64) / len(ordered)


def pit(predictive: NormalPredictive, t: Tensor) -> Tensor:
    """(N,) probability integral transform F(t), uniform on [0, 1] if the predictive distribution is right.

    >>> pit(NormalPredictive(torch.zeros(1, 1), torch.ones(1, 1)), torch.zeros(1))
    tensor([0.5000])
    """
    return predictive.cdf(_check_targets(predictive, t))


def sharpness(predictive: NormalPredictive) -> float:
    """Mean predictive standard deviation, in the unit of the target: smaller is sharper, at equal coverage.

    >>> sharpness(NormalPredictive(torch.zeros(1, 2), torch.tensor([[1.0, 9.0]])))
    2.0
    """
    if predictive.means.shape[1:].numel() == 0:
        raise ValueError("the predictive distribution holds no input")
    return float(predictive.std.to(torch.float64).mean())


def crps_gaussian(mean: Tensor, std: Tensor, t: Tensor) -> Tensor:
    r"""Continuous ranked probability score of normal laws, in the unit of the target; smaller is better.

    .. math::
        \int (F(x) - \mathbb 1[x \ge t])^2\,dx
        = \sigma\Big[z\,(2\Phi(z) - 1) + 2\varphi(z) - \tfrac1{\sqrt\pi}\Big], \qquad z = \frac{t - \mu}\sigma.

    See Gneiting and Raftery 2007. As :math:`\sigma \to 0` it becomes the absolute error.

    Args:
        mean, std, t: tensors that broadcast; std > 0.

    Raises:
        ValueError: std <= 0 or NaN.

    >>> round(float(crps_gaussian(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(0.0))), 6)
    0.233695
    """
    if not bool((std > 0).all()):
        raise ValueError("std must be > 0 everywhere (a standard deviation, not a variance or a log)")
    return _mean_distance(t - mean, std) - std / math.sqrt(math.pi)


def crps(predictive: NormalPredictive, t: Tensor) -> Tensor:
    r"""(N,) continuous ranked probability score of a mixture of normal laws, in closed form.

    With :math:`A(m, s) = \mathrm E|m + s\,\varepsilon| = 2 s\varphi(m/s) + m(2\Phi(m/s) - 1)`, from
    :math:`\mathrm{CRPS} = \mathrm E|T - t| - \tfrac12\mathrm E|T - T'|` (Gneiting and Raftery 2007):

    .. math::
        \frac1S\sum_i A(t - m_i,\, s_i) - \frac1{2S^2}\sum_{i,j} A\big(m_i - m_j,\, \sqrt{s_i^2 + s_j^2}\big).

    O(S^2 N) time, O(S N) memory.

    Args:
        t: (N,) targets.

    Raises:
        TypeError, ValueError: targets that do not fit, or NaN.

    >>> p = NormalPredictive(torch.zeros(1, 1), torch.ones(1, 1))
    >>> torch.allclose(crps(p, torch.ones(1)), crps_gaussian(torch.zeros(1), torch.ones(1), torch.ones(1)))
    True
    """
    t = _check_targets(predictive, t)
    means, variances = predictive.means, predictive.variances + predictive.mean_variances
    samples = len(means)
    error = _mean_distance(t - means, variances.sqrt()).mean(0)
    spread = torch.zeros_like(error)
    for mean, variance in zip(means, variances, strict=True):  # one row at a time: S x N memory, not S x S x N
        spread += _mean_distance(means - mean, (variances + variance).sqrt()).sum(0)
    return error - spread / (2 * samples**2)


def _mean_distance(mean: Tensor, std: Tensor) -> Tensor:
    """E|X| for X normal."""
    z = mean / std
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return 2 * std * density + mean * torch.erf(z / math.sqrt(2))


def _check_targets(predictive: NormalPredictive, t: Tensor) -> Tensor:
    if not isinstance(t, Tensor) or not t.is_floating_point():
        raise TypeError(f"t must be a floating-point tensor of targets (N,), got {describe(t)}")
    expected = predictive.means.shape[1:]
    if t.shape != expected or t.numel() == 0:
        raise ValueError(f"t must have the shape {tuple(expected)} of the predictive, not empty; got {tuple(t.shape)}")
    check_device("t", t, predictive.means)
    if bool(t.isnan().any()):
        raise ValueError("t holds NaN")
    return t
