"""Dichotomies against Cover's formula, Rademacher averages against closed forms."""

import math

import pytest
import torch

from coursekit.theory.capacity import cover_count, is_separable, linear_dichotomies, rademacher


@pytest.mark.parametrize(("d", "n", "count"), [(2, 3, 8), (2, 4, 14), (2, 6, 32), (3, 4, 16), (3, 5, 30), (3, 6, 52)])
def test_random_points_have_the_number_of_dichotomies_of_cover(d, n, count):
    points = torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    found = linear_dichotomies(points)
    assert len(found) == cover_count(n, d) == count
    assert len(torch.unique(found, dim=0)) == count


def test_every_dichotomy_found_by_sampling_is_listed():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, generator=g, dtype=torch.float64)
    listed = {tuple(row) for row in linear_dichotomies(x).tolist()}
    w, b = torch.randn(20000, 2, generator=g, dtype=torch.float64), torch.randn(20000, 1, generator=g).double()
    sampled = {tuple(row) for row in (w @ x.T + b).sign().int().unique(dim=0).tolist()}
    assert sampled <= listed
    assert len(sampled) == len(listed)


def test_collinear_points_have_fewer():
    assert len(linear_dichotomies(torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))) == 6


def test_cover_counts_all_labellings_up_to_the_vc_dimension():
    for d in range(6):
        assert cover_count(d + 1, d) == 2 ** (d + 1)
        assert cover_count(d + 2, d) == 2 ** (d + 2) - 2


def test_rademacher_of_orthonormal_points_is_exact():
    value, error = rademacher(lambda e: 3 * (e @ torch.eye(6, dtype=torch.float64)).norm(dim=1), 6)
    assert (value, error) == (pytest.approx(3 / math.sqrt(6)), 0.0)


def test_rademacher_of_a_symmetric_pair():
    v = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    assert rademacher(lambda e: (e @ v.T).amax(1), 2)[0] == 0.5  # E|e1 + e2| / 2


def test_monte_carlo_agrees_with_the_sum_over_all_signs():
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def sup(e):
        return (e @ x).norm(dim=1)

    exact, _ = rademacher(sup, 10)
    estimate, error = rademacher(sup, 10, samples=4000, generator=torch.Generator().manual_seed(2))
    assert abs(estimate - exact) < 4 * error


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="-1 or"):
        is_separable(torch.zeros(2, 1), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="16 points"):
        linear_dichotomies(torch.zeros(17, 2))
    with pytest.raises(ValueError, match="samples="):
        rademacher(lambda e: e.sum(1), 30)
    with pytest.raises(ValueError, match=r"\(S,\)"):
        rademacher(lambda e: e, 3)
    with pytest.raises(ValueError, match="points >= 1"):
        cover_count(0, 2)
