"""Evidential regression: a normal-inverse-gamma for each target, Student's t as predictive."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coursekit._inputs import all_finite, check_count
from coursekit.bayes._likelihood import check_targets
from coursekit.device import draw_device
from coursekit.predictive import NormalPredictive, StudentLaw, StudentPredictive


@dataclass(frozen=True)
class EvidentialNormal(StudentLaw):
    r"""A normal-inverse-gamma over the mean and variance of each target, and its predictive.

    .. math:: \sigma^2 \sim \mathrm{InvGamma}(\alpha, \beta), \quad \mu \mid \sigma^2 \sim \mathcal N(\gamma,
        \sigma^2/\nu), \quad y \mid \mu, \sigma^2 \sim \mathcal N(\mu, \sigma^2)
        \;\Rightarrow\; y \sim \mathrm{St}_{2\alpha}\Big(\gamma, \frac{\beta(1 + \nu)}{\nu\alpha}\Big)

    The attributes ``mean aleatoric epistemic variance std log_prob cdf quantile interval`` mean what they do for a
    :class:`~coursekit.predictive.StudentPredictive`; it enters every metric of regression. ``epistemic`` is disputed:
    the likelihood does not determine nu, so the split comes from the regulariser; see the warning in
    :mod:`coursekit.bayes.evidential`.

    Args:
        gamma: (N,) location; nu: (N,) > 0; alpha: (N,) > 1, so that the variance exists; beta: (N,) > 0.

    Raises:
        ValueError: shapes that differ, NaN, or a parameter out of its range.

    >>> p = EvidentialNormal(*(torch.tensor([v]) for v in (0.0, 1.0, 3.0, 4.0)))
    >>> p.aleatoric.item(), p.epistemic.item(), p.variance.item()  # 4/2, 4/(1*2), and the sum
    (2.0, 2.0, 4.0)
    """

    gamma: Tensor
    nu: Tensor
    alpha: Tensor
    beta: Tensor

    def __post_init__(self):
        for name, low in (("gamma", -math.inf), ("nu", 0), ("alpha", 1), ("beta", 0)):
            value = getattr(self, name)
            if value.shape != self.gamma.shape or not all_finite(value) or not bool((value > low).all()):
                raise ValueError(f"{name} must be finite, > {low} and of shape {tuple(self.gamma.shape)}")

    @property
    def freedom(self) -> Tensor:
        """(N,) degrees of freedom of the Student t, 2 alpha."""
        return 2 * self.alpha

    @property
    def location(self) -> Tensor:
        """(N,) location of the Student t, gamma."""
        return self.gamma

    @property
    def aleatoric(self) -> Tensor:
        """(N,) E[sigma^2] = beta / (alpha - 1)."""
        return self.beta / (self.alpha - 1)

    @property
    def epistemic(self) -> Tensor:
        """(N,) Var[mu] = beta / (nu (alpha - 1)); disputed, see :mod:`coursekit.bayes.evidential`."""
        return self.aleatoric / self.nu

    @property
    def scale(self) -> Tensor:
        """(N,) scale of the Student t, sqrt(beta (1 + nu) / (nu alpha))."""
        return torch.sqrt(self.beta * (1 + self.nu) / (self.nu * self.alpha))

    @property
    def predictive(self) -> StudentPredictive:
        """The Student t alone, with its aleatoric part: the parameters of the law over laws left behind."""
        return StudentPredictive(self.freedom, self.location, self.scale, self.aleatoric)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> NormalPredictive:
        """n draws of (mu, sigma^2) as the mixture of normals of which this is the limit."""
        check_count("n", n)
        concentration = self.alpha.expand(n, *self.alpha.shape)
        precision = gamma_draws(concentration, generator) / self.beta
        place = draw_device(precision, generator)
        noise = torch.randn(precision.shape, generator=generator, dtype=precision.dtype, device=place).to(precision)
        variances = 1 / precision
        return NormalPredictive(self.gamma + noise * (variances / self.nu).sqrt(), variances)


class NormalInverseGammaHead(nn.Module):
    """A linear layer that returns an :class:`EvidentialNormal`: gamma free, nu, alpha - 1 and beta by softplus.

    >>> nn.Sequential(nn.Linear(3, 8), nn.ReLU(), NormalInverseGammaHead(8))(torch.zeros(5, 3)).mean.shape
    torch.Size([5])
    """

    def __init__(self, in_features: int):
        super().__init__()
        self.linear = nn.Linear(in_features, 4)

    def forward(self, x: Tensor) -> EvidentialNormal:
        gamma, nu, alpha, beta = self.linear(x).unbind(-1)
        tiny = torch.finfo(x.dtype).eps  # softplus reaches 0 in finite precision, the parameters must not
        return EvidentialNormal(gamma, F.softplus(nu) + tiny, F.softplus(alpha) + 1 + 2 * tiny, F.softplus(beta) + tiny)


def evidential_regression_loss(prediction: EvidentialNormal, y: Tensor, *, regularizer: float = 0.01) -> Tensor:
    r"""Negative log-likelihood of the Student t plus a penalty on evidence where the prediction is wrong.

    .. math:: \frac1N\sum_n -\log \mathrm{St}_{2\alpha}(y_n) + \lambda\,|y_n - \gamma_n|\,(2\nu_n + \alpha_n)

    Args:
        prediction: of N targets; y: (N,) targets; regularizer: lambda >= 0.

    Returns:
        scalar, in nats per datum.

    Raises:
        TypeError, ValueError: targets of another shape or dtype, NaN, a negative regularizer.

    Source: Amini et al., Deep evidential regression (2020); the penalty as in the code they published.

    >>> p = EvidentialNormal(*(torch.tensor([v]) for v in (0.0, 1.0, 2.0, 1.0)))
    >>> y = torch.ones(1)
    >>> round((evidential_regression_loss(p, y, regularizer=1.0) + p.log_prob(y)).item(), 5)  # 1 * (2 * 1 + 2)
    4.0
    """
    if regularizer < 0:
        raise ValueError(f"regularizer={regularizer}: a weight is >= 0")
    y = check_targets(y, prediction.gamma, 1, "regression")
    penalty = (y - prediction.gamma).abs() * (2 * prediction.nu + prediction.alpha)
    return (regularizer * penalty - prediction.log_prob(y)).mean()


def normal_inverse_gamma_kl(p: EvidentialNormal, q: EvidentialNormal) -> Tensor:
    r"""(N,) KL from one normal-inverse-gamma to another, in nats.

    .. math:: \tfrac12\Big(\log\frac{\nu_p}{\nu_q} + \frac{\nu_q}{\nu_p} - 1\Big)
        + \frac{\nu_q}{2}(\gamma_p-\gamma_q)^2\,\frac{\alpha_p}{\beta_p}
        + \alpha_q\log\frac{\beta_p}{\beta_q} - \log\frac{\Gamma(\alpha_p)}{\Gamma(\alpha_q)}
        + (\alpha_p-\alpha_q)\psi(\alpha_p) - (\beta_p-\beta_q)\frac{\alpha_p}{\beta_p}

    with :math:`\mathbb E_p[1/\sigma^2] = \alpha_p/\beta_p`. A regulariser: the distance to a vague q.
    """
    precision = p.alpha / p.beta
    means = 0.5 * (torch.log(p.nu / q.nu) + q.nu / p.nu - 1 + q.nu * (p.gamma - q.gamma).square() * precision)
    shapes = torch.lgamma(q.alpha) - torch.lgamma(p.alpha) + (p.alpha - q.alpha) * torch.digamma(p.alpha)
    return means + q.alpha * torch.log(p.beta / q.beta) + shapes - (p.beta - q.beta) * precision


def gamma_draws(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gamma(concentration, 1) draws, without a gradient."""
    there = concentration.detach().to(draw_device(concentration, generator))
    return torch._standard_gamma(there, generator=generator).to(concentration.device)
