r"""Layers with a mean-field Gaussian over their weights, :math:`q(w) = \prod_j \mathcal N(w_j \mid m_j, s_j^2)`.

Three estimators draw the output of such a layer; all have the same law for one input to a linear layer:

- ``"local"`` (local reparameterisation): draws the output itself,
  :math:`z_o \sim \mathcal N(\sum_j m_{oj} x_j, \sum_j s_{oj}^2 x_j^2)`, independently for each input: of the
  three usually the least variance of the gradient. In a convolution, or a linear layer on a sequence, the places of one
  input are drawn independently too, although they share their weights: there the law of one place is right, the
  correlation between places is dropped.
- ``"shared"``: draws the weights once for the whole batch; each draw is one function. Its gradient noise does not
  average out over the batch.
- ``"flipout"``: one draw of the weights, its entries flipped for each input by random signs at the inputs and
  outputs, :math:`z = Mx + r \circ (S \circ E)(s \circ x)`: uncorrelated over inputs, at twice the cost of ``shared``.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coursekit._inputs import check_choice, check_count, check_positive
from coursekit.device import draw_device

Estimator = Literal["local", "shared", "flipout"]
ESTIMATORS = ("local", "shared", "flipout")


@dataclass
class _Drawing:
    """How the layers draw at the moment; ``weights``: draws kept for as long as this object lives."""

    estimator: Estimator | None = None
    generator: torch.Generator | None = None
    weights: dict[int, tuple[Tensor, Tensor | None]] | None = field(default=None)


_drawing: ContextVar[_Drawing] = ContextVar("drawing", default=_Drawing())  # noqa: B039  (never mutated)


@contextmanager
def drawing(
    *, estimator: Estimator | None = None, generator: torch.Generator | None = None, keep: bool = False
) -> Iterator[None]:
    """Inside, all variational layers draw from ``generator`` and by ``estimator``; no layer is changed.

    ``keep``: with the shared estimator, one draw of the weights for as long as the context lasts.
    """
    token = _drawing.set(_Drawing(estimator, generator, {} if keep else None))
    try:
        yield
    finally:
        _drawing.reset(token)


def kl_normal(mean: Tensor, std: Tensor, prior_std: float) -> Tensor:
    r"""KL from N(mean, std^2) to N(0, prior_std^2), *summed* over all entries, in nats.

    .. math:: \sum_j \log\frac{s_0}{s_j} + \frac{s_j^2 + m_j^2}{2 s_0^2} - \frac12

    >>> float(kl_normal(torch.zeros(3, 4), torch.full((3, 4), 2.0), 2.0))
    0.0
    >>> float(kl_normal(torch.ones(5), torch.ones(5), 1.0))  # m^2 / 2 each
    2.5
    """
    ratio = std / prior_std  # its logarithm before its square, which underflows for a tiny std
    return 0.5 * (ratio.square() - 1 - 2 * ratio.log() + (mean / prior_std).square()).sum()


class _Variational(nn.Module):
    """What linear and convolution layers share; the ``_apply_*`` of a subclass say what the layer computes."""

    def __init__(
        self,
        shape: tuple[int, ...],
        bias: bool,
        prior_std: float,
        initial_std: float,
        estimator: Estimator,
        options: dict,
    ):
        super().__init__()
        check_choice("estimator", estimator, ESTIMATORS)
        self.prior_std = check_positive("prior_std", prior_std)
        self.estimator = estimator
        rho = math.log(math.expm1(check_positive("initial_std", initial_std)))  # softplus(rho) = initial_std
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight_mean = nn.Parameter(torch.empty(shape, **options).uniform_(-bound, bound))
        self.weight_rho = nn.Parameter(torch.full(shape, rho, **options))
        if bias:
            self.bias_mean = nn.Parameter(torch.empty(shape[0], **options).uniform_(-bound, bound))
            self.bias_rho = nn.Parameter(torch.full((shape[0],), rho, **options))
        else:
            self.register_parameter("bias_mean", None)
            self.register_parameter("bias_rho", None)

    @property
    def weight_std(self) -> Tensor:
        """Standard deviations s = log(1 + exp(rho)) of the weights."""
        return F.softplus(self.weight_rho)

    @property
    def bias_std(self) -> Tensor | None:
        """Standard deviations of the bias, or None."""
        return None if self.bias_rho is None else F.softplus(self.bias_rho)

    def kl(self) -> Tensor:
        """KL from q to the prior N(0, prior_std^2), summed over weights and bias, in nats: closed form."""
        return sum(kl_normal(mean, std, self.prior_std) for mean, _, std in self.laws())

    def laws(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Mean, rho and standard deviation of the weights and, if there is one, of the bias."""
        weight = self.weight_mean, self.weight_rho, self.weight_std
        return [weight] if self.bias_mean is None else [weight, (self.bias_mean, self.bias_rho, self.bias_std)]

    def forward(self, x: Tensor) -> Tensor:
        """A draw of the output; in training and evaluation mode alike: the layer *is* a distribution."""
        self._check(x)
        now = _drawing.get()
        estimator = now.estimator or self.estimator
        if estimator == "local":
            mean = self._compute(x, self.weight_mean, self.bias_mean)
            std = self.bias_std
            variance = self._compute(x.square(), self.weight_std.square(), None if std is None else std.square())
            # An input of zeros has variance 0, where the square root has no derivative.
            deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
            return mean + deviation * _normal(mean, now.generator)
        if estimator == "shared":
            return self._compute(x, *self._draw(now))
        signs_in, signs_out = self._sign_shapes(x)
        flip_in, flip_out = (_signs(x, shape, now.generator) for shape in (signs_in, signs_out))
        weight = self.weight_std * _normal(self.weight_mean, now.generator)
        bias = None if self.bias_mean is None else self.bias_std * _normal(self.bias_mean, now.generator)
        noise = self._compute(x * flip_in, weight, bias) * flip_out
        return self._compute(x, self.weight_mean, self.bias_mean) + noise

    def _draw(self, now: _Drawing) -> tuple[Tensor, Tensor | None]:
        key = id(self.weight_mean)  # the same parameter, also in a copy of the module tree
        if now.weights is not None and key in now.weights:
            return now.weights[key]
        weight = self.weight_mean + self.weight_std * _normal(self.weight_mean, now.generator)
        bias = None
        if self.bias_mean is not None:
            bias = self.bias_mean + self.bias_std * _normal(self.bias_mean, now.generator)
        if now.weights is not None:
            now.weights[key] = weight, bias
        return weight, bias


