"""A sample class that goes through the whole pipeline: what each student did is known, and so is the right outcome."""

import ast
import copy
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent

import nbformat

from ..records.files import write_atomically
from .source import grade_id, kind, points
from .variants import Variant, load_variants

NOISE = dedent("""
    import sys, warnings
    from tqdm import tqdm
    def _noisy(function):
        def loud(*args, **options):
            warnings.warn("a harmless warning, written where errors go")
            for _ in tqdm(range(3), desc="a progress bar"):
                pass
            return function(*args, **options)
        return loud
""")


@dataclass(frozen=True)
class Expected:
    """What has to come out for one student of the sample class."""

    student: str
    what: str
    status: str
    score: float | None
    reason: str  # a part of the reason, empty if there must be none


def make_class(source, release, variants: list[Variant], lab: str) -> tuple[dict[str, str], list[Expected]]:
    """Submissions of the sample class (student -> notebook text) and what has to come of each.

    `source` is the lab with its solutions, `release` what students get.
    """
    worth, tests = points(source), [c for c in source.cells if kind(c) == "test"]
    full = sum(worth[grade_id(c)] for c in tests)
    answers = {grade_id(c): solved(c.source) for c in source.cells if kind(c) in ("solution", "manual")}
    code = [grade_id(c) for c in source.cells if kind(c) == "solution"]
    papers: dict[str, str] = {}
    expected: list[Expected] = []

    def add(student: str, what: str, given: dict[str, str], score: float, reason: str = "") -> None:
        papers[student] = answered(release, given)
        expected.append(Expected(student, what, "graded", score, reason))

    add("reference", "all answers right", answers, full)
    add("untouched", "nothing answered", {}, 0.0)
    for question in code:
        wrong = [v for v in variants if v.question == question and v.kind == "wrong"]
        if wrong:
            lost = sum(worth[name] for name in wrong[0].loses)
            add(f"wrong_{question}", wrong[0].name, {**answers, question: wrong[0].source}, full - lost)
    other = {}
    for variant in variants:
        if variant.kind == "right":
            other.setdefault(variant.question, variant.source)
    add("other_formula", f"right in another way, {len(other)} answers", {**answers, **other}, full)
    loud = {name: noisy(text) if name in code else text for name, text in answers.items()}
    add("warnings", "right, with warnings and progress bars", loud, full)
    last = code[-1]
    lost = [grade_id(c) for c in tests if _position(source, grade_id(c)) > _position(source, last)]
    slow = {**answers, last: endless(answers[last])}
    add("too_slow", f"{last} never ends", slow, full - sum(worth[name] for name in lost), "time limit")
    papers["broken_file"] = answered(release, answers)[:-400]
    expected.append(Expected("broken_file", "the file breaks off", "rejected", None, "breaks off"))
    return papers, expected


def solved(source: str) -> str:
    """A cell of the source without its solution marks."""
    return re.sub(r"^\s*(### |<!-- )(BEGIN|END) SOLUTION( -->)?\n?", "", source, flags=re.MULTILINE).rstrip("\n")


def answered(release, answers: dict[str, str]) -> str:
    """The released notebook with answers written into its cells."""
    notebook = copy.deepcopy(release)
    for cell in notebook.cells:
        if grade_id(cell) in answers:
            cell.source = answers[grade_id(cell)]
    return nbformat.writes(notebook)


def noisy(source: str) -> str:
    """An answer whose functions warn and show a progress bar at each call."""
    wrapped = "".join(f"{name} = _noisy({name})\n" for name in _functions(source))
    return f"{NOISE}{source}\n{wrapped}"


def endless(source: str) -> str:
    """An answer whose functions never return."""
    body = indent("while True:\n    pass", "    ")
    return source + "".join(f"\n\ndef {name}(*args, **options):\n{body}\n" for name in _functions(source))


def _functions(source: str) -> list[str]:
    return [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


def _position(notebook, name: str) -> int:
    return next(i for i, cell in enumerate(notebook.cells) if grade_id(cell) == name)


def write_class(folder: Path, papers: dict[str, str], lab: str) -> None:
    """Write submissions and a roster; files that are right already stay as they are."""
    for student, text in papers.items():
        path = folder / "submitted" / student / lab / f"{lab}.ipynb"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)
    names = "".join(f"{student},{student.replace('_', ' ')},Sample\n" for student in papers)
    roster = f"student,first_name,last_name\n{names}"
    path = folder / "roster.csv"
    if not path.is_file() or path.read_text(encoding="utf-8") != roster:
        write_atomically(path, roster)


def read_variants(path: Path) -> list[Variant]:
    """The known wrong and right answers of a lab; none if there is no such file."""
    return load_variants(path) if path.is_file() else []
