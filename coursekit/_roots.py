"""The one bisection of the kit: many roots at once, to the last bit of the dtype."""

from collections.abc import Callable

import torch
from torch import Tensor


def bisect(is_below: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """The points (...) where ``is_below`` turns from true to false between ``low`` and ``high`` (...).

    ``is_below(x)`` says for each entry of x (...) whether its root lies above: F(x) < level for a rising F. The bracket
    is halved until no number of the dtype lies between its ends; a root outside it gives the nearer end.

    >>> two = torch.tensor([2.0, 9.0], dtype=torch.float64)
    >>> bisect(lambda x: x.square() < two, torch.zeros_like(two), two)
    tensor([1.4142, 3.0000], dtype=torch.float64)
    """
    for _ in range(2000):  # float64 has fewer bits than that, exponent and all
        middle = low + (high - low) / 2
        inside = (low < middle) & (middle < high)
        if not bool(inside.any()):
            break
        below = is_below(middle)
        low, high = torch.where(inside & below, middle, low), torch.where(inside & ~below, middle, high)
    return low + (high - low) / 2
