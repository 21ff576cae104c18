"""Images of 28 x 28 pixels: MNIST in the box, its full set and its siblings on demand.

Every function returns ``x`` (N, 1, 28, 28), float32 with pixels in [0, 1], and ``y`` (N,), int64. With
``normalize=True`` the pixels are shifted and scaled by the two numbers that everyone uses for MNIST,
:math:`(x - 0.1307) / 0.3081`; the siblings take the same numbers, for they are fed to networks trained on MNIST.
"""

from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from coursekit.data import remote

MEAN, STD = 0.1307, 0.3081
"""Mean and standard deviation of the pixels of the MNIST training set, in [0, 1] units."""
NORMALIZED_RANGE = ((0 - MEAN) / STD, (1 - MEAN) / STD)
"""The smallest and the largest value a normalised pixel can take: black and white."""


def normalize(x: Tensor) -> Tensor:
    """Pixels in [0, 1] to (x - 0.1307) / 0.3081.

    >>> [round(float(v), 6) for v in normalize(torch.tensor([0.1307, 0.4388]))]
    [0.0, 1.0]
    """
    return (x - MEAN) / STD


def denormalize(x: Tensor) -> Tensor:
    """Inverse of :func:`normalize`.

    >>> x = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    >>> bool(torch.allclose(denormalize(normalize(x)), x, rtol=0, atol=1e-15))
    True
    """
    return x * STD + MEAN


def mnist(
    split: str = "train",
    *,
    full: bool = False,
    normalize: bool = False,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Handwritten digits: 10,000 training and 5,000 test images that ship with the kit, or all 70,000.

    The bundled subset, every sixth pair of training and every second pair of test images, is spread over the whole
    set (``python -m coursekit.data.make_subset`` made it); it needs no network. MNIST is licensed CC BY-SA 3.0
    by Yann LeCun and Corinna Cortes; see ``bundled/MNIST-LICENSE.txt``.

    Args:
        split: ``"train"`` or ``"test"``.
        full: the 60,000 or 10,000 images of the full set, downloaded once (11 MB) and checked.
        normalize: return (x - 0.1307) / 0.3081 instead of pixels in [0, 1].
        device: where to put both tensors; ``None``: the CPU.

    Returns:
        x (N, 1, 28, 28) float32 and y (N,) int64, the digits.

    Raises:
        ValueError: an unknown split.
        ConnectionError: the full set was asked for and no mirror answered.

    >>> x, y = mnist("test")
    >>> x.shape, y.shape, float(x.min()), float(x.max())
    (torch.Size([5000, 1, 28, 28]), torch.Size([5000]), 0.0, 1.0)
    """
    _check_split(split)
    if full:
        return _tensors(*remote.fetch(remote.MNIST, split), normalize, device)
    with np.load(files("coursekit.data") / "bundled" / "mnist_subset.npz") as arrays:
        return _tensors(arrays[f"x_{split}"], arrays[f"y_{split}"], normalize, device)


def kmnist(
    split: str = "test", *, normalize: bool = False, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Kuzushiji-MNIST: ten characters of cursive Japanese, 60,000 training and 10,000 test images, on demand.

    Arguments, result and errors as in :func:`mnist`; the normalisation is that of MNIST. Licensed CC BY-SA 4.0:
    "KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset"; see Clanuwat et al. 2018,
    arXiv:1812.01718.
    """
    _check_split(split)
    return _tensors(*remote.fetch(remote.KMNIST, split), normalize, device)


def fashion_mnist(
    split: str = "test", *, normalize: bool = False, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Fashion-MNIST: ten kinds of clothes, 60,000 training and 10,000 test images, on demand.

    Arguments, result and errors as in :func:`mnist`; the normalisation is that of MNIST. MIT licence, Zalando SE;
    see Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    _check_split(split)
    return _tensors(*remote.fetch(remote.FASHION_MNIST, split), normalize, device)


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}: write 'train' or 'test'")


def _tensors(images: np.ndarray, labels: np.ndarray, normalized: bool, device) -> tuple[Tensor, Tensor]:
    x = torch.tensor(images, device=device).to(torch.float32).div_(255).unsqueeze(1)  # bytes travel, not floats
    if normalized:
        x = normalize(x)
    return x, torch.tensor(labels, device=device).to(torch.int64)
