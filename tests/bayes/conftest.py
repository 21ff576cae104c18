import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from coursekit.bayes.linear import fit_linear

sys.path.insert(0, str(Path(__file__).parent))  # the tests of Laplace share laplace_models.py


@pytest.fixture
def regression():
    """A linear model at its posterior mode, its data, and the exact posterior."""

    def draw(*shape, seed):
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    x = draw(30, 4, seed=1)
    t = x @ draw(4, seed=2) + 0.3 * draw(30, seed=3)
    exact = fit_linear(None, x, t, alpha=0.7, beta=1 / 0.09)
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    model.weight.data = exact.mean[None].clone()
    return model, x, t, exact
