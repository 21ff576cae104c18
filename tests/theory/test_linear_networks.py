"""Linear networks: critical points and dynamics against autograd and the closed forms."""

from itertools import combinations

import pytest
import torch

from coursekit.theory.linear_networks import (
    critical_point,
    descend,
    escape_direction,
    factorization_loss,
    saxe_mode,
    whitened_target,
)


@pytest.fixture
def target():
    torch.manual_seed(0)
    return torch.randn(5, 4, dtype=torch.float64)


def test_whitening_splits_the_square_loss():
    torch.manual_seed(1)
    x, y = torch.randn(4, 9, dtype=torch.float64), torch.randn(3, 9, dtype=torch.float64)
    a, b = torch.randn(3, 2, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    m, c = whitened_target(x, y)
    rest = (y - y @ torch.linalg.pinv(x) @ x).square().sum()
    torch.testing.assert_close((y - a @ b @ x).square().sum(), 2 * factorization_loss(m, a, b @ c) + rest)
    with pytest.raises(ValueError, match="dependent"):
        whitened_target(torch.ones(2, 5).double(), torch.ones(1, 5).double())


@pytest.mark.parametrize("subset", list(combinations(range(4), 2)))
def test_critical_points_values_and_saddles(target, subset):
    mixing = torch.tensor([[2.0, 1.0], [0.5, -1.0]], dtype=torch.float64)
    point = critical_point(target, subset, mixing=mixing)
    gradient = torch.func.grad(factorization_loss, argnums=(1, 2))(target, *point)
    assert max(float(g.abs().max()) for g in gradient) < 1e-12
    s = torch.linalg.svdvals(target)
    left_out = [i for i in range(4) if i not in subset]
    torch.testing.assert_close(factorization_loss(target, *point), s[left_out].square().sum() / 2)
    if subset == (0, 1):
        with pytest.raises(ValueError, match="global minimum"):
            escape_direction(target, subset)
        return
    da, db, curvature = escape_direction(target, subset, mixing=mixing)
    assert curvature < 0
    along = lambda t: factorization_loss(target, point[0] + t * da, point[1] + t * db)  # noqa: E731
    second = torch.func.grad(torch.func.grad(along))(torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(float(second), curvature)


def test_critical_point_rejects_bad_subsets(target):
    for subset in ([0, 0], [4], [-1]):
        with pytest.raises(ValueError, match="distinct indices"):
            critical_point(target, subset)


def test_mode_solves_its_differential_equation():
    t = torch.linspace(0, 5, 50, dtype=torch.float64)
    s = saxe_mode(t, 1.7, 1e-3)
    rate = torch.func.vmap(torch.func.grad(lambda u: saxe_mode(u, 1.7, 1e-3)))(t)
    torch.testing.assert_close(rate, 2 * s * (1.7 - s))
    assert abs(float(s[0]) - 1e-3) < 1e-15


def test_descent_follows_the_modes_with_first_order_error():
    strengths = torch.tensor([3.0, 1.0], dtype=torch.float64)
    start = 0.01
    errors = []
    for step in (2e-3, 1e-3):
        w = start**0.5 * torch.eye(2, dtype=torch.float64)
        steps = round(4 / step)
        path = descend(torch.diag(strengths), w, w, step=step, steps=steps)[2]
        t = step * torch.arange(steps + 1, dtype=torch.float64)
        exact = torch.stack([saxe_mode(t, float(a), start) for a in strengths], dim=1)
        errors.append(float((path.diagonal(dim1=1, dim2=2) - exact).abs().max()))
    assert errors[1] < 0.02
    assert 1.9 < errors[0] / errors[1] < 2.1


def test_descends_from_several_starts_at_once(target):
    torch.manual_seed(2)
    left, right = torch.randn(3, 5, 2, dtype=torch.float64), torch.randn(3, 2, 4, dtype=torch.float64)
    _, _, together = descend(target, left, right, step=0.01, steps=20)
    _, _, alone = descend(target, left[1], right[1], step=0.01, steps=20)
    torch.testing.assert_close(together[:, 1], alone)
    assert factorization_loss(target, left, right).shape == (3,)


def test_rejects_bad_numbers():
    with pytest.raises(ValueError, match="positive"):
        saxe_mode(torch.zeros(1), 1.0, 0.0)
    with pytest.raises(ValueError, match="positive"):
        descend(torch.eye(1), torch.eye(1), torch.eye(1), step=0.0, steps=1)
