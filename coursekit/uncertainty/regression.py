"""Whether predictive distributions of a number are calibrated and sharp: coverage, calibration curve, CRPS.

Every function takes what a regression posterior returns for N targets: a
:class:`~coursekit.predictive.NormalPredictive`, an equal mixture of S normal laws (one Gaussian: S = 1), or a
:class:`~coursekit.predictive.StudentPredictive`, what evidential models say.
"""

import math

import torch
from torch import Tensor

from coursekit._student import half_step, student_cdf, student_log_density
from coursekit.predictive import NormalPredictive, StudentLaw
from coursekit.uncertainty._checks import check_device, describe

RealPredictive = NormalPredictive | StudentLaw


def coverage(predictive: RealPredictive, t: Tensor, *, level: float = 0.95) -> float:
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


def calibration_curve(predictive: RealPredictive, t: Tensor, *, levels: Tensor) -> Tensor:
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


def pit(predictive: RealPredictive, t: Tensor) -> Tensor:
    """(N,) probability integral transform F(t), uniform on [0, 1] if the predictive distribution is right.

    >>> pit(NormalPredictive(torch.zeros(1, 1), torch.ones(1, 1)), torch.zeros(1))
    tensor([0.5000])
    """
    t = _check_targets(predictive, t)
    return predictive.cdf(t)


def sharpness(predictive: RealPredictive) -> float:
    """Mean predictive standard deviation, in the unit of the target: smaller is sharper, at equal coverage.

    >>> sharpness(NormalPredictive(torch.zeros(1, 2), torch.tensor([[1.0, 9.0]])))
    2.0
    """
    check_real(predictive)
    if predictive.mean.numel() == 0:
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


def crps(predictive: RealPredictive, t: Tensor) -> Tensor:
    r"""(N,) continuous ranked probability score of a mixture of normal laws, or of Student's t, in closed form.

    For a mixture, with :math:`A(m, s) = \mathrm E|m + s\,\varepsilon| = 2 s\varphi(m/s) + m(2\Phi(m/s) - 1)`, from
    :math:`\mathrm{CRPS} = \mathrm E|T - t| - \tfrac12\mathrm E|T - T'|` (Gneiting and Raftery 2007):

    .. math::
        \frac1S\sum_i A(t - m_i,\, s_i) - \frac1{2S^2}\sum_{i,j} A\big(m_i - m_j,\, \sqrt{s_i^2 + s_j^2}\big).

    O(S^2 N) time, O(S N) memory. For Student's t with density f, distribution function F and :math:`z = (t - m)/s`
    (Jordan, Krüger and Lerch 2019):

    .. math::
        s\Big[z\,(2F(z) - 1) + 2 f(z)\,\frac{\nu + z^2}{\nu - 1}
        - \frac{2\sqrt\nu}{\nu - 1}\,\frac{B(\frac12, \nu - \frac12)}{B(\frac12, \frac\nu2)^2}\Big].

    Args:
        t: (N,) targets.

    Raises:
        TypeError, ValueError: targets that do not fit, or NaN.

    >>> p = NormalPredictive(torch.zeros(1, 1), torch.ones(1, 1))
    >>> torch.allclose(crps(p, torch.ones(1)), crps_gaussian(torch.zeros(1), torch.ones(1), torch.ones(1)))
    True
    """
    t = _check_targets(predictive, t)
    if isinstance(predictive, StudentLaw):
        return _crps_student(predictive, t)
    means, variances = predictive.means, predictive.variances + predictive.mean_variances
    samples = len(means)
    error = _mean_distance(t - means, variances.sqrt()).mean(0)
    spread = torch.zeros_like(error)
    for mean, variance in zip(means, variances, strict=True):  # one row at a time: S x N memory, not S x S x N
        spread += _mean_distance(means - mean, (variances + variance).sqrt()).sum(0)
    return error - spread / (2 * samples**2)


def _crps_student(p: StudentLaw, t: Tensor) -> Tensor:
    nu, scale = p.freedom.double(), p.scale.double()
    z = (t.double() - p.location.double()) / scale
    density = student_log_density(z, nu).exp()
    spread = 2 * nu.sqrt() / (nu - 1) * torch.exp(_log_beta(nu - 0.5) - 2 * _log_beta(nu / 2))
    inside = z * (2 * student_cdf(z, nu) - 1)
    return (scale * (inside + 2 * density * (nu + z.square()) / (nu - 1) - spread)).to(t.dtype)


def _log_beta(b: Tensor) -> Tensor:
    """log B(1/2, b)."""
    return 0.5 * math.log(math.pi) - half_step(b)


def _mean_distance(mean: Tensor, std: Tensor) -> Tensor:
    """E|X| for X normal."""
    z = mean / std
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return 2 * std * density + mean * torch.erf(z / math.sqrt(2))


def check_real(predictive: object) -> None:
    """A law over numbers, what a regression posterior predicts."""
    if not isinstance(predictive, RealPredictive):
        raise TypeError(
            "predictive must be a NormalPredictive or a StudentPredictive (what .predict of a regression posterior "
            f"returns), got {describe(predictive)}"
        )


def _check_targets(predictive: RealPredictive, t: Tensor) -> Tensor:
    check_real(predictive)
    if not isinstance(t, Tensor) or not t.is_floating_point():
        raise TypeError(f"t must be a floating-point tensor of targets (N,), got {describe(t)}")
    expected = predictive.mean.shape
    if t.shape != expected or t.numel() == 0:
        raise ValueError(f"t must have the shape {tuple(expected)} of the predictive, not empty; got {tuple(t.shape)}")
    check_device("t", t, predictive.mean)
    if bool(t.isnan().any()):
        raise ValueError("t holds NaN")
    return t
