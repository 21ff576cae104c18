"""Nothing is lost and nothing is done twice, whatever happens to the runner."""

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import bench
import pytest
from nbformat.v4 import new_code_cell

from coursekit.grading import gradebook
from coursekit.grading.account import exit_code, read_grades
from coursekit.grading.course import Course
from coursekit.grading.files import lock
from coursekit.grading.runner import Runner
from coursekit.grading.workshop import Workshop, lost


def hand_in(course: Course, lab, student: str, notebook) -> None:
    bench.write(course.root / "submitted" / student / lab.name, lab, notebook)


def some_class(course: Course, lab, count: int = 6) -> None:
    """Right, blank and half-right submissions, and one that cannot be read."""
    for number in range(count):
        notebook = lab.right() if number % 3 else lab.blank()
        if number % 3 == 2:
            notebook.cells[lab.where(notebook, "q2")].source = "def mean(values): return 0"
        hand_in(course, lab, f"s{number}", notebook)
    folder = course.root / "submitted" / "unreadable" / lab.name
    folder.mkdir(parents=True)
    (folder / f"{lab.name}.ipynb").write_text("{")


def autograde(course: Course, *options: str, lab="tiny", **more) -> subprocess.Popen:
    command = [sys.executable, "-m", "coursekit.cli", "autograde", lab, "--course", str(course.root)]
    return subprocess.Popen(
        [*command, "--kit", str(course.kit), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def history(course: Course) -> list[dict]:
    path = course.work / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def records(course: Course) -> list[tuple]:
    """Everything the gradebook says about grades, without its random ids."""
    connection = sqlite3.connect(course.gradebook)
    query = """SELECT s.student_id, c.name, g.auto_score, g.manual_score, g.needs_manual_grade FROM grade g
        JOIN base_cell c ON c.id = g.cell_id JOIN submitted_notebook n ON n.id = g.notebook_id
        JOIN submitted_assignment s ON s.id = n.assignment_id ORDER BY 1, 2"""
    rows = connection.execute(query).fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return rows


def grades(course: Course) -> str:
    return (course.root / "grades" / "tiny.csv").read_text()


def test_a_run_and_a_second_one_that_has_nothing_to_do(course, lab, level):
    some_class(course, lab)
    code, said = finish(autograde(course))
    assert code == 0, said
    rows = {row.student: row for row in read_grades(course.root / "grades" / "tiny.csv")}
    assert [rows[f"s{k}"].score for k in range(6)] == [0, 10, 7, 0, 10, 7]
    assert all(rows[f"s{k}"].max_score == 14 and rows[f"s{k}"].reason == "" for k in range(6))
    assert rows["unreadable"].status == "rejected" and "breaks off" in rows["unreadable"].reason
    attempts, before = history(course), (grades(course), records(course))
    assert len(attempts) == 7 and {a["level"] for a in attempts} == {level.name}
    assert finish(autograde(course))[0] == 0
    assert history(course) == attempts
    assert (grades(course), records(course)) == before


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_undisturbed(kit, lab, tmp_path):
    undisturbed, course = Course.open(tmp_path / "one", kit), Course.open(tmp_path / "two", kit)
    for one in (undisturbed, course):
        some_class(one, lab, 8)
    began = time.monotonic()
    assert finish(autograde(undisturbed, "--jobs", "2"))[0] == 0
    whole = time.monotonic() - began
    moments = random.Random(20)
    for _ in range(20):
        process = autograde(course, "--jobs", "2")
        time.sleep(moments.uniform(0.3, 1.0) * whole)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for line in history(course):
            assert line["student"].startswith(("s", "unreadable"))
        if moments.random() < 0.3:  # somebody hands in again between two runs
            hand_in(course, lab, "s1", lab.right())
    code, said = finish(autograde(course, "--jobs", "2"))
    assert code == 0, said
    assert grades(course) == grades(undisturbed)
    assert records(course) == records(undisturbed)
    students = [row[0] for row in csv.reader(grades(course).splitlines())]
    assert len(students) == len(set(students)) == 10
    for number in range(8):
        path = course.root / "autograded" / f"s{number}" / "tiny" / "tiny.ipynb"
        assert '"outputs"' in path.read_text()
    deadline = time.monotonic() + 10
    while (left := leftovers(course)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def leftovers(course: Course) -> list[str]:
    shown = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    return [line for line in shown.splitlines() if str(course.root) in line]


def test_terminated_it_leaves_no_process_and_no_scratch_folder(course, lab):
    notebook = lab.right()
    notebook.cells.insert(0, new_code_cell("while True:\n    pass"))
    hand_in(course, lab, "slow", notebook)
    before = set(Path("/tmp").glob("ck-*"))
    process = autograde(course)
    deadline = time.monotonic() + 60
    while not (new := set(Path("/tmp").glob("ck-*/g*")) - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert new
    process.terminate()
    process.communicate()
    while set(Path("/tmp").glob("ck-*")) - before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not set(Path("/tmp").glob("ck-*")) - before


def test_a_second_runner_refuses(course, lab):
    hand_in(course, lab, "anna", lab.right())
    with lock(course.work / "lock"):
        code, said = finish(autograde(course))
    assert code == 1 and f"process {os.getpid()}" in said


def test_a_locked_gradebook_is_waited_for(course, lab):
    hand_in(course, lab, "anna", lab.right())
    gradebook.create(course.gradebook)
    connection = sqlite3.connect(course.gradebook, check_same_thread=False, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    threading.Timer(12, connection.rollback).start()  # longer than sqlite's own patience of 5 s
    code, said = finish(autograde(course))
    connection.close()
    assert code == 0, said


def test_marks_by_hand_survive_a_new_submission_and_ask_to_be_looked_at(course, lab):
    hand_in(course, lab, "anna", lab.right())
    assert finish(autograde(course))[0] == 0
    with sqlite3.connect(course.gradebook) as connection:
        connection.execute(
            "UPDATE grade SET manual_score = 3, needs_manual_grade = 0 WHERE cell_id IN "
            "(SELECT id FROM base_cell WHERE name = 'q4')"
        )
    connection.close()
    assert finish(autograde(course))[0] == 0  # nothing new: nothing asks
    assert read_grades(course.root / "grades" / "tiny.csv")[0].score == 13
    notebook = lab.right()
    notebook.cells.append(new_code_cell("'a new version'"))
    hand_in(course, lab, "anna", notebook)
    code, said = finish(autograde(course))
    row = read_grades(course.root / "grades" / "tiny.csv")[0]
    assert code == 2, said
    assert (row.status, row.score) == ("review", 13) and "q4" in row.reason
    with sqlite3.connect(course.gradebook) as connection:  # as the formgrader does when somebody has looked
        connection.execute("UPDATE submitted_notebook SET flagged = 0")
    connection.close()
    assert finish(autograde(course))[0] == 0
    assert read_grades(course.root / "grades" / "tiny.csv")[0].status == "graded"


@pytest.mark.slow
def test_one_job_or_eight_give_the_same_grades(kit, lab, tmp_path):
    found = []
    for jobs in ("1", "8"):
        course = Course.open(tmp_path / jobs, kit)
        some_class(course, lab, 9)
        assert finish(autograde(course, "--jobs", jobs))[0] == 0
        found.append((grades(course), records(course)))
    assert found[0] == found[1]


def test_nothing_of_one_student_reaches_the_next(course, lab, level):
    spoil = (
        "import builtins, os, sys, random, numpy\nbuiltins.spoiled = True\nnumpy.spoiled = True\nsys.spoiled = True\n"
        "os.environ['SPOILED'] = '1'\nopen('/tmp/spoiled', 'w').close()\nopen('spoiled', 'w').close()\nrandom.seed(0)"
    )
    look = (
        "import builtins, os, sys, numpy\nprint('FOUND', hasattr(builtins, 'spoiled'), hasattr(numpy, 'spoiled'), "
        "hasattr(sys, 'spoiled'), 'SPOILED' in os.environ, os.path.exists('/tmp/spoiled'), os.path.exists('spoiled'))"
    )
    for student, source in (("a", spoil), ("b", look)):
        notebook = lab.right()
        notebook.cells.insert(0, new_code_cell(source))
        hand_in(course, lab, student, notebook)
    assert finish(autograde(course, "--jobs", "1"))[0] == 0
    text = (course.root / "autograded" / "b" / "tiny" / "tiny.ipynb").read_text()
    assert "FOUND False False False False False False" in text


class Scripted(Workshop):
    """A pool whose first answers are given beforehand."""

    def __init__(self, *args, answers, **options):
        super().__init__(*args, **options)
        self.answers = answers

    def finished(self, running, *, wait=1.0):
        return [(job, self.answers.pop(0) if self.answers else result) for job, result in super().finished(running)]


@pytest.mark.parametrize(
    ("answers", "attempts", "status"),
    [
        ([lost("the machine was tired")], 2, "graded"),
        ([lost("tired")] * 3, 3, "review"),
        ([{"status": "graded", "starved": True, "ours": False, "wall_s": 1.0}], 2, "graded"),
    ],
)
def test_our_failures_and_starved_cells_are_tried_again(course, lab, level, answers, attempts, status):
    hand_in(course, lab, "anna", lab.right())

    def pool():
        return Scripted(lab.bundle, course.limits, level, answers=list(answers))

    rows = Runner(course, lab.bundle, course.limits, pool).run(course.root / "submitted")
    assert len(history(course)) == attempts
    assert rows[0].status == status and exit_code(rows) == (0 if status == "graded" else 2)
    if status == "review":  # the next run does not take our failure for a result
        rows = Runner(course, lab.bundle, course.limits, pool_of(lab, course, level)).run(course.root / "submitted")
        assert (rows[0].status, rows[0].score) == ("graded", 10)


def pool_of(lab, course, level):
    return lambda: Workshop(lab.bundle, course.limits, level)


def test_a_machine_without_a_sandbox_is_refused_unless_allowed(course, lab):
    hand_in(course, lab, "anna", lab.right())
    env = {**os.environ, "PATH": "/nowhere"}
    code, said = finish(autograde(course, env=env))
    assert code == 1 and "no sandbox" in said and "--allow-unsandboxed" in said
    code, said = finish(autograde(course, "--allow-unsandboxed", env=env))
    assert code == 0 and "UNSANDBOXED" in said, said
    assert history(course)[-1]["level"] == "D"
    assert read_grades(course.root / "grades" / "tiny.csv")[0].score == 10
