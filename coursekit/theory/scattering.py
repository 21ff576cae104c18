r"""Scattering of real periodic signals by a tight bank of one wavelet an octave: the smallest provably stable network.

The bank is given in the Fourier domain, so that its Littlewood-Paley sum is one by construction,
:math:`\cos^2 + \sin^2 = 1`. The proofs of the two properties below are in session 5 of the book.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FilterBank:
    r"""A low-pass filter and J analytic wavelets, as real Fourier transforms on the T frequencies of ``fftfreq``.

    .. math::
        \hat\phi(\omega)^2 + \tfrac12\sum_{j=1}^J\big(\hat\psi_j(\omega)^2 + \hat\psi_j(-\omega)^2\big) = 1.

    Attributes:
        low: (T,) transform of the low-pass filter.
        high: (J, T) transforms of the wavelets, highest octave first; zero at frequencies <= 0.
    """

    low: Tensor
    high: Tensor

    def littlewood_paley(self) -> Tensor:
        """(T,) the sum above, at each frequency."""
        mirrored = self.high.flip(-1).roll(1, -1)  # the value at -omega
        return self.low.square() + 0.5 * (self.high.square() + mirrored.square()).sum(0)


def dyadic_bank(
    length: int, octaves: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> FilterBank:
    r"""Wavelets centred at the frequencies :math:`2^{-j}\,T/2`, j = 1..J, and the low-pass filter they leave.

    On a scale of octaves a wavelet is a cosine bump,
    :math:`\hat\psi_j(\omega) = \sqrt2\cos\!\big(\tfrac\pi2\log_2(\omega/\omega_j)\big)` for
    :math:`\omega_j/2 \le \omega \le 2\omega_j`; the first is constant above its centre.

    Args:
        length: T >= 4 samples a period.
        octaves: J >= 1 wavelets; the lowest centre, T / 2^{J+1} cycles a period, is at least 1.

    Raises:
        ValueError: too few samples or octaves, or more octaves than the length holds.

    >>> bank = dyadic_bank(64, 4)
    >>> bool((bank.littlewood_paley() - 1).abs().max() < 1e-14)
    True
    """
    if length < 4 or octaves < 1 or 2 ** (octaves + 1) > length:
        raise ValueError(
            f"length={length}, octaves={octaves}: need length >= 4, octaves >= 1 and 2^(octaves + 1) <= length"
        )
    frequency = torch.fft.fftfreq(length, 1 / length, dtype=dtype, device=device)
    positive = frequency.clamp_min(torch.finfo(dtype).tiny)  # log2 of it; masked below
    high = []
    for j in range(1, octaves + 1):
        position = torch.log2(positive / (length / 2 ** (j + 1)))
        if j == 1:
            position = position.clamp_max(0)
        bump = torch.cos(math.pi / 2 * position) * (position.abs() <= 1)
        high.append(math.sqrt(2) * bump * (frequency > 0))
    high = torch.stack(high)
    if length % 2 == 0:
        # fftfreq counts the Nyquist frequency as negative; it is its own mirror image and needs no factor.
        high[0, length // 2] = 1
    mirrored = high.flip(-1).roll(1, -1)
    low = (1 - 0.5 * (high.square() + mirrored.square()).sum(0)).clamp_min(0).sqrt()
    return FilterBank(low, high)


@dataclass(frozen=True)
class Scattering:
    """Scattering coefficients up to order m, and what the next layer would work on.

    Attributes:
        orders: order k = 0..m -> (..., J^k, T) averaged moduli along each path of k wavelets.
        remainder: (..., J^{m+1}, T) the moduli of order m + 1, not averaged.
    """

    orders: tuple[Tensor, ...]
    remainder: Tensor

    @property
    def coefficients(self) -> Tensor:
        """(..., K, T) all orders in one tensor, K = 1 + J + ... + J^m."""
        return torch.cat(self.orders, -2)


def scattering(x: Tensor, bank: FilterBank, *, order: int = 2) -> Scattering:
    r"""Wavelet moduli, order by order, each averaged by the low-pass filter.

    .. math::
        U_0 x = x, \qquad U_{k+1}x = \{|u \star \psi_j| : u \in U_k x,\ j \le J\}, \qquad
        S_k x = \{u \star \phi : u \in U_k x\}.

    For a bank whose Littlewood-Paley sum is one, :math:`\sum_{k\le m}\|S_kx\|^2 + \|U_{m+1}x\|^2 = \|x\|^2` and
    :math:`\sum_{k\le m}\|S_kx - S_ky\|^2 \le \|x-y\|^2`.

    Args:
        x: (..., T) real signals.
        order: m >= 0; the number of paths grows as J^m.

    Raises:
        TypeError: a signal that is not real floating point.
        ValueError: a length that is not the bank's, or a negative order.

    Source: see Bruna and Mallat, Invariant scattering convolution networks (2013).

    Example: a constant has no wavelet coefficient; all its energy is in order 0.

    >>> s = scattering(torch.ones(16, dtype=torch.float64), dyadic_bank(16, 2))
    >>> [round(float(part.square().sum()), 12) for part in s.orders], float(s.remainder.abs().max()) < 1e-15
    ([16.0, 0.0, 0.0], True)
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a real floating-point tensor (..., T), got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim == 0 or x.shape[-1] != bank.low.shape[0]:
        raise ValueError(f"the bank is for signals of length {bank.low.shape[0]}, got x {tuple(x.shape)}")
    if order < 0:
        raise ValueError(f"order={order}: the order of scattering is at least 0")
    layer, orders = x.unsqueeze(-2), []
    for _ in range(order + 1):
        spectrum = torch.fft.fft(layer)
        orders.append(torch.fft.ifft(spectrum * bank.low).real)
        layer = torch.fft.ifft(spectrum.unsqueeze(-2) * bank.high).abs().flatten(-3, -2)
    return Scattering(tuple(orders), layer)
