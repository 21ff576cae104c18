"""One page a student: their answers, their points, what the tests said and what the grader wrote; no hidden test."""

import html
import json
import re
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from traitlets.config import Config

from coursekit.labs import blocks, without

from . import gradebook
from .account import Row, read_grades
from .course import Course, CourseError, valid_student
from .files import digest, own_tools, read_json, write_atomically
from .lab import start
from .mathml import render_formulas

FORMAT = 4  # part of every key: pages are made anew when this changes
HIDDEN = "# (further tests ran here)"
CUT = "(a line that repeated a hidden test was cut)"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def secret_lines(notebook) -> set[str]:
    """Lines of hidden tests that occur nowhere else in the notebook, mere brackets and keywords aside."""
    secret, public = set(), set()
    for cell in notebook.cells:
        secret |= {line.strip() for block in blocks(cell.source, "HIDDEN TESTS") for line in block.split("\n")}
        public |= {line.strip() for line in without(cell.source, "HIDDEN TESTS").split("\n")}
    found = {line for line in secret - public if len(line) > 6}
    return found | ({"BEGIN HIDDEN TESTS", "END HIDDEN TESTS"} if secret else set())


def hide_tests(notebook) -> None:
    """Take hidden tests out of a graded notebook: out of the tests, and wherever an output repeats them."""
    secrets = secret_lines(notebook)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        meta = cell.metadata.get("nbgrader", {})
        test = meta.get("grade") and not meta.get("solution")
        if test:
            hidden = bool(blocks(cell.source, "HIDDEN TESTS"))
            cell.source = without(cell.source, "HIDDEN TESTS").rstrip() + (f"\n{HIDDEN}" if hidden else "")
        cell.outputs = [_clean(output, secrets, bool(test)) for output in cell.outputs]


def _clean(output, secrets: set[str], test: bool):
    if output.output_type == "error":
        output.evalue = _scrub(output.evalue, secrets)
        if test:  # a traceback quotes the lines of the test
            output.traceback = [f"{output.ename}: {output.evalue}"]
        output.traceback = [_scrub(part, secrets) for part in output.traceback]
    elif output.output_type == "stream":
        output.text = _scrub(output.text, secrets)
    else:
        for kind, value in list(output.get("data", {}).items()):
            text = value if isinstance(value, str) else json.dumps(value)
            if any(secret in html.unescape(text) or secret in text for secret in secrets):
                output.data[kind] = CUT
    return output


def _scrub(text: str, secrets: set[str]) -> str:
    if not any(secret in ANSI.sub("", text) for secret in secrets):
        return text
    plain = ANSI.sub("", text)
    return "\n".join(CUT if any(s in line for s in secrets) else line for line in plain.split("\n"))


def write_feedback(course: Course, lab: str, *, jobs: int = 1, report=None) -> tuple[int, int]:
    """Pages for everybody in grades/<lab>.csv: how many there are, and how many of them were made anew."""
    from nbgrader.api import Gradebook

    grades = course.root / "grades" / f"{lab}.csv"
    if not grades.is_file():
        raise CourseError(f"there is no {grades}; run `coursekit autograde {lab}` first")
    marks = course.work / "feedback" / f"{lab}.json"
    known = read_json(marks) or {}
    rows = [row for row in read_grades(grades) if row.status != "missing" and valid_student(row.student)]
    new = {}
    for row in rows:
        source = course.folder("autograded") / row.student / lab / f"{lab}.ipynb"
        page = course.folder("feedback") / row.student / lab / f"{lab}.html"
        graded = row.score is not None and source.is_file()
        text = source.read_bytes() if graded else ""
        key = digest(str(FORMAT), text, _marks(course.gradebook, lab, row.student), row.reason)
        if known.get(row.student) != key or not page.is_file():
            new[row.student] = key
            if not graded:
                write_atomically(page, _rejected(lab, row))
    todo = [row.student for row in rows if row.student in new and row.score is not None]
    with own_tools(), Gradebook(f"sqlite:///{course.gradebook}?timeout={gradebook.LOCK_SECONDS}"):
        pass  # nbgrader adds its default course when it first looks; several at once would collide
    with ProcessPoolExecutor(max(1, jobs)) as pool:
        for done, student in enumerate(pool.map(partial(_convert, course, lab), todo), start=1):
            if report:
                report(done, len(todo), student)
    known.update(new)
    write_atomically(marks, json.dumps(known, indent=1, sort_keys=True))
    return len(rows), len(new)


def _marks(path: Path, lab: str, student: str) -> str:
    """Everything in the gradebook that a page shows."""
    query = """
        SELECT b.name, g.auto_score, g.manual_score, g.extra_credit, g.needs_manual_grade, NULL FROM grade g
          JOIN base_cell b ON b.id = g.cell_id JOIN submitted_notebook n ON n.id = g.notebook_id
          JOIN submitted_assignment s ON s.id = n.assignment_id JOIN assignment a ON a.id = s.assignment_id
          WHERE a.name = :lab AND s.student_id = :student
        UNION ALL SELECT b.name, NULL, NULL, NULL, NULL, COALESCE(c.manual_comment, c.auto_comment) FROM comment c
          JOIN base_cell b ON b.id = c.cell_id JOIN submitted_notebook n ON n.id = c.notebook_id
          JOIN submitted_assignment s ON s.id = n.assignment_id JOIN assignment a ON a.id = s.assignment_id
          WHERE a.name = :lab AND s.student_id = :student
    """
    connection = sqlite3.connect(path, timeout=gradebook.LOCK_SECONDS)
    try:
        rows = connection.execute(query, {"lab": lab, "student": student}).fetchall()
    finally:
        connection.close()
    return json.dumps(sorted(rows, key=repr))


def _convert(course: Course, lab: str, student: str) -> str:
    """nbgrader's own page of one student, from a notebook without hidden tests."""
    from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
    from nbgrader.converters import GenerateFeedback
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.preprocessors import GetGrades, NbGraderPreprocessor

    class HideTests(NbGraderPreprocessor):
        def preprocess(self, nb, resources):
            hide_tests(nb)
            return nb, resources

    config = Config(course.config)
    config.CourseDirectory.root = str(course.root)
    config.GenerateFeedback.preprocessors = [HideTests, GetGrades, CSSHTMLHeaderPreprocessor]
    config.HTMLExporter.sanitize_html = True  # what a student wrote is shown, not run
    coursedir = CourseDirectory(config=config, assignment_id=lab, student_id=student, notebook_id=lab)
    converter = GenerateFeedback(coursedir=coursedir, config=config)
    converter.force = True
    try:
        start(converter)
    except RuntimeError as error:
        raise CourseError(f"nbgrader cannot write the feedback of {student}: {error}") from error
    page = course.folder("feedback") / student / lab / f"{lab}.html"
    write_atomically(page, render_formulas(page.read_text(encoding="utf-8")))
    return student


def _rejected(lab: str, row: Row) -> str:
    text = html.escape(f"{row.reason[:1].upper()}{row.reason[1:]}.")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(lab)}</title>'
        '<body style="font-family: sans-serif; max-width: 40em; margin: 3em auto">'
        f"<h1>{html.escape(lab)}</h1><p>This submission could not be graded.</p>"
        f"<p><strong>{text}</strong></p></body></html>\n"
    )
