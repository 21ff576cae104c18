"""What every test shares: one thread, no display, and each device of the machine."""

import contextlib
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # every folder of tests shares pretend_device.py
import pretend_device

torch.set_num_threads(1)

_why_not = pretend_device.why_not()
_PRETEND = pytest.param("pretend", marks=pytest.mark.skipif(bool(_why_not), reason=str(_why_not)))


_SECOND = "cuda" if torch.cuda.is_available() else _PRETEND


@pytest.fixture(params=["cpu", _SECOND])
def device(request):
    """The CPU and a second device: CUDA, or where there is none one that pretends to be (see pretend_device.py)."""
    with _device(request.param) as device:
        yield device


@pytest.fixture(params=[_SECOND])
def second_device(request):
    """The second device alone, for a comparison with the CPU."""
    with _device(request.param) as device:
        yield device


def _device(name: str):
    return pretend_device.present() if name == pretend_device.NAME else contextlib.nullcontext(torch.device(name))


def pytest_collection_finish(session):
    """The pretend device has to be there before the first backward of the process."""
    if any(getattr(item, "callspec", None) and "pretend" in item.callspec.id for item in session.items):
        pretend_device.set_up()


@pytest.fixture
def generator() -> torch.Generator:
    """A CPU generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def close_figures():
    """Figures of one test do not reach the next."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests of the grader run in one worker: they look for processes left behind, and would find those of another."""
    for item in items:
        if "grading" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("grading"))
