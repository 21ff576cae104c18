"""Submissions that are broken, greedy or hostile, made for any released lab, and what has to become of each.

python tests/classroom/bench.py LAB [--kit DIR] [--jobs N] [--questions K]     # the whole bench on a lab of the kit

With --questions K the lab ends after its K-th question, so that labs of minutes take seconds a case.
"""

import argparse
import copy
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell

from coursekit.classroom.grade.local import Workshop
from coursekit.classroom.grade.run import Runner
from coursekit.classroom.labs.bundle import Bundle, load, source_notebook
from coursekit.classroom.labs.sample import solved
from coursekit.classroom.labs.source import grade_id, kind
from coursekit.classroom.records.course import Course
from coursekit.classroom.sandbox import levels

MARK = f"bench-sleeper-{os.getpid()}"  # on the command line of every process a case leaves behind


@dataclass
class Lab:
    """A lab and its right answers."""

    name: str
    kit: Path
    bundle: Bundle
    source: object
    release: object

    @classmethod
    def load(cls, kit: Path, name: str) -> "Lab":
        with tempfile.TemporaryDirectory() as folder:
            bundle = load(Course.open(Path(folder), kit), name)
            source = nbformat.reads(source_notebook(Course.open(Path(folder), kit), name), as_version=4)
        release = copy.deepcopy(source)
        stubs = {c.grade_id: c.stub for c in bundle.cells}
        meta = {c.grade_id: c.metadata for c in bundle.cells}
        for cell in release.cells:
            if grade_id(cell) in stubs:
                cell.source, cell.metadata["nbgrader"] = stubs[grade_id(cell)], copy.deepcopy(meta[grade_id(cell)])
        return cls(name, kit, bundle, source, release)

    @property
    def tests(self) -> dict[str, float]:
        return {c.grade_id: c.points for c in self.bundle.cells if c.kind == "test"}

    @property
    def full(self) -> float:
        return sum(self.tests.values())

    @property
    def first(self) -> float:
        """Points of the tests up to and with the first one."""
        return next(iter(self.tests.values()))

    def right(self):
        """A notebook with every answer right."""
        notebook = copy.deepcopy(self.release)
        answers = {grade_id(c): solved(c.source) for c in self.source.cells if kind(c) in ("solution", "manual")}
        for cell in notebook.cells:
            cell.source = answers.get(grade_id(cell), cell.source)
        return notebook

    def blank(self):
        return copy.deepcopy(self.release)

    def where(self, notebook, name: str) -> int:
        return next(i for i, c in enumerate(notebook.cells) if grade_id(c) == name)


@dataclass
class Case:
    """One submission. `make(folder, lab)` writes it; the rest is what has to come out."""

    name: str
    make: Callable
    status: tuple[str, ...]
    score: Callable[[Lab], tuple[float, float]] | None  # lowest and highest score; None for no score
    reason: str = ""
    student: str = ""
    prints: str = ""  # must occur in the graded notebook

    def __post_init__(self):
        self.student = self.student or self.name


CASES: list[Case] = []  # filled by the modules cases_*.py
FULL = lambda lab: (lab.full, lab.full)  # noqa: E731
FIRST = lambda lab: (lab.first, lab.first)  # noqa: E731
ZERO = lambda lab: (0.0, 0.0)  # noqa: E731
ANY = lambda lab: (0.0, lab.full)  # noqa: E731
SOME = lambda lab: (lab.first, lab.full)  # noqa: E731
GRADED, REVIEW, REJECTED = ("graded",), ("review",), ("rejected",)


def case(status, score, reason="", **more):
    """Register a function that changes a notebook, or returns raw bytes, or writes files itself."""

    def register(function):
        def make(folder: Path, lab: Lab) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            result = function(lab, folder)
            if isinstance(result, bytes):
                (folder / f"{lab.name}.ipynb").write_bytes(result)
            elif result is not None:
                text = json.dumps(result) if not isinstance(result, str) else result
                (folder / f"{lab.name}.ipynb").write_text(text, encoding="utf-8")

        CASES.append(Case(function.__name__, make, status, score, reason, **more))
        return function

    return register


