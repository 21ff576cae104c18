"""Times of several calls, measured in turns: on a noisy machine a ratio holds only between neighbours."""

import gc
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import torch

#: A short call is repeated within a round until the round lasts this long, in seconds.
ROUND = 0.05


def interleave(calls: dict[str, Callable[[], Any]], *, repeats: int, device: str = "cpu") -> dict[str, dict]:
    """{name: {"cpu": [...], "wall": [...]}}, seconds a call; every round runs all calls, one after the other."""
    counts = {name: _count(call, device) for name, call in calls.items()}
    times = {name: {"cpu": [], "wall": []} for name in calls}
    enabled = gc.isenabled()
    try:
        for _ in range(repeats):
            for name, call in calls.items():
                gc.collect()
                gc.disable()
                cpu, wall = _time(call, counts[name], device)
                times[name]["cpu"].append(cpu)
                times[name]["wall"].append(wall)
    finally:
        if enabled:
            gc.enable()
    return times


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": median(values), "low": low, "high": high}


def limits(device: str) -> dict[str, float]:
    """What this device reaches: float32 operations a second in a large product, bytes a second in a large copy."""
    size = 8192 if device.startswith("cuda") else 1024
    a = torch.randn(size, size, device=device)
    flops = 2 * size**3 / _best(lambda: a @ a, device)
    block = torch.empty(2**28 if device.startswith("cuda") else 2**25, device=device)
    target = torch.empty_like(block)
    moved = 2 * block.numel() * block.element_size() / _best(lambda: target.copy_(block), device)
    return {"flops": flops, "bytes": moved}


def count_flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions of a call; 0 where torch cannot count them."""
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with FlopCounterMode(display=False) as counter:
            call()
    except RuntimeError:  # the counter refuses gradients of inputs
        return 0
    return counter.get_total_flops()


def _count(call: Callable[[], Any], device: str) -> int:
    _, wall = _time(call, 1, device)
    return max(1, round(ROUND / max(wall, 1e-6)))


def _time(call: Callable[[], Any], count: int, device: str) -> tuple[float, float]:
    _wait(device)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        call()
    _wait(device)
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def _best(call: Callable[[], Any], device: str) -> float:
    _time(call, 1, device)
    return min(_time(call, 1, device)[1] for _ in range(10))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
