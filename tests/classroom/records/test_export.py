"""Grades arrive where they are needed as they were meant."""

import csv
import io
import sqlite3

import pytest

from coursekit.classroom.records import export, gradebook, grades
from coursekit.classroom.records.course import Course, CourseError, read_roster
from coursekit.classroom.records.grades import Row

ROSTER = 'student,first_name,last_name,email,lms_id\nzoe,Zoë,"O, Neil",zoe@x.org,77\n"d\'été","Ann ""A""",Müller,,\nbob,,,,\n'


@pytest.fixture
def graded(course):
    """A course with three labs' grades, without a gradebook behind them."""
    (course.root / "roster.csv").write_text(ROSTER, encoding="utf-8")
    rows = [
        Row("zoe", "graded", 7.5, 10, ""),
        Row("d'été", "review", 10, 10, 'odd: a "quote", a comma'),
        Row("bob", "missing", reason="nothing was handed in"),
    ]
    grades.write_grades(course.root / "grades" / "lab_a.csv", rows)
    rows = [Row("zoe", "graded", 5, 10), Row("d'été", "graded", 0, 10), Row("bob", "graded", 10, 10)]
    grades.write_grades(course.root / "grades" / "lab_b.csv", rows)
    return course


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_grades_round_trip(graded):
    path = graded.root / "grades" / "lab_a.csv"
    rows = grades.read_grades(path)
    grades.write_grades(path, rows)
    assert grades.read_grades(path) == rows
    assert rows[1].reason == 'odd: a "quote", a comma'
    assert path.read_text().splitlines()[0] == "student,status,score,max_score,reason"


def test_names_with_commas_accents_and_quotes_round_trip(graded):
    for form in export.FORMATS:
        cells = {cell for row in table(export.export_lab(graded, "lab_a", form)) for cell in row}
        assert any("O, Neil" in cell for cell in cells)
        assert any('Ann "A"' in cell for cell in cells) and any("Zoë" in cell for cell in cells)
        assert len({len(row) for row in table(export.export_lab(graded, "lab_a", form))}) == 1


def test_formats_have_what_their_systems_ask_for(graded):
    moodle = table(export.export_lab(graded, "lab_a", "moodle"))
    assert moodle[0][:5] == ["ID number", "First name", "Last name", "Email address", "lab_a"]
    assert moodle[1][0] == "77" and moodle[1][4] == "7.5" and moodle[3][4] == ""
    canvas = table(export.export_lab(graded, "lab_a", "canvas"))
    assert canvas[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "lab_a"]
    assert canvas[1][0].strip() == "Points Possible" and canvas[1][5] == "10"
    assert canvas[2][0] == "O, Neil, Zoë"
    with pytest.raises(CourseError, match="no format 'xml'"):
        export.export_lab(graded, "lab_a", "xml")
    with pytest.raises(CourseError, match="autograde"):
        export.export_lab(graded, "lab_c", "csv")


def test_the_course_grade_is_the_weighted_mean_and_names_what_is_missing(graded, tmp_path):
    exam = tmp_path / "exam.csv"
    exam.write_text("student,exam,exam_max\nzoe,30,40\nd'été,,40\nbob,40,40\n", encoding="utf-8-sig")
    finals = {f.student: f for f in export.final_grades(graded, exam)}
    # labs (0.75 + 0.5) / 2, exam 0.75: 20 (0.3 * 0.625 + 0.7 * 0.75)
    assert finals["zoe"].grade == pytest.approx(14.25) and finals["zoe"].missing == ()
    assert finals["d'été"].grade is None and finals["d'été"].missing == ("exam",)
    assert finals["bob"].grade is None and finals["bob"].missing == ("lab_a",)
    zero = {f.student: f for f in export.final_grades(graded, exam, missing_as_zero=True)}
    assert zero["bob"].grade == pytest.approx(20 * (0.3 * 0.5 + 0.7 * 1.0))
    lines = table(export.final_table(graded, list(finals.values())))
    assert lines[0] == ["student", "first_name", "last_name", "labs", "exam", "grade", "missing"]
    assert ["zoe", "Zoë", "O, Neil", "12.50", "15.00", "14.25", ""] in lines