def extra(name: str, source: str, status, score, reason="", *, blank=False, after_first=True, **more):
    """Register a notebook, right or blank, with one more cell after its first test or at its top."""

    def make(folder: Path, lab: Lab) -> None:
        notebook = lab.blank() if blank else lab.right()
        at = lab.where(notebook, next(iter(lab.tests))) + 1 if after_first else 0
        notebook.cells.insert(at, new_code_cell(source))
        write(folder, lab, notebook)

    CASES.append(Case(name, make, status, score, reason, **more))


def write(folder: Path, lab: Lab, notebook) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{lab.name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


# --- running it -----------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of a run of the bench."""

    rows: dict
    notebooks: dict[str, str]
    before: dict[str, str]
    after: dict[str, str]
    leftovers: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def write_class(course: Course, lab: Lab, cases: list[Case]) -> None:
    """The submissions and a roster that also lists students who have none, and one that tries to leave the course."""
    for one in cases:
        try:
            one.make(course.root / "submitted" / one.student / lab.name, lab)
        except OSError as error:
            raise RuntimeError(f"{one.name}: {error}") from error
        notebook = course.root / "submitted" / one.student / lab.name / f"{lab.name}.ipynb"
        linked = notebook.is_symlink() or notebook.parent.is_symlink()
        if notebook.is_file() and not linked and notebook.stat().st_size < 1 << 20:
            data = notebook.read_bytes().replace(b"COURSE", str(course.root).encode())
            notebook.write_bytes(data.replace(b"KIT", str(lab.kit).encode()))
    names = [one.student for one in cases] + ["../../x", "never_came"]
    quoted = ('"' + name.replace('"', '""') + '"' for name in names)
    (course.root / "roster.csv").write_text("student\n" + "\n".join(quoted) + "\n", encoding="utf-8")


def run(course: Course, lab: Lab, cases: list[Case], *, jobs: int = 2, level=None, report=None) -> Outcome:
    """Grade the bench once and look at what it left."""
    write_class(course, lab, cases)
    before = snapshot(course, lab)
    os.environ["BENCH_SECRET"] = "not for students"
    hidden = (str(course.root), str(course.kit))
    open_pool = partial(Workshop, lab.bundle, course.limits, level or levels.probe(), hidden=hidden, jobs=jobs)
    runner = Runner(course, lab.bundle, course.limits, open_pool, report=report)
    rows = {row.student: row for row in runner.run(course.folder("submitted"))}
    texts = {}
    for one in cases:
        path = course.folder("autograded") / one.student / lab.name / f"{lab.name}.ipynb"
        texts[one.student] = path.read_text(encoding="utf-8") if path.is_file() else ""
    outcome = Outcome(rows, texts, before, snapshot(course, lab), leftovers())
    outcome.missed = [f"{one.name}: {problem}" for one in cases if (problem := verdict(one, lab, outcome))]
    return outcome


def verdict(one: Case, lab: Lab, outcome: Outcome) -> str:
    """What is wrong with the outcome of a case; empty if nothing is."""
    row = outcome.rows.get(one.student)
    if row is None:
        return "has no row"
    got = f"{row.status} {row.score} {row.reason!r}"
    if row.status not in one.status:
        return f"expected {' or '.join(one.status)}, got {got}"
    if row.score is None:
        return "" if row.status == "rejected" and one.reason in row.reason else f"expected {one.reason!r}, got {got}"
    low, high = one.score(lab) if one.score else (None, None)
    if low is None or not low <= row.score <= high:
        return f"expected a score from {low} to {high}, got {got}"
    if one.reason not in row.reason:
        return f"expected the reason to say {one.reason!r}, got {got}"
    if one.prints and one.prints not in outcome.notebooks[one.student]:
        return f"expected it to print {one.prints!r}"
    return ""


def snapshot(course: Course, lab: Lab) -> dict[str, str]:
    """Digests of what no submission may change."""
    files = [p for root in (lab.kit / "solutions" / lab.name, course.root / "submitted") for p in root.rglob("*")]
    files += [lab.kit / "nbgrader_config.py", course.root / "roster.csv"]
    regular = [p for p in files if p.is_file() and not p.is_symlink() and p.stat().st_size < 64 << 20]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in regular}


def running(text: str) -> list[str]:
    """Processes with a text on their command line."""
    found = ((p.pid, " ".join(p.info["cmdline"] or ())) for p in psutil.process_iter(["cmdline"]))
    return [f"{pid} {line}" for pid, line in found if text in line]


