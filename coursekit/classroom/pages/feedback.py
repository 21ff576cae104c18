"""One page a student: their answers, their points, what the tests said and what the grader wrote; no hidden test."""

import html
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from nbconvert.filters.ansi import strip_ansi
from traitlets.config import Config

from ..labs.bundle import start
from ..labs.source import blocks, without
from ..records import gradebook
from ..records.course import Course, CourseError, valid_student
from ..records.files import digest, read_json, write_atomically
from ..records.grades import Row, number, read_grades
from .html import clean_html, markdown2html
from .mathml import render_formulas
from .templates import PAGES, head

FORMAT = 5  # part of every key: pages are made anew when this changes
HIDDEN = "# (further tests ran here)"
CUT = "(a line that repeated a hidden test was cut)"


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
    plain = strip_ansi(text)
    if not any(secret in plain for secret in secrets):
        return text
    return "\n".join(CUT if any(s in line for s in secrets) else line for line in plain.split("\n"))


def write_feedback(course: Course, lab: str, *, jobs: int = 1, report=None) -> tuple[int, int]:
    """Pages for everybody in grades/<lab>.csv: how many there are, and how many of them were made anew.

    A page that cannot be made keeps nobody else's from being made; then a CourseError names whose it is, and why.
    """
    from nbgrader.api import Gradebook

    grades = course.root / "grades" / f"{lab}.csv"
    if not grades.is_file():
        raise CourseError(f"there is no {grades}; run `coursekit autograde {lab}` first")
    marks = course.work / "feedback" / f"{lab}.json"
    known = read_json(marks) or {}
    rows = [row for row in read_grades(grades) if row.status != "missing" and valid_student(row.student)]
    new, todo = {}, []
    for row in rows:
        source = course.folder("autograded") / row.student / lab / f"{lab}.ipynb"
        page = _page(course, lab, row.student)
        graded = row.score is not None and source.is_file()
        text = source.read_bytes() if graded else ""
        key = digest(str(FORMAT), text, _marks(course.gradebook, lab, row.student), row.reason)
        if known.get(row.student) == key and page.is_file():
            continue
        new[row.student] = key
        if graded:
            todo.append(row.student)
        else:
            write_atomically(page, _rejected(lab, row))
    with Gradebook(f"sqlite:///{course.gradebook}?timeout={gradebook.LOCK_SECONDS}"):
        pass  # nbgrader adds its default course when it first looks; several at once would collide
    failed = {}
    with ProcessPoolExecutor(max(1, jobs)) as pool:
        for done, (student, error) in enumerate(pool.map(partial(_convert, course, lab), todo), start=1):
            if error:
                failed[student] = error
            if report:
                report(done, len(todo), student)
    known.update({student: key for student, key in new.items() if student not in failed})
    write_atomically(marks, json.dumps(known, indent=1, sort_keys=True))
    if failed:
        whose = "; ".join(f"{student}: {error}" for student, error in failed.items())
        raise CourseError(f"{len(failed)} of {len(rows)} pages could not be made: {whose}")
    return len(rows), len(new)


def _page(course: Course, lab: str, student: str) -> Path:
    return course.folder("feedback") / student / lab / f"{lab}.html"


def _marks(path: Path, lab: str, student: str) -> str:
    """Everything in the gradebook that a page shows."""
    query = """
        SELECT b.name, g.auto_score, g.manual_score, g.extra_credit, NULL FROM grade g
          JOIN base_cell b ON b.id = g.cell_id JOIN submitted_notebook n ON n.id = g.notebook_id
          JOIN submitted_assignment s ON s.id = n.assignment_id JOIN assignment a ON a.id = s.assignment_id
          WHERE a.name = :lab AND s.student_id = :student
        UNION ALL SELECT b.name, NULL, NULL, NULL, COALESCE(c.manual_comment, c.auto_comment) FROM comment c
          JOIN base_cell b ON b.id = c.cell_id JOIN submitted_notebook n ON n.id = c.notebook_id
          JOIN submitted_assignment s ON s.id = n.assignment_id JOIN assignment a ON a.id = s.assignment_id
          WHERE a.name = :lab AND s.student_id = :student
    """
    return json.dumps(sorted(gradebook.read(path, query, {"lab": lab, "student": student}), key=repr))


def _convert(course: Course, lab: str, student: str) -> tuple[str, str]:
    """Write the page of one student with nbgrader's converter and our template: the student, and what went wrong."""
    from nbgrader.converters import GenerateFeedback
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.preprocessors import GetGrades, NbGraderPreprocessor

    class HideTests(NbGraderPreprocessor):
        def preprocess(self, nb, resources):
            hide_tests(nb)
            return nb, resources

    class Marks(GetGrades):
        """nbgrader's, which takes what nobody has graded for 0 points."""

        def preprocess(self, nb, resources):
            nb, resources = super().preprocess(nb, resources)
            given = [c.metadata.nbgrader for c in nb.cells if "points" in c.metadata.get("nbgrader", {})]
            waiting = sum(meta.points for meta in given if meta.waiting)
            maximum, penalty = sum(meta.points for meta in given), resources["nbgrader"]["late_penalty"]
            score = max(0.0, resources["nbgrader"]["score"])
            total = {"score": score, "graded": maximum - waiting, "waiting": waiting, "maximum": maximum}
            return nb, {**resources, "marks": {**total, "penalty": penalty}, "head": head(lab, "feedback/feedback.css")}

        def _get_score(self, cell, resources):
            super()._get_score(cell, resources)
            meta = cell.metadata.nbgrader
            grade = self.gradebook.find_grade(meta["grade_id"], self.notebook_id, self.assignment_id, self.student_id)
            meta["waiting"] = grade.auto_score is None and grade.manual_score is None

    config = Config(course.config)
    config.CourseDirectory.root = str(course.root)
    config.GenerateFeedback.preprocessors = [HideTests, Marks]
    config.HTMLExporter.template_name = "feedback"
    config.HTMLExporter.extra_template_basedirs = [str(PAGES)]
    config.HTMLExporter.sanitize_html = True  # what a student wrote is shown, not run
    filters = {"markdown2html": markdown2html, "clean_html": clean_html, "ansi2html": _plain, "points": number}
    config.HTMLExporter.filters = filters
    coursedir = CourseDirectory(config=config, assignment_id=lab, student_id=student, notebook_id=lab)
    converter = GenerateFeedback(coursedir=coursedir, config=config)
    converter.force = True
    try:
        start(converter)
    except RuntimeError as error:
        return student, str(error)
    page = _page(course, lab, student)
    write_atomically(page, render_formulas(page.read_text(encoding="utf-8")))
    return student, ""


def _plain(text: str) -> str:
    """What a cell printed, without the colours of a terminal: they are made for one background."""
    return html.escape(strip_ansi(text))


def _rejected(lab: str, row: Row) -> str:
    text = html.escape(f"{row.reason[:1].upper()}{row.reason[1:]}.")
    return (
        f'<!doctype html>\n<html lang="en"><head>{head(lab)}</head><body><h1>{html.escape(lab)}</h1>'
        f"<p>This submission could not be graded.</p><p><strong>{text}</strong></p></body></html>\n"
    )
