"""Data of the course: toy sets (``data.toy``), images, letters that are no digits, and graded shifts."""

from coursekit.data.glyphs import glyphs
from coursekit.data.images import (
    MEAN,
    NORMALIZED_RANGE,
    STD,
    denormalize,
    fashion_mnist,
    kmnist,
    mnist,
    normalize,
)
from coursekit.data.shifts import SHIFTS, blur, invert, noise, permute, rotate, shift

__all__ = [
    "MEAN",
    "NORMALIZED_RANGE",
    "SHIFTS",
    "STD",
    "blur",
    "denormalize",
    "fashion_mnist",
    "glyphs",
    "invert",
    "kmnist",
    "mnist",
    "noise",
    "normalize",
    "permute",
    "rotate",
    "shift",
]
