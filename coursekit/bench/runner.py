"""Starts a row in a process of its own, so that no library meets the settings of another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import coursekit
from coursekit.bench.tasks import TASKS


def run_row(name: str, *, device: str, repeats: int, python: Path | None) -> dict:
    """The row as a dict; ``python`` of the peers' environment, or ``None``: our side alone, in this one."""
    threads = {key: "1" for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    home = str(Path(coursekit.__file__).parents[1])  # the peers run this very copy of the kit
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    side = "ours" if python is None else "all"
    done = subprocess.run(
        [str(python or sys.executable), "-m", "coursekit.bench.worker", name, device, str(repeats), side],
        capture_output=True,
        text=True,
        env={**os.environ, **threads, "PYTHONPATH": path, "MPLBACKEND": "agg"},
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        row = json.loads(lines[-1])
    else:
        row = {"name": name, "title": TASKS[name].title, "error": f"the process ended with {done.returncode}"}
    if row.get("error"):
        row["stderr"] = done.stderr[-2000:]
    return row
