"""A lab as the grader sees it: one file with nbgrader's records of it, its cells in order, and its data files.

A bundle holds all that grading needs of the course, so that a submission can be graded on another machine.
"""

import ast
import io
import json
import logging
import shutil
import sqlite3
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from coursekit.question import Question

from ..records.course import Course, CourseError
from ..records.database import new_database
from ..records.files import digest, write_atomically

FORMAT = 1  # of results; part of every key
JUDGE = "judge"  # the folder beside a lab's source whose files only judges read
STUDENT = "student"  # the one student of a scratch course


@dataclass(frozen=True)
class Cell:
    """A cell that nbgrader knows, as it was released; `source` has the hidden tests, `stub` is what students saw."""

    grade_id: str
    kind: str  # test, solution, manual, locked
    cell_type: str
    points: float
    source: str
    stub: str
    cell_id: str
    metadata: dict


@dataclass(frozen=True)
class Bundle:
    """Everything about a lab: `key` changes when, and only when, something in it does."""

    lab: str
    key: str
    cells: tuple[Cell, ...]
    modules: tuple[str, ...]
    files: dict[str, bytes]
    judge: dict[str, bytes]  # files that questions draw from; students never see them
    gradebook: bytes

    def to_bytes(self) -> bytes:
        """The bundle as one zip archive."""
        buffer = io.BytesIO()
        about = {"lab": self.lab, "key": self.key, "modules": self.modules, "cells": [asdict(c) for c in self.cells]}
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("lab.json", json.dumps(about))
            archive.writestr("gradebook.db", self.gradebook)
            for folder, files in (("files", self.files), ("judge", self.judge)):
                for name, data in files.items():
                    archive.writestr(f"{folder}/{name}", data)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Bundle":
        """The bundle that `to_bytes` wrote."""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            about = json.loads(archive.read("lab.json"))
            files, judge = (
                {n.removeprefix(folder): archive.read(n) for n in archive.namelist() if n.startswith(folder)}
                for folder in ("files/", "judge/")
            )
            gradebook = archive.read("gradebook.db")
        cells = tuple(Cell(**cell) for cell in about["cells"])
        return cls(about["lab"], about["key"], cells, tuple(about["modules"]), files, judge, gradebook)


def load(course: Course, lab: str) -> Bundle:
    """The bundle of a lab, made anew when its source changed."""
    folder = course.source(lab)
    notebook = source_notebook(course, lab)
    ours = ["*.ipynb", "*.pyc", "__pycache__", ".*", f"{lab}.py", "variants.py"]
    ignored = [*ours, *course.config.CourseDirectory.get("ignore", [])]
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    names = [p.relative_to(folder) for p in paths]
    data = [n for n in names if not any(fnmatch(part, pattern) for part in n.parts for pattern in ignored)]
    files = {str(name): (folder / name).read_bytes() for name in data if name.parts[0] != JUDGE}
    judge = {p.name: p.read_bytes() for p in sorted(folder.glob(f"{JUDGE}/*.npz"))}
    # what a change of settings may change in the records of the lab
    elsewhere = ("CourseKit", "CourseDirectory", "HTMLExporter")
    settings = {k: str(v) for k, v in course.config.items() if k not in elsewhere}
    contents = [part for item in (*files.items(), *judge.items()) for part in item]
    key = digest(notebook, json.dumps(settings, sort_keys=True), *contents)
    path = course.work / "labs" / f"{lab}-{key[:16]}.zip"
    if path.is_file():
        return Bundle.from_bytes(path.read_bytes())
    bundle = _build(course, lab, notebook, files, judge, key)
    write_atomically(path, bundle.to_bytes())
    return bundle


def source_notebook(course: Course, lab: str) -> str:
    """nbgrader's source notebook of a lab as text, built from the .py source if there is one."""
    folder = course.source(lab)
    if (folder / f"{lab}.py").is_file():
        from . import release
        from . import source as labs

        try:
            return release.build(course.kit, lab)[folder / f"{lab}.ipynb"]
        except labs.LabError as error:
            raise CourseError(str(error)) from None
    if not (folder / f"{lab}.ipynb").is_file():
        raise CourseError(f"there is neither {lab}.py nor {lab}.ipynb in {folder}")
    return (folder / f"{lab}.ipynb").read_text(encoding="utf-8")


