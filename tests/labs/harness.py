"""The truth table of a lab: which test cells fail for which answer.

The reference notebook is run once. At each question the process branches (os.fork): the child runs a variant in the
place of the reference answer, then the cells after it, and reports which test cells fail. So a table of sixty answers
costs little more than one run of the lab.

    python tests/labs/harness.py lab1_bayesian_regression     # prints the table, exit 1 if it is not as expected

With --judge-alone the test cells run without their visible part: the hidden question must find every wrong answer.

A cell tagged "demo" runs for the reference, not in the branches: use it for costly cells that no test depends on.
"""

import argparse
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from coursekit.classroom.labs import source as labs
from coursekit.classroom.labs.variants import load_variants

ROOT = Path(__file__).resolve().parents[2]
CELL_SECONDS = 60  # of the processor: a variant that needs more for one cell has failed it


@dataclass(frozen=True)
class Outcome:
    """What became of one answer: failed maps the grade_id of each test cell that failed to its message."""

    question: str
    name: str
    kind: str
    loses: tuple[str, ...]
    failed: dict[str, str]
    noisy: tuple[str, ...]
    seconds: float

    @property
    def as_expected(self) -> bool:
        return set(self.failed) == set(self.loses)


def source_path(lab: str) -> Path:
    return ROOT / "solutions" / lab / f"{lab}.py"


def variants_path(lab: str) -> Path:
    return ROOT / "solutions" / lab / "variants.py"