class LinearVariational(_Variational):
    r"""A linear layer :math:`z = Wx + b` with a Gaussian over each weight and bias.

    .. math:: q(W, b) = \prod \mathcal N(m, s^2), \quad s = \log(1 + e^\rho), \qquad
        p(W, b) = \prod \mathcal N(0, s_0^2)

    Args:
        in_features, out_features: sizes D and K; inputs (..., D), outputs (..., K).
        prior_std: s_0 > 0, the same for all weights.
        bias: whether there is one; it is random like the weights.
        estimator: "local", "shared" or "flipout", see :mod:`coursekit.bayes.variational_layers`.
        initial_std: s at the start.

    Parameters: ``weight_mean`` and ``weight_rho`` (K, D), ``bias_mean`` and ``bias_rho`` (K,).

    Raises:
        ValueError: sizes < 1, standard deviations <= 0, an unknown estimator, or inputs of another size than D.

    Source: Kingma, Salimans and Welling, Variational dropout and the local reparameterization trick (2015); Wen et al.,
    Flipout (2018).

    Example: at the prior the KL is zero.

    >>> layer = LinearVariational(3, 2, prior_std=0.5, initial_std=0.5)
    >>> _ = nn.init.zeros_(layer.weight_mean), nn.init.zeros_(layer.bias_mean)
    >>> abs(float(layer.kl().detach())) < 1e-6
    True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        prior_std: float = 1.0,
        bias: bool = True,
        estimator: Estimator = "local",
        initial_std: float = 0.05,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        check_count("in_features", in_features)
        check_count("out_features", out_features)
        options = {"device": device, "dtype": dtype}
        super().__init__((out_features, in_features), bias, prior_std, initial_std, estimator, options)
        self.in_features = in_features
        self.out_features = out_features

    def _check(self, x: Tensor) -> None:
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"this layer takes inputs (..., {self.in_features}), got {tuple(x.shape)}")

    def _compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def _sign_shapes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        leading = (len(x), *(1,) * (x.ndim - 2)) if x.ndim > 1 else ()  # one sign vector an input, not a place
        return (*leading, self.in_features), (*leading, self.out_features)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, prior_std={self.prior_std:g}, estimator={self.estimator!r}"


class Conv2dVariational(_Variational):
    """A 2-D convolution with a Gaussian over each weight and bias; as :class:`LinearVariational`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation: as in ``torch.nn.Conv2d``.
        prior_std, bias, estimator, initial_std: as in :class:`LinearVariational`.

    Raises:
        ValueError: sizes < 1, standard deviations <= 0, an unknown estimator, inputs not (N, in_channels, H, W).

    >>> Conv2dVariational(1, 4, 3, padding=1)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        prior_std: float = 1.0,
        bias: bool = True,
        estimator: Estimator = "local",
        initial_std: float = 0.05,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("kernel_size", min(size))):
            check_count(name, value)
        options = {"device": device, "dtype": dtype}
        super().__init__((out_channels, in_channels, *size), bias, prior_std, initial_std, estimator, options)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation}

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"this layer takes inputs (N, {self.in_channels}, H, W), got {tuple(x.shape)}")

    def _compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, **self.geometry)

    def _sign_shapes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (len(x), self.in_channels, 1, 1), (len(x), self.out_channels, 1, 1)

    def extra_repr(self) -> str:
        size = tuple(self.weight_mean.shape[2:])
        return (
            f"{self.in_channels}, {self.out_channels}, {size}, prior_std={self.prior_std:g}, "
            f"estimator={self.estimator!r}"
        )


def variational_layers(model: nn.Module) -> list[_Variational]:
    """The variational layers of a network, each once."""
    return [module for module in model.modules() if isinstance(module, _Variational)]


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    place = draw_device(like, generator)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=place).to(like.device)


def _signs(like: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    bits = torch.randint(0, 2, shape, generator=generator, device=draw_device(like, generator))
    return (2 * bits - 1).to(like)
