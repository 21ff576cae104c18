"""Evidential classification: a Dirichlet over the class probabilities of each input."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coursekit._inputs import all_finite, check_count
from coursekit.bayes._likelihood import check_targets
from coursekit.bayes.evidential_regression import gamma_draws
from coursekit.predictive import CategoricalPredictive, CategoricalUncertainty

_NODES = 200


@dataclass(frozen=True)
class EvidentialCategorical(CategoricalUncertainty):
    r"""A Dirichlet over the class probabilities of each input.

    .. math:: p \sim \mathrm{Dir}(\alpha_1, \dots, \alpha_C), \qquad \alpha_0 = \sum_k \alpha_k, \qquad
        \mathbb E[p_k] = \alpha_k / \alpha_0

    The attributes ``mean labels confidence entropy expected_entropy mutual_information variation_ratio`` mean what they
    do for a :class:`~coursekit.predictive.CategoricalPredictive`, without draws; it enters every metric of those.
    ``mutual_information``, the epistemic part, is disputed: the loss does not reward a faithful second-order
    distribution, see the warning in :mod:`coursekit.bayes.evidential`.

    Args:
        concentration: (N, C) alpha > 0.

    Raises:
        ValueError: not (N, C), NaN, or an entry <= 0.

    >>> flat = EvidentialCategorical(torch.ones(1, 2, dtype=torch.float64))  # uniform on [0, 1]
    >>> round(flat.expected_entropy.item(), 12), round(flat.mutual_information.item(), 6)  # 1/2, log 2 - 1/2
    (0.5, 0.193147)
    """

    concentration: Tensor

    def __post_init__(self):
        a = self.concentration
        if a.ndim != 2 or a.shape[1] == 0 or not all_finite(a) or not bool((a > 0).all()):
            raise ValueError(f"concentration must be (N, C), finite and > 0; got {tuple(a.shape)}")

    @cached_property
    def strength(self) -> Tensor:
        """(N,) alpha_0, the total evidence with that of the prior."""
        return self.concentration.sum(-1)

    @cached_property
    def vacuity(self) -> Tensor:
        """(N,) C / alpha_0, in (0, 1] for alpha >= 1: the share of the prior in the evidence."""
        return self.concentration.shape[1] / self.strength

    @cached_property
    def mean(self) -> Tensor:
        """(N, C) the predictive distribution."""
        return self.concentration / self.strength[:, None]

    @cached_property
    def expected_entropy(self) -> Tensor:
        """(N,) E[H[p]] = -sum_k mean_k (psi(alpha_k + 1) - psi(alpha_0 + 1)), in nats."""
        gap = torch.digamma(self.strength + 1)[:, None] - torch.digamma(self.concentration + 1)
        return (self.mean * gap).sum(-1)

    @cached_property
    def variation_ratio(self) -> Tensor:
        """(N,) 1 - max_k P(p_k is the largest), by quadrature to nine digits: draws that vote otherwise."""
        blocks = self.concentration.detach().double().split(max(1, 2**22 // self.concentration.shape[1] // _NODES))
        return (1 - torch.cat([_votes(a).amax(1) for a in blocks])).clamp_min(0).to(self.concentration.dtype)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> CategoricalPredictive:
        """n draws of the class probabilities."""
        check_count("n", n)
        draws = gamma_draws(self.concentration.expand(n, *self.concentration.shape), generator)
        draws = draws.clamp_min(torch.finfo(draws.dtype).tiny)  # all of a row may underflow for tiny concentrations
        return CategoricalPredictive(draws / draws.sum(-1, keepdim=True))


def _votes(alpha: Tensor) -> Tensor:
    r"""(N, C) the probability that class k is the largest under Dir(alpha), in float64.

    A Dirichlet is a row of independent gamma variables over their sum, so :math:`P_k = \int f_k \prod_{j\ne k} F_j`. In
    the logarithm y of the variable the integrand is smooth and falls off at both ends; the trapezoidal rule in t with
    :math:`y = \log\max\alpha + w \sinh t` sees both a narrow peak (large alpha) and a long tail (small alpha).
    """
    peak = alpha.amax(1, keepdim=True)
    t = torch.linspace(-9, 9, _NODES, dtype=alpha.dtype, device=alpha.device)
    width = peak.clamp_min(1).rsqrt()
    log_x = (peak.log() + width * t.sinh())[..., None]  # (N, T, 1)
    step = (width * t.cosh() * (t[1] - t[0]))[..., None]
    a = alpha[:, None].expand(-1, _NODES, -1)
    x = log_x.exp().clamp_max(1e300)
    series = a * log_x - torch.lgamma(a + 1)  # of log F near 0, where x itself underflows
    log_cdf = torch.where(log_x < -30, series, torch.special.gammainc(a, x.expand_as(a)).log())
    log_density = a * log_x - x - torch.lgamma(a)
    total = log_cdf.sum(-1, keepdim=True)
    integrand = torch.where(total.isfinite(), (log_density + total - log_cdf).exp(), 0.0)
    return (integrand * step).sum(1)


class DirichletHead(nn.Module):
    """A linear layer that returns an :class:`EvidentialCategorical` with concentration 1 + softplus.

    >>> DirichletHead(8, 3)(torch.zeros(5, 8)).mean.shape
    torch.Size([5, 3])
    """

    def __init__(self, in_features: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(in_features, classes)

    def forward(self, x: Tensor) -> EvidentialCategorical:
        return EvidentialCategorical(1 + F.softplus(self.linear(x)))


def evidential_classification_loss(prediction: EvidentialCategorical, y: Tensor, *, regularizer: float = 0.1) -> Tensor:
    r"""Expected squared error under the Dirichlet, plus a KL that removes evidence for the wrong classes.

    With m the mean and y one-hot, per datum

    .. math:: \mathbb E\|y - p\|^2 = \sum_k (y_k - m_k)^2 + \frac{m_k(1 - m_k)}{\alpha_0 + 1}, \qquad
        \lambda\,\mathrm{KL}\big(\mathrm{Dir}(\tilde\alpha)\,\|\,\mathrm{Dir}(1)\big), \quad
        \tilde\alpha = y + (1 - y)\odot\alpha.

    Raise ``regularizer`` from 0 to its value over the first epochs, so that the model first learns the classes.

    Args:
        prediction: of N inputs; y: (N,) labels; regularizer: lambda >= 0.

    Returns:
        scalar, the mean over the data.

    Raises:
        ValueError: labels out of range, another length, a negative regularizer.

    Source: Sensoy, Kaplan and Kandemir, Evidential deep learning to quantify classification uncertainty (2018).

    >>> p = EvidentialCategorical(torch.ones(1, 2))
    >>> round(evidential_classification_loss(p, torch.tensor([0])).item(), 6)  # 2 (1/4 + 1/12), no evidence: KL = 0
    0.666667
    """
    if regularizer < 0:
        raise ValueError(f"regularizer={regularizer}: a weight is >= 0")
    alpha, mean = prediction.concentration, prediction.mean
    y = check_targets(y, alpha, alpha.shape[1], "classification")
    hot = F.one_hot(y, alpha.shape[1]).to(alpha.dtype)
    error = (hot - mean).square() + mean * (1 - mean) / (prediction.strength[:, None] + 1)
    return (error.sum(-1) + regularizer * dirichlet_kl(torch.where(hot > 0, 1.0, alpha))).mean()


def dirichlet_kl(concentration: Tensor) -> Tensor:
    r"""(N,) KL from Dir(alpha) to the uniform Dir(1), in nats; alpha (N, C).

    .. math:: \log\frac{\Gamma(\alpha_0)}{\Gamma(C)\prod_k\Gamma(\alpha_k)}
        + \sum_k (\alpha_k - 1)\big(\psi(\alpha_k) - \psi(\alpha_0)\big)

    >>> abs(dirichlet_kl(torch.ones(1, 4)).item()) < 1e-12
    True
    """
    dtype, concentration = concentration.dtype, concentration.double()  # differences of numbers of size alpha log alpha
    total = concentration.sum(-1)
    logs = torch.lgamma(total) - math.lgamma(concentration.shape[-1]) - torch.lgamma(concentration).sum(-1)
    slopes = (concentration - 1) * (torch.digamma(concentration) - torch.digamma(total)[..., None])
    return (logs + slopes.sum(-1)).to(dtype)