def truth_table(lab: str, *, jobs: int = 2, repeat: int = 1) -> list[Outcome]:
    """Outcomes of the reference (first), the untouched notebook (second) and every variant of `lab`.

    Runs in a process of its own, without a GPU (a CUDA context does not survive a fork) and on one thread.
    """
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "table.json"
        command = [sys.executable, __file__, lab, "--jobs", str(jobs), "--repeat", str(repeat)]
        command += ["--json", str(report)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if not report.is_file():
            raise RuntimeError(f"the truth table of {lab} was not made:\n{done.stdout}\n{done.stderr}")
        rows = json.loads(report.read_text())
    return [Outcome(**{**row, "loses": tuple(row["loses"]), "noisy": tuple(row["noisy"])}) for row in rows]


class Session:
    """One interactive Python, as the kernel would be, that remembers which test cells failed."""

    def __init__(self, repeat: int = 1):
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config()
        config.HistoryManager.enabled = False  # its thread and database do not survive a fork
        config.InteractiveShell.colors = "nocolor"
        self.shell = InteractiveShell.instance(config=config)
        self.repeat = repeat
        self.failed: dict[str, str] = {}
        self.noisy: list[str] = []
        self.errors: list[str] = []

    def run(self, cell, source: str | None = None) -> None:
        """Run one code cell; `source` replaces its text. Test cells run `repeat` times: their inputs are random."""
        if labs.kind(cell) != "test":
            message, _ = self._run_once(cell, source)
            if message:
                self.errors.append(f"{labs.grade_id(cell) or cell.source[:60]!r}: {message}")
            return
        test = labs.grade_id(cell)
        verdicts = [self._run_once(cell, source) for _ in range(self.repeat)]
        messages = [message for message, _ in verdicts if message]
        if messages:
            self.failed[test] = messages[0]
        if 0 < len(messages) < self.repeat:
            # never what a variant says it loses, so a check that depends on luck is found out
            self.failed[f"{test}: failed {len(messages)} times in {self.repeat}"] = messages[0]
        if any(noise for _, noise in verdicts):
            self.noisy.append(test)

    def _run_once(self, cell, source: str | None) -> tuple[str, str]:
        """What went wrong, and what was written to stderr; both empty if all is well."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _time_limit(CELL_SECONDS):
            result = self.shell.run_cell(cell.source if source is None else source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
        self._close_figures()
        if error is not None:
            return f"{type(error).__name__}: {error}", err.getvalue().strip()
        if labs.kind(cell) == "test" and result.result is not None:
            return f"ends on {result.result!r}, which nbgrader would read as a grade", err.getvalue().strip()
        return "", err.getvalue().strip()

    @staticmethod
    def _close_figures() -> None:
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")


@contextlib.contextmanager
def _time_limit(seconds: float):
    """Limit the processor time, not the time on the clock, which a busy machine stretches."""

    def stop(*_):
        raise TimeoutError(f"the cell took more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def stub(source: str) -> str:
    """The cell as a student first sees it: the solution replaced by NotImplementedError."""
    pattern = re.compile(r"^(\s*)### BEGIN SOLUTION\n.*?^\s*### END SOLUTION[^\n]*", re.MULTILINE | re.DOTALL)
    return pattern.sub(r"\1raise NotImplementedError()", source)


def _branch(session: Session, cells, source: str, label: dict, folder: Path) -> int:
    """Fork; the child runs `source` for cells[0], then the rest, and writes its Outcome. Returns the child's pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        start = time.perf_counter()
        session.failed, session.noisy = {}, []
        session.run(cells[0], source)
        for cell in cells[1:]:
            if "demo" not in cell.metadata.get("tags", []):
                session.run(cell)
        seconds = time.perf_counter() - start
        outcome = Outcome(**label, failed=session.failed, noisy=tuple(session.noisy), seconds=seconds)
        (folder / f"{os.getpid()}.json").write_text(json.dumps(asdict(outcome)))
        os._exit(0)
    except BaseException as error:  # the child must never fall back into the parent's code
        print(f"{label['question']}/{label['name']}: {error!r}", file=sys.__stderr__)
        os._exit(1)


def make_table(lab: str, *, jobs: int, repeat: int, judge_alone: bool = False) -> list[Outcome]:
    """truth_table in this process; leaves this interpreter full of the lab's names."""
    notebook = labs.parse(source_path(lab))
    variants = load_variants(variants_path(lab))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells if judge_alone else []:
        if labs.kind(cell) == "test":
            cell["source"] = "\n".join(labs.blocks(cell.source, "HIDDEN TESTS"))
    tests = tuple(labs.grade_id(cell) for cell in cells if labs.kind(cell) == "test")
    questions = [labs.grade_id(cell) for cell in cells if labs.kind(cell) == "solution"]
    strangers = [f"{v.question}/{v.name}" for v in variants if v.question not in questions]
    strangers += [f"{v.question}/{v.name} loses {x}" for v in variants for x in v.loses if x not in tests]
    if strangers:
        raise ValueError(f"variants of questions or test cells that {lab} does not have: {strangers}")

    session, outcomes, running = Session(repeat), {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def collect(at_most: int) -> None:
            while len(running) > at_most:
                pid, status = os.wait()
                key = running.pop(pid)
                report = folder / f"{pid}.json"
                if status or not report.is_file():
                    raise RuntimeError(f"the branch {key} died with status {status}")
                row = json.loads(report.read_text())
                outcomes[key] = Outcome(**{**row, "loses": tuple(row["loses"]), "noisy": tuple(row["noisy"])})

        # The untouched notebook branches off before anything has run: every answer is still a stub.
        untouched = [c.copy() for c in cells]
        for cell in untouched:
            if labs.kind(cell) == "solution":
                cell["source"] = stub(cell.source)
        label = {"question": "", "name": "untouched", "kind": "wrong", "loses": tests}
        running[_branch(session, untouched, untouched[0].source, label, folder)] = ("", "untouched")

        start = time.perf_counter()
        for place, cell in enumerate(cells):
            for variant in variants:
                if variant.question != labs.grade_id(cell):
                    continue
                collect(max(jobs, 1) - 1)
                label = {key: getattr(variant, key) for key in ("question", "name", "kind", "loses")}
                pid = _branch(session, cells[place:], variant.source, label, folder)
                running[pid] = (variant.question, variant.name)
            session.run(cell)
        seconds = time.perf_counter() - start
        collect(0)
    if session.errors:
        raise RuntimeError(f"cells of the reference that raise: {session.errors}")
    reference = Outcome("", "reference", "right", (), session.failed, tuple(session.noisy), seconds)
    return [reference, outcomes["", "untouched"]] + [outcomes[v.question, v.name] for v in variants]


def main() -> int:
    parser = argparse.ArgumentParser(description="The truth table of a lab.")
    parser.add_argument("lab")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1, help="run each test cell so often: finds checks of luck")
    parser.add_argument("--judge-alone", action="store_true", help="run test cells without their visible part")
    parser.add_argument("--json", type=Path, help="write the table here instead of printing it")
    args = parser.parse_args()
    table = make_table(args.lab, jobs=args.jobs, repeat=args.repeat, judge_alone=args.judge_alone)
    if args.json:
        args.json.write_text(json.dumps([asdict(outcome) for outcome in table]))
        return 0
    for row in table:
        verdict = "ok  " if row.as_expected and not (row.noisy and row.name == "reference") else "FAIL"
        answer = f"{row.question} {row.kind}: {row.name}"
        print(f"{verdict} {answer:60.60} {row.seconds:5.1f} s  loses {list(row.failed)}")
        if not row.as_expected:
            print("".join(f"       {test}: {text}\n" for test, text in row.failed.items()), end="")
    wrong = [row for row in table if not row.as_expected]
    print(f"{len(table) - len(wrong)} of {len(table)} as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
