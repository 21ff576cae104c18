"""One row in a process of its own: ``python -m coursekit.bench.worker NAME DEVICE REPEATS all|ours``; prints JSON."""

import contextlib
import json
import sys
import traceback
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import torch

from coursekit.bench.case import Case
from coursekit.bench.tasks import TASKS, Task
from coursekit.bench.timing import count_flops, interleave, limits, summary

_PACKAGES = {
    "laplace-torch": "laplace-torch",
    "curvlinops": "curvlinops-for-pytorch",
    "PyHessian": "PyHessian",
    "hessian-eigenthings": "hessian-eigenthings",
    "loss-landscapes": "loss-landscapes",
    "torch-uncertainty": "torch-uncertainty",
    "pytorch-ood": "pytorch-ood",
    "torchmetrics": "torchmetrics",
    "netcal": "netcal",
    "scikit-learn": "scikit-learn",
}


def measure(name: str, *, device: str, repeats: int, peers: bool) -> dict:
    """The row as a dict: outputs compared, times of all sides, ratios."""
    task = TASKS[name]
    row = {"name": name, "title": task.title, "torch": torch.__version__, "threads": torch.get_num_threads()}
    torch.manual_seed(0)
    exact = {}
    if peers and task.exact:
        case = _build(task, device, torch.float64)
        _, exact = _prepare(case)
    torch.manual_seed(0)
    case = _build(task, device, torch.float32)
    calls, agreements = _prepare(case) if peers else ({}, {})
    case.ours()
    times = interleave({"ours": case.ours} | calls, repeats=repeats, device=device)
    row["ours"] = {clock: summary(values) for clock, values in times["ours"].items()}
    row["peers"] = {}
    for peer in calls:
        row["peers"][peer] = {
            "version": _version(peer),
            "target": task.targets.get(peer),
            "ratio": summary(_ratios(times, peer, "cpu")),
            "wall_ratio": summary(_ratios(times, peer, "wall")),
            "agreement": {
                "float32": _describe(agreements[peer]),
                **({"float64": _describe(exact[peer])} if peer in exact else {}),
            },
            "note": case.note.get(peer),
            **{clock: summary(values) for clock, values in times[peer].items()},
        }
    row["limits"] = _fractions(case, row["ours"]["wall"]["median"], device)
    return row


def _build(task: Task, device: str, dtype: torch.dtype) -> Case:
    module, function = task.build.split(":")
    return getattr(import_module(f"coursekit.bench.cases.{module}"), function)(torch.device(device), dtype)


def _prepare(case: Case):
    """The timed calls of the peers and how well their outputs agree; raises where they do not."""
    calls, agreements = {}, {}
    ours = case.ours()
    for peer, prepare in case.peers.items():
        calls[peer] = prepare()
        agreements[peer] = case.compare(peer, ours, calls[peer]())
        agreements[peer].require(peer)
    return calls, agreements


def _ratios(times: dict, peer: str, clock: str) -> list[float]:
    return [theirs / ours for theirs, ours in zip(times[peer][clock], times["ours"][clock], strict=True)]


def _describe(agreement) -> dict:
    return {"what": agreement.what, "error": agreement.error, "bound": agreement.bound}


def _fractions(case: Case, seconds: float, device: str) -> dict:
    """Shares of the device's measured limits: of arithmetic by the products counted, of memory where the case says."""
    reached = limits(device)
    flops = count_flops(case.ours)
    result = {"flops": flops, "arithmetic": flops / seconds / reached["flops"], "reached": reached}
    if case.bytes is not None:
        result["memory"] = case.bytes / seconds / reached["bytes"]
    return result


def _version(peer: str) -> str | None:
    try:
        return version(_PACKAGES[peer.split(" ")[0]])
    except (KeyError, PackageNotFoundError):
        return None


def main(argv: list[str]) -> int:
    name, device, repeats, side = argv
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the peers; ours are tested to be silent
    out = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):  # some peers print
            row = measure(name, device=device, repeats=int(repeats), peers=side == "all")
    except Exception as error:
        traceback.print_exc()
        row = {"name": name, "title": TASKS[name].title, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(row), file=out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
