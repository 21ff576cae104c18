"""What every posterior of the course returns: a predictive distribution made of S samples or components."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from coursekit._roots import bisect
from coursekit._student import student_cdf, student_half_width, student_log_density


@runtime_checkable
class Predictive(Protocol):
    """What is said about N targets: a law over classes (``mean`` (N, C) its probabilities) or over numbers ((N,))."""

    @property
    def mean(self) -> Tensor:
        """(N, C) class probabilities, or (N,) means."""

    def log_prob(self, y: Tensor) -> Tensor:
        """(N,) log probability, or density, of labels or targets y (N,), in nats."""


@runtime_checkable
class Posterior(Protocol):
    """What has learned from data: every posterior of :mod:`coursekit.bayes`."""

    def predict(self, x: Tensor, *, samples: int | None = None, generator: torch.Generator | None = None) -> Predictive:
        """The predictive at x (N, ...).

        Args:
            samples: draws of the weights, or members used; ``None``: the closed form where there is one, all members,
                or as many draws as the method takes by default.
            generator: source of the draws. Given where nothing is drawn, it is an error.
        """


class CategoricalUncertainty:
    """What a law over class probabilities says, given its ``mean`` (N, C) and ``expected_entropy`` (N,)."""

    @cached_property
    def labels(self) -> Tensor:
        """(N,) the most probable class of the predictive distribution."""
        return self.mean.argmax(-1)

    @cached_property
    def confidence(self) -> Tensor:
        """(N,) the largest predictive probability."""
        return self.mean.amax(-1)

    def log_prob(self, y: Tensor) -> Tensor:
        """(N,) log predictive probability of labels y (N,) in 0 .. C-1, in nats.

        Raises:
            TypeError, ValueError: no integers, another length, another device, or a label out of range.
        """
        classes = self.mean.shape[-1]
        if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise TypeError(f"y must be an integer tensor (N,) of labels, got {_describe(y)}")
        if y.shape != self.mean.shape[:1] or y.device != self.mean.device:
            raise ValueError(
                f"y must have shape {tuple(self.mean.shape[:1])} on {self.mean.device}, got {tuple(y.shape)} on "
                f"{y.device}"
            )
        if y.numel() and not bool(((y >= 0) & (y < classes)).all()):
            raise ValueError(f"y goes from {int(y.min())} to {int(y.max())}, expected labels 0 to {classes - 1}")
        return self.mean.gather(-1, y.long()[:, None]).squeeze(-1).log()

    @cached_property
    def entropy(self) -> Tensor:
        """(N,) entropy of the predictive distribution, in [0, log C] nats: total uncertainty."""
        return torch.special.entr(self.mean).sum(-1)

    @cached_property
    def mutual_information(self) -> Tensor:
        """(N,) entropy - expected_entropy >= 0, in nats: epistemic uncertainty."""
        return (self.entropy - self.expected_entropy).clamp_min(0)  # Jensen; only rounding is cut


@dataclass(frozen=True)
class CategoricalPredictive(CategoricalUncertainty):
    r"""Class probabilities of S posterior samples, and what they say about uncertainty (in nats).

    With :math:`\bar p = \frac1S\sum_s p_s` the predictive distribution,

    .. math::
        \underbrace{H[\bar p]}_{\text{entropy}}
        = \underbrace{\tfrac1S\textstyle\sum_s H[p_s]}_{\text{expected\_entropy}}
        + \underbrace{\tfrac1S\textstyle\sum_s \mathrm{KL}(p_s\,\|\,\bar p)}_{\text{mutual\_information}\ \ge 0}.

    Args:
        probs: (S, N, C) probabilities of sample s, input n, class c; each row sums to one.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: not three axes, S or C empty, NaN, a negative entry, or rows that do not sum to one.

    Example: two samples that are sure of different classes: nothing but epistemic uncertainty, log 2 nats.

    >>> p = CategoricalPredictive(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64))
    >>> [round(float(v), 6) for v in (p.entropy, p.expected_entropy, p.mutual_information, p.variation_ratio)]
    [0.693147, 0.0, 0.693147, 0.5]
    """

    probs: Tensor

    def __post_init__(self):
        p = self.probs
        if not isinstance(p, Tensor) or not p.is_floating_point():
            raise TypeError(f"probs must be a floating-point tensor (S, N, C), got {_describe(p)}")
        if p.ndim != 3 or p.shape[0] == 0 or p.shape[2] == 0:
            raise ValueError(
                f"probs must have shape (S, N, C) with S, C >= 1, got {tuple(p.shape)}; "
                "for one sample of (N, C) probabilities write probs[None]"
            )
        if p.numel() and not bool(torch.isfinite(p).all()):
            raise ValueError("probs holds NaN or infinity: the model diverged or its input did")
        # Rounding of a C-term sum in the dtype at hand, or in float32 before a conversion to float64.
        tolerance = 8 * max(torch.finfo(p.dtype).eps, torch.finfo(torch.float32).eps) * max(p.shape[2], 8)
        if bool((p < 0).any()) or bool(((p.sum(-1) - 1).abs() > tolerance).any()):
            raise ValueError(
                "probs must be probabilities: entries >= 0 and rows that sum to 1; apply softmax to logits"
            )

    @cached_property
    def mean(self) -> Tensor:
        """(N, C) the predictive distribution, the average over samples."""
        return self.probs.mean(0)

    @cached_property
    def expected_entropy(self) -> Tensor:
        """(N,) mean entropy of the samples, in nats: aleatoric uncertainty."""
        return torch.special.entr(self.probs).sum(-1).mean(0)

    @cached_property
    def variation_ratio(self) -> Tensor:
        """(N,) share of the samples that do not vote for the most voted class, in [0, 1 - 1/C]."""
        samples, _, classes = self.probs.shape
        votes = torch.nn.functional.one_hot(self.probs.argmax(-1), classes).sum(0)  # (N, C)
        return 1 - votes.amax(-1).to(self.probs.dtype) / samples


@dataclass(frozen=True)
class NormalPredictive:
    r"""An equal mixture of S normal laws a target: what every regression posterior returns.

    Component s says :math:`t \sim \mathcal N(m_s,\ v_s + u_s)`: mean :math:`m_s`, noise variance :math:`v_s`, and,
    where the posterior integrates its weights in closed form, the variance :math:`u_s` of the mean itself. By the law
    of total variance

    .. math::
        \operatorname{Var}[t] = \underbrace{\tfrac1S\textstyle\sum_s v_s}_{\text{aleatoric}}
        + \underbrace{\tfrac1S\textstyle\sum_s u_s + \tfrac1S\textstyle\sum_s (m_s - \bar m)^2}_{\text{epistemic}}.

    Args:
        means: (S, N) component means, in the unit of the target.
        variances: (S, N) noise variances > 0, in that unit squared; any shape that expands to (S, N).
        mean_variances: (S, N) variances of the means >= 0; ``None``: zero.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: shapes that do not fit, NaN, or a variance out of range.

    Example: a standard normal has density 1/sqrt(2 pi) at 0 and the 95 % interval +-1.95996.

    >>> p = NormalPredictive(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    >>> round(float(p.log_prob(torch.zeros(1, dtype=torch.float64))), 6), round(float(p.interval(0.95)[1]), 5)
    (-0.918939, 1.95996)
    """

    means: Tensor
    variances: Tensor
    mean_variances: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self):
        m = self.means
        for name, value in (
            ("means", m),
            ("variances", self.variances),
            ("mean_variances", self.mean_variances),
        ):
            if value is None and name == "mean_variances":
                continue
            if not isinstance(value, Tensor) or not value.is_floating_point():
                raise TypeError(f"{name} must be a floating-point tensor (S, N), got {_describe(value)}")
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} holds NaN or infinity: the model diverged or its input did")
        if m.ndim < 2 or m.shape[0] == 0:
            raise ValueError(f"means must have shape (S, N), S >= 1, got {tuple(m.shape)}; for S = 1 write means[None]")
        spread = torch.zeros_like(m) if self.mean_variances is None else self.mean_variances
        for name, value in (("variances", self.variances), ("mean_variances", spread)):
            try:
                expanded = value.expand(m.shape)
            except RuntimeError as error:
                raise ValueError(f"{name} {tuple(value.shape)} does not fit means {tuple(m.shape)}") from error
            object.__setattr__(self, name, expanded)
        if bool((self.variances <= 0).any()) or bool((self.mean_variances < 0).any()):
            raise ValueError(
                "variances must be > 0 and mean_variances >= 0 (variances, not standard deviations or logs)"
            )

    @cached_property
    def mean(self) -> Tensor:
        """(N,) predictive mean."""
        return self.means.mean(0)

    @cached_property
    def aleatoric(self) -> Tensor:
        """(N,) mean noise variance: what more data of the same kind cannot remove."""
        return self.variances.mean(0)

    @cached_property
    def epistemic(self) -> Tensor:
        """(N,) variance of the mean under the posterior: what more data removes."""
        return self.mean_variances.mean(0) + self.means.var(0, correction=0)

    @cached_property
    def variance(self) -> Tensor:
        """(N,) aleatoric + epistemic."""
        return self.aleatoric + self.epistemic

    @cached_property
    def std(self) -> Tensor:
        """(N,) square root of the variance."""
        return self.variance.sqrt()

    def log_prob(self, t: Tensor) -> Tensor:
        """(N,) log density of the mixture at targets t (N,), in nats."""
        scale = self._scales()
        z = (_target(t, self.means[0]) - self.means) / scale
        log_components = -0.5 * z.square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(log_components, 0) - math.log(self.means.shape[0])

    def cdf(self, t: Tensor) -> Tensor:
        """(N,) distribution function of the mixture at t (N,)."""
        z = (_target(t, self.means[0]) - self.means) / self._scales()
        return torch.special.ndtr(z.double()).mean(0).to(z.dtype)

    def quantile(self, level: float) -> Tensor:
        """(N,) the value below which the target falls with probability ``level`` in (0, 1).

        Exact for one component; for a mixture by bisection between the extreme component quantiles.
        """
        if not 0 < level < 1:
            raise ValueError(f"level={level}: a quantile level lies strictly between 0 and 1")
        dtype, means, scale = self.means.dtype, self.means.double(), self._scales().double()
        # In float64: the level 1 - 5e-9 is 1 in float32, and its quantile infinite.
        z = torch.special.ndtri(torch.tensor(level, dtype=torch.float64)).to(means.device)
        quantiles = means + z * scale
        if len(means) == 1:
            return quantiles[0].to(dtype)
        low, high = quantiles.amin(0), quantiles.amax(0)
        return bisect(lambda t: torch.special.ndtr((t - means) / scale).mean(0) < level, low, high).to(dtype)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(N,), (N,) the central interval that holds the target with probability ``level``."""
        if not 0 < level < 1:
            raise ValueError(f"level={level}: the probability of an interval lies strictly between 0 and 1")
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def _scales(self) -> Tensor:
        return (self.variances + self.mean_variances).sqrt()


class StudentLaw:
    """What a law of Student's t says of each target: for a class with ``freedom location scale aleatoric`` (N,)."""

    @property
    def mean(self) -> Tensor:
        """(N,) predictive mean, the location."""
        return self.location

    @property
    def epistemic(self) -> Tensor:
        """(N,) variance - aleatoric."""
        return self.variance - self.aleatoric

    @property
    def variance(self) -> Tensor:
        """(N,) scale^2 freedom / (freedom - 2)."""
        return self.scale.square() * self.freedom / (self.freedom - 2)

    @property
    def std(self) -> Tensor:
        """(N,) square root of the variance."""
        return self.variance.sqrt()

    def log_prob(self, t: Tensor) -> Tensor:
        """(N,) log density at targets t (N,), in nats."""
        z = (_target(t, self.location) - self.location) / self.scale
        return student_log_density(z, self.freedom) - self.scale.log()

    def cdf(self, t: Tensor) -> Tensor:
        """(N,) distribution function at t (N,), to rounding in float64."""
        return student_cdf((_target(t, self.location) - self.location) / self.scale, self.freedom)

    def quantile(self, level: float) -> Tensor:
        """(N,) the value below which the target falls with probability ``level`` in (0, 1)."""
        if not 0 < level < 1:
            raise ValueError(f"level={level}: a quantile level lies strictly between 0 and 1")
        tail = min(level, 1 - level)
        half = self.scale * student_half_width(self.freedom, tail)
        return self.location + (half if level > 0.5 else -half)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(N,), (N,) the central interval that holds the target with probability ``level``."""
        if not 0 < level < 1:
            raise ValueError(f"level={level}: the probability of an interval lies strictly between 0 and 1")
        half = self.scale * student_half_width(self.freedom, (1 - level) / 2)
        return self.location - half, self.location + half


@dataclass(frozen=True)
class StudentPredictive(StudentLaw):
    r"""Student's t for each target: what is left of a normal law whose mean and variance are integrated out.

    .. math:: t \sim m + s\,T_\nu, \qquad \operatorname{Var}[t] = s^2\,\frac{\nu}{\nu - 2}

    Args:
        freedom: (N,) degrees of freedom nu > 2, so that the variance exists.
        location: (N,) m, in the unit of the target; scale: (N,) s > 0, in that unit.
        aleatoric: (N,) the part of the variance that is noise, from 0 to all of it; ``None``: all of it.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: shapes that differ, NaN, or a parameter out of range.

    Example: with many degrees of freedom it is the normal law.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> p = StudentPredictive(1e9 * one, 0 * one, one)
    >>> round(float(p.interval(0.95)[1]), 5), round(float(p.cdf(0 * one)), 6)
    (1.95996, 0.5)
    """

    freedom: Tensor
    location: Tensor
    scale: Tensor
    aleatoric: Tensor | None = None

    def __post_init__(self):
        shape = getattr(self.location, "shape", None)
        for name, low in (("freedom", 2), ("location", -math.inf), ("scale", 0), ("aleatoric", None)):
            value = getattr(self, name)
            if name == "aleatoric" and value is None:
                value = self.variance
                object.__setattr__(self, name, value)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                raise TypeError(f"{name} must be a floating-point tensor (N,), got {_describe(value)}")
            if value.shape != shape or not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} must be finite and of the shape {tuple(shape)} of location")
            if low is not None and not bool((value > low).all()):
                raise ValueError(f"{name} must be > {low}, got {float(value.min()):g}")
        slack = 1 + 16 * torch.finfo(self.scale.dtype).eps
        if not bool(((self.aleatoric >= 0) & (self.aleatoric <= slack * self.variance)).all()):
            raise ValueError("aleatoric must lie between 0 and the variance, of which it is a part")


def _target(t: Tensor, like: Tensor) -> Tensor:
    t = torch.as_tensor(t, dtype=like.dtype, device=like.device)
    if t.ndim and t.shape != like.shape:
        raise ValueError(f"t must have shape {tuple(like.shape)}, got {tuple(t.shape)}")
    return t


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__
