"""The one writer of nbgrader's gradebook: a result and everything it says about a student in one transaction."""

import json
import sqlite3
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from .course import CourseError, Student
from .database import new_database
from .files import digest

LOCK_SECONDS = 300  # how long an import waits for somebody else who writes


@contextmanager
def transaction(path: Path):
    """A session on the gradebook that is committed as a whole at its end, or not at all."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": LOCK_SECONDS})

    @event.listens_for(engine, "connect")
    def _no_implicit_begin(connection, _):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # wait for the lock at the start, never in the middle

    try:
        with Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


def create(path: Path, course_id: str = "") -> None:
    """Make the gradebook if there is none, and the table that remembers what was imported."""
    if not path.exists():
        new_database(path, course_id)
    with sqlite3.connect(path, timeout=LOCK_SECONDS) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS coursekit_import (student TEXT, lab TEXT, key TEXT NOT NULL, "
            "notebook TEXT, status TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (student, lab))"
        )
    connection.close()


def sync_lab(path: Path, bundle, course_id: str = "") -> None:
    """Record the lab in the gradebook as nbgrader would; an answer that exists never loses its cell."""
    from nbgrader import api

    with api.Gradebook(f"sqlite:///{path}?timeout={LOCK_SECONDS}", course_id) as gradebook:
        gradebook.update_or_create_assignment(bundle.lab)
    with transaction(path) as session:
        lab = session.query(api.Assignment).filter_by(name=bundle.lab).one()
        notebook = next((n for n in lab.notebooks if n.name == bundle.lab), None)
        if notebook is None:
            kernel = json.dumps({"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"})
            notebook = api.Notebook(name=bundle.lab, kernelspec=kernel)
            lab.notebooks.append(notebook)
            session.flush()
        there = {(c.type, c.name): c for c in notebook._base_cells}
        wanted = {}
        for cell in bundle.cells:
            if cell.kind in ("test", "manual"):
                wanted["GradeCell", cell.grade_id] = cell
            if cell.kind in ("solution", "manual"):
                wanted["SolutionCell", cell.grade_id] = cell
        changed = sorted({name for _, name in set(there) ^ set(wanted)})
        if there and changed and notebook.submissions:
            raise CourseError(
                f"{bundle.lab} has other cells than when its first submissions were graded ({', '.join(changed)}); "
                "take the change back, or move gradebook.db away and grade the lab anew"
            )
        for gone in set(there) - set(wanted):
            session.delete(there[gone])
        for (kind, name), cell in wanted.items():
            more = {"max_score": cell.points, "cell_type": cell.cell_type} if kind == "GradeCell" else {}
            record = there.get((kind, name))
            if record is None:
                session.add(getattr(api, kind)(name=name, notebook_id=notebook.id, **more))
            for attribute, value in more.items():
                if record is not None and getattr(record, attribute) != value:
                    setattr(record, attribute, value)
        sources = {c.name: c for c in notebook.source_cells}
        for cell in bundle.cells:
            record = sources.get(cell.grade_id) or api.SourceCell(name=cell.grade_id, notebook_id=notebook.id)
            record.cell_type, record.source = cell.cell_type, cell.source
            record.locked, record.checksum = bool(cell.metadata["locked"]), cell.metadata["checksum"]
            session.add(record)


def read(path: Path, query: str, values: tuple | dict = ()) -> list[tuple]:
    """The rows of a query on the gradebook, which must be there."""
    if not path.is_file():
        raise CourseError(f"there is no gradebook {path}; run `coursekit autograde` first")
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def imported(path: Path, lab: str) -> dict[str, tuple[str, str | None, str, str]]:
    """student -> (key, digest of the graded notebook, status, reason) of everything that was imported for a lab."""
    query = (
        "SELECT i.student, i.key, i.notebook, i.status, i.reason FROM coursekit_import i WHERE i.lab = ? AND "
        "(i.notebook IS NULL OR EXISTS (SELECT 1 FROM submitted_assignment s JOIN assignment a ON a.id = "
        "s.assignment_id WHERE a.name = i.lab AND s.student_id = i.student))"
    )
    return {row[0]: tuple(row[1:]) for row in read(path, query, (lab,))}


def import_result(path: Path, student: Student, bundle, key: str, result: dict, timestamp: str | None) -> None:
    """Write one result. Marks given by hand stay, and ask to be looked at again."""
    status, reason = result["status"], result["reason"]
    notebook_digest = None
    with transaction(path) as session:
        _remember_student(session, student)
        if "notebook" in result:
            notebook_digest = digest(result["notebook"])
            kept = _write_scores(session, student.id, bundle, result, timestamp)
            if kept:  # the submission is flagged too; who has looked takes the flag away in the formgrader
                status = "review"
                again = f"graded anew after these were marked by hand, look at them again: {', '.join(kept)}"
                reason = "; ".join(filter(None, (reason, again)))
        session.execute(
            text("INSERT OR REPLACE INTO coursekit_import VALUES (:s, :l, :k, :n, :status, :reason)"),
            {"s": student.id, "l": bundle.lab, "k": key, "n": notebook_digest, "status": status, "reason": reason},
        )


def _remember_student(session, student: Student) -> None:
    from nbgrader import api

    record = session.get(api.Student, student.id)
    if record is None:
        record = api.Student(id=student.id)
        session.add(record)
    for ours, theirs in (("first_name",) * 2, ("last_name",) * 2, ("email",) * 2, ("lms_id", "lms_user_id")):
        if getattr(student, ours):
            setattr(record, theirs, getattr(student, ours))


def _write_scores(session, student: str, bundle, result: dict, timestamp: str | None) -> list[str]:
    """Scores of a submission into its rows; the cells whose marks by hand stay and should be looked at again."""
    from nbgrader import api

    lab = session.query(api.Assignment).filter_by(name=bundle.lab).one()
    notebook = next(n for n in lab.notebooks if n.name == bundle.lab)
    found = session.query(api.SubmittedAssignment).filter_by(assignment_id=lab.id, student_id=student)
    submission = found.one_or_none()
    if submission is None:
        submission = api.SubmittedAssignment(assignment_id=lab.id, student_id=student)
        session.add(submission)
    submission.timestamp = datetime.fromisoformat(timestamp) if timestamp else None
    paper = next((n for n in submission.notebooks if n.notebook_id == notebook.id), None)
    if paper is None:
        paper = api.SubmittedNotebook(notebook_id=notebook.id)
        submission.notebooks.append(paper)
    session.flush()
    grades = {g.cell_id: g for g in paper.grades}
    comments = {c.cell_id: c for c in paper.comments}
    kept = []
    for cell in notebook.grade_cells:
        score = result["cells"][cell.name]
        grade = grades.get(cell.id) or api.Grade(cell_id=cell.id, notebook_id=paper.id)
        session.add(grade)
        grade.auto_score = score["auto"]
        by_hand = grade.manual_score is not None
        grade.needs_manual_grade = by_hand or score["auto"] is None
        if by_hand:
            kept.append(cell.name)
    paper.flagged = bool(result["flags"] or kept)
    for cell in notebook.solution_cells:
        comment = comments.get(cell.id) or api.Comment(cell_id=cell.id, notebook_id=paper.id)
        comment.auto_comment = result["comments"].get(cell.name)
        session.add(comment)
    return kept


def flagged(path: Path, lab: str) -> set[str]:
    """Students whose submission has a flag: set when it was put in review, taken away in the formgrader."""
    query = """SELECT s.student_id FROM submitted_assignment s JOIN assignment a ON a.id = s.assignment_id
        JOIN submitted_notebook n ON n.assignment_id = s.id WHERE a.name = ? AND n.flagged"""
    return {row[0] for row in read(path, query, (lab,))}


def scores(path: Path, lab: str) -> dict[str, tuple[float, float, bool]]:
    """student -> (score, maximum, whether something waits for marks by hand); marks by hand and extras counted."""
    query = """
        SELECT s.student_id, SUM(COALESCE(g.manual_score, g.auto_score, 0) +
          CASE WHEN g.manual_score IS NULL AND g.auto_score IS NULL THEN 0 ELSE COALESCE(g.extra_credit, 0) END),
          SUM(c.max_score), MAX(g.needs_manual_grade), COALESCE(n.late_submission_penalty, 0)
        FROM submitted_assignment s JOIN assignment a ON a.id = s.assignment_id
        JOIN submitted_notebook n ON n.assignment_id = s.id JOIN grade g ON g.notebook_id = n.id
        JOIN grade_cells c ON c.id = g.cell_id WHERE a.name = ? GROUP BY s.id
    """
    return {r[0]: (max(0.0, r[1] - r[4]), r[2], bool(r[3])) for r in read(path, query, (lab,))}


def students(path: Path) -> list[Student]:
    """Every student in the gradebook."""
    if not path.exists():
        return []
    rows = read(path, "SELECT id, first_name, last_name, email, lms_user_id FROM student ORDER BY id")
    return [Student(*(value or "" for value in row)) for row in rows]
