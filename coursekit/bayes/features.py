r"""Feature maps :math:`\phi: x \mapsto \phi(x) \in \mathbb R^M`: (N,) or (N, D) in, (N, M) out."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor

FeatureMap = Callable[[Tensor], Tensor]


def linear() -> FeatureMap:
    """phi(x) = (1, x_1, ..., x_D): a constant and the inputs; M = D + 1.

    >>> linear()(torch.tensor([2.0, 3.0]))
    tensor([[1., 2.],
            [1., 3.]])
    """

    return _Linear()


def polynomial(degree: int) -> FeatureMap:
    """All monomials of total degree 0 to ``degree``; in one dimension (1, x, ..., x^degree), M = degree + 1.

    Raises:
        ValueError: negative degree.

    >>> polynomial(3)(torch.tensor([2.0]))
    tensor([[1., 2., 4., 8.]])
    >>> polynomial(2)(torch.tensor([[2.0, 3.0]]))
    tensor([[1., 2., 3., 4., 6., 9.]])
    """
    if degree < 0:
        raise ValueError(f"degree={degree}: the degree of a polynomial is at least 0")

    return _Polynomial(degree)


def gaussian(centres: Tensor, width: float) -> FeatureMap:
    r"""Bumps :math:`\phi_j(x) = \exp(-\|x-\mu_j\|^2 / (2 s^2))` at centres (M,) or (M, D) of width s > 0.

    There is no constant among them: far from every centre all features vanish.

    Raises:
        ValueError: width <= 0, no centre, or inputs of another dimension than the centres.

    >>> gaussian(torch.tensor([0.0, 1.0]), 1.0)(torch.tensor([0.0]))
    tensor([[1.0000, 0.6065]])
    """
    if not width > 0:
        raise ValueError(f"width={width}: the width of a Gaussian feature is > 0")
    centres = _columns(centres)
    if not len(centres):
        raise ValueError("centres is empty: give at least one centre")

    return _Gaussian(centres, width)


# Objects, not functions inside functions: a posterior that holds one can be pickled.


@dataclass(frozen=True)
class _Linear:
    def __call__(self, x: Tensor) -> Tensor:
        x = _columns(x)
        return torch.cat([torch.ones_like(x[:, :1]), x], 1)


@dataclass(frozen=True)
class _Polynomial:
    degree: int

    def __call__(self, x: Tensor) -> Tensor:
        x = _columns(x)
        columns = [
            x[:, list(powers)].prod(1)
            for total in range(self.degree + 1)
            for powers in combinations_with_replacement(range(x.shape[1]), total)
        ]
        return torch.stack(columns, 1)


@dataclass(frozen=True, eq=False)
class _Gaussian:
    centres: Tensor
    width: float

    def __call__(self, x: Tensor) -> Tensor:
        x = _columns(x)
        if x.shape[1] != self.centres.shape[1]:
            raise ValueError(f"x has {x.shape[1]} coordinates, the centres have {self.centres.shape[1]}")
        offset = x[:, None, :] - self.centres.to(x)  # differences, not |x|^2 - 2xc + |c|^2: exact near a centre
        return torch.exp(-offset.square().sum(-1) / (2 * self.width**2))


def _columns(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"features take a floating-point tensor (N,) or (N, D), got {getattr(x, 'dtype', type(x))}")
    if x.ndim not in (1, 2):
        raise ValueError(f"features take x of shape (N,) or (N, D), got {tuple(x.shape)}")
    return x[:, None] if x.ndim == 1 else x