def leftovers() -> list[str]:
    """Processes and files that a submission left behind."""
    return running(MARK) + [p for p in ("/tmp/late-bench-7391", "/var/tmp/late-bench-7391") if os.path.exists(p)]


def all_cases() -> list[Case]:
    """Every case, once its modules are imported."""
    for module in ("cases_greed", "cases_structure", "cases_attacks", "cases_points", "cases_honest"):
        importlib.import_module(module)
    return CASES


def shorten(kit: Path, name: str, questions: int, folder: Path) -> Path:
    """A kit whose only lab is the given one without what comes after its first questions."""
    notebook = nbformat.reads(source_notebook(Course.open(folder, kit), name), as_version=4)
    answers = [i for i, c in enumerate(notebook.cells) if kind(c) == "solution"]
    notebook.cells = notebook.cells[: answers[questions] if questions < len(answers) else None]
    lab = folder / "solutions" / name
    shutil.copytree(kit / "solutions" / name, lab, ignore=shutil.ignore_patterns("*.py", "*.ipynb"))
    nbformat.write(notebook, lab / f"{name}.ipynb")
    shutil.copy(kit / "nbgrader_config.py", folder)
    return folder


def as_ordinary_user(command: list[str]) -> list[str]:
    """The command run by user 60001 where it sees this Python, its packages and the kit, and not the homes they are in."""
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), Path(__file__).resolve().parents[2]}
    needed = {p for p in needed if not any(p != other and p.is_relative_to(other) for other in needed)}
    closed = {path: top for path in needed if (top := closed_parent(path))}
    script = "set -e\n"
    for number, path in enumerate(closed):
        script += f"mkdir -p /tmp/keep-$$/{number}; mount --bind {path} /tmp/keep-$$/{number}\n"
    script += "".join(f"mount -t tmpfs -o mode=755 tmpfs {top}\n" for top in sorted(set(closed.values())))
    for number, path in enumerate(closed):
        script += f"mkdir -p {path}; mount --move /tmp/keep-$$/{number} {path}; rmdir /tmp/keep-$$/{number}\n"
    script += 'export HOME=/tmp; exec setpriv --reuid 60001 --regid 60001 --clear-groups -- "$@"'
    return ["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "--", *command]


def closed_parent(path: Path) -> Path | None:
    """The topmost folder above `path` that other users cannot enter."""
    closed = [p for p in path.parents if p != Path("/") and not p.stat().st_mode & 0o001]
    return closed[-1] if closed else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab")
    parser.add_argument("--kit", type=Path, default=Path.cwd())
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cell-seconds", type=int, default=20)
    parser.add_argument("--questions", type=int, help="end the lab after so many questions")
    parser.add_argument("--only", default="", help="a regular expression that names of cases must match")
    parser.add_argument("--ordinary-user", action="store_true", help="for root: run it all as a user without rights")
    args = parser.parse_args()
    if args.questions is not None and args.questions < 2:
        parser.error("--questions: a lab of one question has no last answer whose loss leaves another; say 2 or more")
    if args.ordinary_user:
        own = [word for word in sys.argv if word != "--ordinary-user"]
        return subprocess.run(as_ordinary_user([sys.executable, *own])).returncode
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    kit = args.kit.resolve()
    if args.questions:
        kit = shorten(kit, args.lab, args.questions, folder / "kit")
    course = Course.open(folder / "course", kit)
    course.config.CourseKit.update(cell_seconds=args.cell_seconds, total_seconds=6 * args.cell_seconds)
    lab = Lab.load(kit, args.lab)
    cases = [one for one in all_cases() if re.search(args.only, one.name)]

    def report(done, total, student, result, left):
        print(
            f"[{done}/{total}] {student}: {result['status']} {result.get('score')} {result['wall_s']} s",
            file=sys.stderr,
        )

    outcome = run(course, lab, cases, jobs=args.jobs, report=report)
    changed = [p for p in outcome.before if outcome.before[p] != outcome.after.get(p)]
    problems = outcome.missed + outcome.leftovers + [f"changed: {p}" for p in changed]
    print("\n".join(problems) or "the bench holds")
    print(f"{len(cases)} cases, {len(problems)} problems; {folder}")
    if not problems:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.modules["bench"] = sys.modules["__main__"]  # the cases register with the bench that runs
    sys.exit(main())
