"""Scattering: a tight bank, energy to rounding, no expansion, and the two invariances the book shows."""

import math

import pytest
import torch

from coursekit.theory.scattering import FilterBank, dyadic_bank, scattering


def signals(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("length", "octaves"), [(4, 1), (15, 2), (64, 5), (101, 4), (256, 3)])
def test_the_bank_is_tight_and_its_wavelets_have_mean_zero(length, octaves):
    bank = dyadic_bank(length, octaves)
    torch.testing.assert_close(bank.littlewood_paley(), torch.ones(length, dtype=torch.float64), rtol=0, atol=1e-14)
    assert float(bank.high[:, 0].abs().max()) == 0 and float(bank.low[0]) == 1


@pytest.mark.parametrize("length", [64, 63])
def test_energy_is_shared_between_coefficients_and_remainder(length):
    x, bank = signals(5, length), dyadic_bank(length, 4)
    for order in range(3):
        s = scattering(x, bank, order=order)
        energy = s.coefficients.square().sum((-1, -2)) + s.remainder.square().sum((-1, -2))
        torch.testing.assert_close(energy, x.square().sum(-1), rtol=1e-12, atol=0)


def test_order_one_is_the_convolution_written_out():
    length = 16
    x, bank = signals(length), dyadic_bank(length, 2)
    k = torch.arange(length)
    angle = 2 * math.pi * k[:, None].double() * k / length
    basis = torch.complex(angle.cos(), angle.sin())

    def convolve(u, transfer):
        kernel = (basis @ transfer.to(torch.complex128)) / length
        return torch.stack([sum(u[m] * kernel[(n - m) % length] for m in range(length)) for n in range(length)])

    moduli = torch.stack([convolve(x, psi).abs() for psi in bank.high])
    s = scattering(x, bank, order=1)
    torch.testing.assert_close(s.orders[0][0], convolve(x, bank.low).real)
    torch.testing.assert_close(s.orders[1], torch.stack([convolve(u, bank.low).real for u in moduli]))


def test_scattering_does_not_expand_distances():
    x, y, bank = signals(200, 64, seed=1), signals(200, 64, seed=2), dyadic_bank(64, 4)
    y[:100] = x[:100] + 1e-3 * y[:100]
    gap = (scattering(x, bank).coefficients - scattering(y, bank).coefficients).square().sum((-1, -2)).sqrt()
    assert bool((gap <= (x - y).norm(dim=-1) * (1 + 1e-12)).all())


def test_a_shift_of_the_signal_shifts_the_coefficients():
    x, bank = signals(64), dyadic_bank(64, 4)
    shifted = scattering(x.roll(5), bank).coefficients
    torch.testing.assert_close(shifted, scattering(x, bank).coefficients.roll(5, -1), rtol=0, atol=1e-13)


def test_batches_dtype_and_bad_input():
    bank = dyadic_bank(32, 3)
    x = signals(2, 3, 32)
    torch.testing.assert_close(scattering(x, bank).coefficients[1, 2], scattering(x[1, 2], bank).coefficients)
    small = FilterBank(bank.low.float(), bank.high.float())
    assert scattering(x.float(), small).coefficients.dtype == torch.float32
    assert scattering(x, bank, order=2).coefficients.shape == (2, 3, 1 + 3 + 9, 32)
    with pytest.raises(ValueError, match="length 32"):
        scattering(signals(16), bank)
    with pytest.raises(TypeError, match="floating-point"):
        scattering(torch.arange(32), bank)
    with pytest.raises(ValueError, match="order=-1"):
        scattering(x, bank, order=-1)
    with pytest.raises(ValueError, match="octaves"):
        dyadic_bank(16, 4)
