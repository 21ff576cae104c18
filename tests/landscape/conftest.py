import pytest
import torch
from torch import nn


@pytest.fixture
def classes(generator):
    """40 points in R^5 with 3 classes, float64."""
    x = torch.randn(40, 5, dtype=torch.float64, generator=generator)
    return x, torch.randint(3, (40,), generator=generator)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