@pytest.mark.parametrize(
    ("text", "word"),
    [("name,mark\na,1\n", "columns student and exam"), ("student,exam\na,21\n", "expected 0 to 20"),
     ("student,exam\na,good\n", "no number")],
)  # fmt: skip
def test_marks_of_an_exam_that_cannot_be_are_refused(graded, tmp_path, text, word):
    exam = tmp_path / "exam.csv"
    exam.write_text(text)
    with pytest.raises(CourseError, match=word):
        export.final_grades(graded, exam)


def test_weights_must_add_up(graded, tmp_path):
    (tmp_path / "exam.csv").write_text("student,exam\nzoe,10\n")
    graded.config.CourseKit.labs_weight = 0.5
    try:
        with pytest.raises(CourseError, match="add up to 1"):
            export.final_grades(graded, tmp_path / "exam.csv")
    finally:
        graded.config.CourseKit.labs_weight = 0.3


def test_rosters(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes("student;first_name\nzoe;Zoë\n".encode("utf-8-sig"))
    assert read_roster(path)[0].first_name == "Zoë"
    path.write_text("name\nzoe\n")
    with pytest.raises(CourseError, match="no column 'student'"):
        read_roster(path)
    path.write_text("student\nzoe\nzoe\n")
    with pytest.raises(CourseError, match="twice"):
        read_roster(path)
    path.write_bytes("student\nZo\xeb\n".encode("latin-1"))
    with pytest.raises(CourseError, match="not UTF-8"):
        read_roster(path)


def test_a_row_without_a_reason_is_an_error_and_codes_say_what_is_left():
    with pytest.raises(ValueError, match="has a reason"):
        Row("anna", "rejected")
    graded, rejected = Row("a", "graded", 1, 2), Row("b", "rejected", reason="x")
    assert grades.exit_code([graded, rejected]) == 0
    assert grades.exit_code([graded, Row("c", "review", 1, 2, "x")]) == 2
    assert grades.exit_code([graded, Row("c", "missing", reason="x")]) == 3


def test_scores_count_marks_by_hand_and_extra_credit(course):
    connection = sqlite3.connect(course.gradebook)
    connection.executescript("""
        INSERT INTO assignment (id, name, course_id) VALUES ('a', 'lab', 'c');
        INSERT INTO notebook (id, name, assignment_id) VALUES ('n', 'lab', 'a');
        INSERT INTO base_cell (id, name, notebook_id, type) VALUES ('c1', 'q1', 'n', 'GradeCell'), ('c2', 'q2', 'n', 'GradeCell');
        INSERT INTO grade_cells (id, max_score, cell_type) VALUES ('c1', 4, 'code'), ('c2', 6, 'markdown');
        INSERT INTO student (id) VALUES ('s');
        INSERT INTO submitted_assignment (id, assignment_id, student_id) VALUES ('sa', 'a', 's');
        INSERT INTO submitted_notebook (id, assignment_id, notebook_id) VALUES ('sn', 'sa', 'n');
        INSERT INTO grade (id, notebook_id, cell_id, auto_score, manual_score, extra_credit, needs_manual_grade)
            VALUES ('g1', 'sn', 'c1', 4, 2.5, 1, 0), ('g2', 'sn', 'c2', NULL, NULL, NULL, 1);
    """)
    connection.commit()
    connection.close()
    assert gradebook.scores(course.gradebook, "lab") == {"s": (3.5, 10.0, True)}


def test_a_course_says_what_labs_it_has(tmp_path):
    (tmp_path / "solutions" / "lab_x").mkdir(parents=True)
    with pytest.raises(CourseError, match="lab_x"):
        Course.open(tmp_path).source("lab_y")
    with pytest.raises(CourseError, match="no name of a lab"):
        Course.open(tmp_path).source("../x")


def test_a_folder_of_any_name_can_be_written_and_read_again(tmp_path):
    row = Row("bad\udcff\x1b[2J", "rejected", reason="'bad\udcff' is no valid student id")
    grades.write_grades(tmp_path / "lab.csv", [row])
    assert grades.read_grades(tmp_path / "lab.csv") == [row]
    assert grades.summary([row]).isascii() and "\x1b" not in grades.summary([row])


def test_a_course_without_a_gradebook_is_told_so_and_none_is_made(tmp_path):
    grades.write_grades(tmp_path / "grades" / "lab_a.csv", [Row("zoe", "graded", 7.5, 10)])
    with pytest.raises(CourseError, match="coursekit autograde"):
        export.export_lab(Course.open(tmp_path), "lab_a", "csv")
    assert not (tmp_path / "gradebook.db").exists()
