"""Grades where they are needed: a plain table, Moodle, Canvas, and the grade of the whole course."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from . import gradebook
from .course import Course, CourseError, Student, read_roster
from .grades import number, read_grades

FORMATS = ("csv", "moodle", "canvas")


def export_lab(course: Course, lab: str, form: str) -> str:
    """The grades of a lab as CSV text in one of FORMATS; scores are as they stand in the gradebook now."""
    path = course.root / "grades" / f"{lab}.csv"
    if not path.is_file():
        raise CourseError(f"there is no {path}; run `coursekit autograde {lab}` first")
    people, now = known_people(course), gradebook.scores(course.gradebook, lab)
    rows = []
    for row in read_grades(path):
        score, maximum, _ = now.get(row.student, (row.score, row.max_score, False))
        if row.status in ("rejected", "missing"):
            score, maximum = None, None
        rows.append((people.get(row.student, Student(row.student)), row, score, maximum))
    maximum = next((m for _, _, _, m in rows if m), None)
    if form == "csv":
        header = ("student", "first_name", "last_name", "email", "status", "score", "max_score", "reason")
        body = [
            (s.id, s.first_name, s.last_name, s.email, r.status, number(score), number(most), r.reason)
            for s, r, score, most in rows
        ]
    elif form == "moodle":
        header = ("ID number", "First name", "Last name", "Email address", lab, "Feedback comments")
        body = [
            (s.lms_id or s.id, s.first_name, s.last_name, s.email, number(score), r.reason) for s, r, score, _ in rows
        ]
    elif form == "canvas":
        header = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", lab)
        body = [("    Points Possible", "", "", "", "", number(maximum))]
        body += [(_canvas_name(s), s.lms_id, s.id, s.email or s.id, "", number(score)) for s, _, score, _ in rows]
    else:
        raise CourseError(f"there is no format {form!r}; choose one of {', '.join(FORMATS)}")
    return to_csv(header, body)


@dataclass(frozen=True)
class Final:
    """The course grade of one student, or what it lacks."""

    student: str
    labs: float | None
    exam: float | None
    grade: float | None
    missing: tuple[str, ...]


def final_grades(course: Course, exam: Path, *, missing_as_zero: bool = False) -> list[Final]:
    """labs_weight * mean of the labs + exam_weight * exam, each in parts of its maximum, on a scale of final_scale.

    A student with a missing mark has no grade, and the mark is named, unless missing marks count as zero.
    """
    settings = course.settings
    weights = settings.get("labs_weight", 0.3), settings.get("exam_weight", 0.7)
    scale = settings.get("final_scale", 20)
    if abs(sum(weights) - 1) > 1e-9 or min(weights) < 0:
        raise CourseError(f"labs_weight and exam_weight are {weights}; they must add up to 1")
    files = sorted((course.root / "grades").glob("*.csv"))
    if not files:
        raise CourseError(f"there are no grades in {course.root / 'grades'}; run `coursekit autograde` for each lab")
    labs = {f.stem: _parts(course, f) for f in files}
    marks = _read_exam(exam)
    finals = []
    for student in sorted({s for lab in labs.values() for s in lab} | set(marks)):
        parts = {lab: scores.get(student) for lab, scores in labs.items()}
        missing = [lab for lab, part in parts.items() if part is None]
        missing += ["exam"] if marks.get(student) is None else []
        lab_part = sum(p or 0.0 for p in parts.values()) / len(parts)
        exam_part = marks.get(student)
        known = not missing or missing_as_zero
        grade = scale * (weights[0] * lab_part + weights[1] * (exam_part or 0.0)) if known else None
        labs_known = missing_as_zero or not any(m in parts for m in missing)
        exam_shown = scale * exam_part if exam_part is not None else None
        finals.append(Final(student, scale * lab_part if labs_known else None, exam_shown, grade, tuple(missing)))
    return finals


def final_table(course: Course, finals: list[Final]) -> str:
    """The course grades as CSV text, two decimals, names from the roster."""
    people = known_people(course)
    header = ("student", "first_name", "last_name", "labs", "exam", "grade", "missing")
    body = []
    for final in finals:
        who = people.get(final.student, Student(final.student))
        marks = ["" if value is None else f"{value:.2f}" for value in (final.labs, final.exam, final.grade)]
        body.append((final.student, who.first_name, who.last_name, *marks, "; ".join(final.missing)))
    return to_csv(header, body)


def known_people(course: Course) -> dict[str, Student]:
    """Names and addresses by student: from the gradebook, and over them from the roster."""
    people = {s.id: s for s in gradebook.students(course.gradebook)}
    if (course.root / "roster.csv").is_file():
        people |= {s.id: s for s in read_roster(course.root / "roster.csv")}
    return people


def to_csv(header: tuple, body: list[tuple]) -> str:
    """CSV text with every field quoted that needs it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(body)
    return text.getvalue()


def _parts(course: Course, path: Path) -> dict[str, float | None]:
    """student -> score in parts of the maximum; None where there is none."""
    now = gradebook.scores(course.gradebook, path.stem)
    parts = {}
    for row in read_grades(path):
        score, maximum, _ = now.get(row.student, (row.score, row.max_score, False))
        counts = row.status in ("graded", "review") and score is not None and maximum
        parts[row.student] = score / maximum if counts else None
    return parts


def _read_exam(path: Path) -> dict[str, float | None]:
    """student -> exam in parts of its maximum, from a CSV with columns student, exam and perhaps exam_max (else 20)."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except OSError as error:
        raise CourseError(f"the marks of the exam cannot be read: {path}: {error.strerror}") from None
    if not rows or not {"student", "exam"} <= set(rows[0]):
        raise CourseError(f"{path} needs the columns student and exam, and may have exam_max")
    marks = {}
    for row in rows:
        text = (row["exam"] or "").strip()
        try:
            most = float(row.get("exam_max") or 20)
            mark = float(text.replace(",", ".")) if text else None
        except ValueError:
            raise CourseError(f"{path}: the mark of {row['student']} is {text!r}, no number") from None
        if mark is not None and not 0 <= mark <= most:
            raise CourseError(f"{path}: the mark of {row['student']} is {mark:g}, expected 0 to {most:g}")
        marks[row["student"].strip()] = None if mark is None else mark / most
    return marks


def _canvas_name(student: Student) -> str:
    return ", ".join(filter(None, (student.last_name, student.first_name))) or student.id
