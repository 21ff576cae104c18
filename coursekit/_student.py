r"""Student's t: its distribution function and its quantiles, of which torch has neither.

With :math:`t = \sqrt\nu\tan a` the density becomes :math:`\cos(a)^{\nu-1}`, smooth on a finite interval. Gauss's rule
integrates it to rounding from the centre; for large t the tail is integrated instead, from its end, where
:math:`\sin(b)^{\nu-1}` starts with a broken power that :math:`b = b_0 w^4` smooths.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from coursekit._roots import bisect


@cache
def _rule() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(64)
    return (nodes + 1) / 2, weights / 2  # on [0, 1]


def student_log_density(z: Tensor, freedom: Tensor) -> Tensor:
    """(...) log density of T at z, in the dtype of z; torch's own loses digits from nu = 10^6 on."""
    return (
        half_step(freedom / 2) - 0.5 * (math.pi * freedom).log() - (freedom + 1) / 2 * torch.log1p(z.square() / freedom)
    )


def student_cdf(z: Tensor, freedom: Tensor) -> Tensor:
    """(...) P(T <= z) for ``freedom`` > 1; computed in float64."""
    tail = _upper_tail(z.double().abs(), freedom.double().expand(z.shape))
    return torch.where(z > 0, 1 - tail, tail).to(z.dtype)


def student_half_width(freedom: Tensor, tail: float) -> Tensor:
    """(...) the h >= 0 with P(T > h) = ``tail``, 0 < tail <= 1/2; found in float64, relative to its size."""
    nu = freedom.double()
    if tail == 0.5:
        return torch.zeros_like(freedom)
    low, high = torch.full_like(nu, -80.0), torch.full_like(nu, 500.0)
    return bisect(lambda log_h: _upper_tail(log_h.exp(), nu) > tail, low, high).exp().to(freedom.dtype)


def _upper_tail(h: Tensor, nu: Tensor) -> Tensor:
    """P(T > h) for h >= 0, in float64: 1/2 minus the middle for h < 1, else the tail itself, small as it may be."""
    nodes, weights = (torch.as_tensor(v, device=h.device) for v in _rule())
    h, nu = h[..., None], nu[..., None]
    constant = half_step(nu / 2) - 0.5 * math.log(math.pi)
    angle = torch.atan(h / nu.sqrt())
    inner = angle * torch.exp(constant + (nu - 1) * _log_sin(math.pi / 2 - angle * nodes))
    rest = torch.atan(nu.sqrt() / h)
    end = torch.asin(torch.sin(rest) * torch.exp(-42 / (nu - 1)))  # nothing is left beyond
    width = rest - end
    outer = 4 * width * nodes**3 * torch.exp(constant + (nu - 1) * _log_sin(end + width * nodes**4))
    return torch.where(h[..., 0] < 1, 0.5 - inner @ weights, outer @ weights)


def half_step(x: Tensor) -> Tensor:
    """log Gamma(x + 1/2) - log Gamma(x), by its series where the difference cancels."""
    series = 0.5 * x.log() - 1 / (8 * x) + 1 / (192 * x**3) - 1 / (640 * x**5)
    return torch.where(x > 100, series, torch.lgamma(x + 0.5) - torch.lgamma(x))


def _log_sin(b: Tensor) -> Tensor:
    """log sin b on (0, pi / 2], exact at both ends: the result is multiplied by nu."""
    return torch.where(b < math.pi / 4, torch.log(torch.sin(b)), 0.5 * torch.log1p(-torch.cos(b).square()))