def imported_modules(notebook: dict) -> tuple[str, ...]:
    """Modules that the cells of a notebook import at their top level, in order."""
    found: dict[str, None] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        try:
            body = ast.parse("".join(cell["source"])).body
        except SyntaxError:
            continue
        for node in body:
            if isinstance(node, ast.Import):
                found |= dict.fromkeys(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module] = None
                found |= dict.fromkeys(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")
    return tuple(found)


def _build(course: Course, lab: str, notebook: str, files: dict, judge: dict, key: str) -> Bundle:
    """Let nbgrader itself record the lab, in a scratch course."""
    import nbformat
    from nbgrader.api import Gradebook
    from nbgrader.converters import GenerateAssignment

    course.work.mkdir(parents=True, exist_ok=True)
    for left in course.work.glob("scratch-*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=course.work) as scratch:
        source = Path(scratch, "source", lab)
        source.mkdir(parents=True)
        (source / f"{lab}.ipynb").write_text(notebook, encoding="utf-8")
        coursedir = scratch_course(scratch, lab, course.config)
        new_database(Path(scratch, "gradebook.db"))
        try:
            start(GenerateAssignment(coursedir=coursedir, config=course.config))
        except RuntimeError as error:
            raise CourseError(f"nbgrader cannot release {lab}: {error}") from error
        release = nbformat.read(Path(scratch, "release", lab, f"{lab}.ipynb"), as_version=4)
        with Gradebook(coursedir.db_url) as gradebook:
            sources = {c.name: c for c in gradebook.find_notebook(lab, lab).source_cells}
            cells = tuple(_cell(cell, sources) for cell in release.cells if cell.metadata.get("nbgrader"))
        connection = sqlite3.connect(Path(scratch, "gradebook.db"))
        connection.execute("VACUUM")
        connection.close()
        database = Path(scratch, "gradebook.db").read_bytes()
    unasked = [cell.grade_id for cell in cells if cell.kind == "test" and Question.of_cell(cell.source) is None]
    if unasked:
        raise CourseError(
            f"{lab}: {', '.join(unasked)} hold no hidden question in three parts (draw, ask, judge); only a judge's "
            "verdict gives points, see CONTRIBUTING.md"
        )
    if not any(cell.points for cell in cells):
        raise CourseError(f"{lab} has no graded cell")
    return Bundle(lab, key, cells, imported_modules(json.loads(notebook)), files, judge, database)


def _cell(cell, sources: dict) -> Cell:
    from .source import kind

    meta = dict(cell.metadata["nbgrader"])
    name = meta["grade_id"]
    record = sources[name]
    meta |= {"checksum": record.checksum, "cell_type": cell.cell_type}
    points = float(meta.get("points", 0) or 0)
    return Cell(name, kind(cell), cell.cell_type, points, record.source, cell.source, cell.get("id", name), meta)


def scratch_course(root: str, lab: str, config) -> "object":
    """nbgrader's view of a scratch course: its folders have fixed names, whatever the course calls its own."""
    from nbgrader.coursedir import CourseDirectory

    return CourseDirectory(
        root=root,
        assignment_id=lab,
        student_id=STUDENT,
        notebook_id=lab,
        source_directory="source",
        release_directory="release",
        submitted_directory="submitted",
        autograded_directory="autograded",
        db_url=f"sqlite:///{root}/gradebook.db",
    )


def start(converter) -> None:
    """Run a converter of nbgrader, which logs the cause of a failure and then raises something else."""
    errors: list[str] = []
    converter.log = _log(errors)
    try:
        converter.start()
    except Exception as error:
        causes = [e.strip().splitlines()[-1] for e in errors if "Traceback" in e]
        raise RuntimeError(causes[0] if causes else str(error)) from error


def _log(errors: list[str]) -> logging.Logger:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record.getMessage())

    log = logging.Logger("coursekit.classroom.nbgrader", logging.ERROR)
    log.addHandler(Handler())
    return log
