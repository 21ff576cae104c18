import random

import numpy as np
import pytest
import torch

from coursekit.device import default_device, generator, setup


def test_setup_seeds_everything_and_sets_one_thread(monkeypatch):
    monkeypatch.delenv("COURSEKIT_THREADS", raising=False)
    draws = []
    for _ in range(2):
        setup(7)
        draws.append((random.random(), np.random.rand(), float(torch.rand(()))))  # noqa: NPY002
    assert draws[0] == draws[1]
    assert torch.get_num_threads() == 1


def test_threads_from_the_environment(monkeypatch):
    monkeypatch.setenv("COURSEKIT_THREADS", "2")
    setup()
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("COURSEKIT_THREADS", "many")
    with pytest.raises(ValueError, match="COURSEKIT_THREADS='many'"):
        setup()
    setup(threads=1)
    assert torch.get_num_threads() == 1


def test_device_from_the_environment(monkeypatch):
    monkeypatch.setenv("COURSEKIT_DEVICE", "cpu")
    assert default_device() == torch.device("cpu")
    monkeypatch.setenv("COURSEKIT_DEVICE", "abacus")
    with pytest.raises(ValueError, match="abacus"):
        default_device()


def test_a_missing_gpu_is_an_error(monkeypatch):
    monkeypatch.setenv("COURSEKIT_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device"):
        default_device()


def test_generators_are_independent():
    a, b = generator(1), generator(2)
    assert not torch.equal(torch.rand(4, generator=a), torch.rand(4, generator=b))
