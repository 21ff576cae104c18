"""What a submission costs beyond its own computing: plain `nbgrader autograde` and `coursekit autograde`, side by side.

    python tests/classroom/speed.py lab1_bayesian_regression --count 16     # on a quiet machine: it measures wall time

The notebook's own computing is timed in a kernel that has run it once before, so that no start-up or import is in it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from bench import Lab, write
from nbclient import NotebookClient


def own_seconds(notebook) -> float:
    """Seconds that the code cells take when everything is imported and warm."""
    twice = nbformat.from_dict(notebook)
    twice.cells = [*twice.cells, *nbformat.from_dict(notebook).cells]
    for number, cell in enumerate(twice.cells):
        cell["id"] = f"c{number}"
    marks: list[float] = []
    half = len(twice.cells) // 2
    client = NotebookClient(
        twice, timeout=600, kernel_name="python3", allow_errors=True,
        on_cell_start=lambda cell, cell_index: marks.append(time.monotonic()) if cell_index == half else None,
    )  # fmt: skip
    client.execute()
    return time.monotonic() - marks[0]


def hand_in(root: Path, lab: Lab, count: int) -> None:
    for number in range(count):
        write(root / "submitted" / f"s{number:03}" / lab.name, lab, lab.right())


def seconds(command: list[str], cwd: Path) -> float:
    began = time.monotonic()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab")
    parser.add_argument("--kit", type=Path, default=Path.cwd())
    parser.add_argument("--count", type=int, default=16)
    args = parser.parse_args()
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")})
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    kit = args.kit.resolve()
    lab = Lab.load(kit, args.lab)
    own = own_seconds(lab.right())
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "plain")
        (plain / "solutions" / lab.name).mkdir(parents=True)
        nbformat.write(lab.source, plain / "solutions" / lab.name / f"{lab.name}.ipynb")
        shutil.copy(kit / "nbgrader_config.py", plain)
        hand_in(plain, lab, args.count)
        seconds(["nbgrader", "generate_assignment", lab.name], plain)
        took = {"nbgrader": seconds(["nbgrader", "autograde", lab.name], plain)}
        for jobs in (1, 2):
            course = Path(folder, f"jobs{jobs}")
            hand_in(course, lab, args.count)
            command = [
                "coursekit",
                "autograde",
                lab.name,
                "--course",
                str(course),
                "--kit",
                str(kit),
                "--jobs",
                str(jobs),
            ]
            took[f"coursekit, {jobs} jobs"] = seconds(command, course)
    print(f"{lab.name}: {args.count} submissions, {own:.2f} s of own computing each")
    for name, whole in took.items():
        each = whole / args.count
        print(f"  {name:18} {whole:6.1f} s, {each:5.2f} s each, {60 / each:5.1f} a minute")
    cost = {name: whole / args.count - own for name, whole in took.items()}
    print(f"beyond own computing: {cost['coursekit, 1 jobs'] / cost['nbgrader']:.2f} of nbgrader's (one job each)")
    print(f"two jobs grade {took['coursekit, 1 jobs'] / took['coursekit, 2 jobs']:.2f} times as many a minute as one")


if __name__ == "__main__":
    main()
