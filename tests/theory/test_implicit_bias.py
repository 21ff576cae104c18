"""Implicit bias of gradient descent against pseudo-inverse and KKT conditions."""

import math

import pytest
import torch

from coursekit.theory.implicit_bias import least_squares_descent, logistic_descent, max_margin


def test_descent_from_zero_reaches_the_minimum_norm_solution():
    torch.manual_seed(0)
    phi, t = torch.randn(5, 12, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    w = least_squares_descent(phi, t, steps=3000)
    torch.testing.assert_close(w, torch.linalg.pinv(phi) @ t, rtol=0, atol=1e-10)


def test_descent_from_elsewhere_keeps_the_component_in_the_kernel():
    torch.manual_seed(1)
    phi, t = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    start = torch.randn(6, dtype=torch.float64)
    w = least_squares_descent(phi, t, steps=3000, start=start)
    pinv = torch.linalg.pinv(phi)
    torch.testing.assert_close(w, pinv @ t + start - pinv @ (phi @ start), rtol=0, atol=1e-10)


def test_each_step_is_the_spectral_filter():
    torch.manual_seed(2)
    phi, t = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(phi, full_matrices=False)
    k, n, step = 7, 6, 0.3 * 6 / float(s[0]) ** 2
    expected = vh.T @ ((1 - (1 - step * s**2 / n) ** k) / s * (u.T @ t))
    torch.testing.assert_close(least_squares_descent(phi, t, steps=k, step=step), expected)


def test_descent_rejects():
    with pytest.raises(ValueError, match="step"):
        least_squares_descent(torch.eye(2), torch.ones(2), steps=1, step=5.0)
    with pytest.raises(ValueError, match="expected features"):
        least_squares_descent(torch.eye(2), torch.ones(3), steps=1)


def test_max_margin_satisfies_kkt_and_beats_random_directions():
    torch.manual_seed(3)
    z = torch.randn(12, 2, dtype=torch.float64) + torch.tensor([4.0, 1.0], dtype=torch.float64)
    w = max_margin(z)
    assert float((z @ w).min()) == pytest.approx(1, abs=1e-12)
    others = torch.nn.functional.normalize(torch.randn(5000, 2, dtype=torch.float64), dim=1)
    assert float((z @ others.T).min(0).values.max()) <= 1 / float(w.norm()) + 1e-12
    with pytest.raises(ValueError, match="not separable"):
        max_margin(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))


def test_logistic_descent_of_one_point_solves_the_recursion():
    w = logistic_descent(torch.tensor([[2.0]], dtype=torch.float64), step=0.5, times=[1, 2])
    first = 0.5 * 2 / 2
    second = first + 0.5 * 2 / (1 + math.exp(2 * first))
    torch.testing.assert_close(w[:, 0], torch.tensor([first, second], dtype=torch.float64))


def test_logistic_descent_rejects():
    with pytest.raises(ValueError, match="times"):
        logistic_descent(torch.eye(2), step=0.1, times=[3, 2])
    with pytest.raises(ValueError, match="step"):
        logistic_descent(torch.eye(2), step=100.0, times=[1])
