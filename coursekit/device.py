"""Which device, which seed, how many threads: decided once, at the top of a lab or a chapter."""

import os
import random
from contextlib import contextmanager

import numpy as np
import torch

from coursekit._inputs import check_generator


def default_device() -> torch.device:
    """CUDA if there is one, else the CPU; the environment variable ``COURSEKIT_DEVICE`` overrides.

    Raises:
        ValueError: ``COURSEKIT_DEVICE`` names no device, or one that this machine does not have.

    >>> default_device().type in {"cpu", "cuda"}
    True
    """
    wanted = os.environ.get("COURSEKIT_DEVICE", "")
    if not wanted:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ValueError(f"COURSEKIT_DEVICE={wanted!r} is no device; write cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"COURSEKIT_DEVICE={wanted!r}, but torch sees no CUDA device; unset it or install a CUDA torch"
        )
    return device


def generator(seed: int = 0, *, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh random generator: the ``generator=`` of every random function of the kit.

    >>> torch.equal(torch.rand(2, generator=generator(1)), torch.rand(2, generator=generator(1)))
    True
    """
    return torch.Generator(device=device).manual_seed(seed)


def draw_device(like: torch.Tensor, generator: torch.Generator | None) -> torch.device:
    """Where a draw for ``like`` is made: on the generator's device, the only one torch draws it on, else where it is.

    A method that draws there and moves the draw takes a generator of any device, and one seed gives one draw.

    >>> draw_device(torch.zeros(2), None)
    device(type='cpu')
    """
    check_generator(generator)
    return like.device if generator is None else generator.device


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu"):
    """For a while, torch's global generators of the CPU and of ``device`` start from ``seed``; then they are put back.

    For code that takes no generator: the first weights of a layer, dropout. ``torch.manual_seed`` would also change the
    generators of all other GPUs.

    >>> before = torch.get_rng_state()
    >>> with seeded(1):
    ...     one = torch.rand(2)
    >>> torch.equal(one, torch.rand(2, generator=generator(1))), torch.equal(before, torch.get_rng_state())
    (True, True)
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device], device_type=device.type):
        torch.default_generator.manual_seed(seed)
        if device.type != "cpu":
            state = generator(seed, device=device).get_state()
            torch.get_device_module(device).set_rng_state(state, device)
        yield


def setup(seed: int = 0, *, threads: int | None = None) -> torch.device:
    """Seed Python, NumPy and torch, set the number of threads, and return the device to work on.

    The networks of the course are small: on several threads they spend their time waiting for each other, up
    to two hundred times slower on a busy machine than on one. So the default is one thread; the environment
    variable ``COURSEKIT_THREADS`` or ``threads`` asks for more where a large network pays for it.

    Args:
        seed: seeds the *global* generators, for code of others; the kit's own functions take ``generator=``.
        threads: number of CPU threads of torch; ``None``: ``COURSEKIT_THREADS``, else 1.

    >>> setup(0).type in {"cpu", "cuda"}, torch.get_num_threads()
    (True, 1)
    """
    if threads is None:
        text = os.environ.get("COURSEKIT_THREADS", "1")
        if not text.isdigit():
            raise ValueError(f"COURSEKIT_THREADS={text!r} is no number of threads; write 1, 2, 4, ...")
        threads = int(text)
    if threads < 1:
        raise ValueError(f"threads={threads}: at least one thread is needed")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (seeds the code of others, which draws from the global state)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    return default_device()
