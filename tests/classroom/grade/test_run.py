"""Nothing is lost and nothing is done twice, whatever happens to the runner."""

import contextlib
import csv
import io
import json
import multiprocessing
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import bench
import pytest
from nbformat.v4 import new_code_cell

from coursekit import cli
from coursekit.classroom.grade.local import Workshop, lost
from coursekit.classroom.grade.run import Runner
from coursekit.classroom.records import gradebook
from coursekit.classroom.records.course import Course
from coursekit.classroom.records.files import lock
from coursekit.classroom.records.grades import exit_code, read_grades


def hand_in(course: Course, lab, student: str, notebook) -> None:
    bench.write(course.root / "submitted" / student / lab.name, lab, notebook)


def some_class(course: Course, lab, count: int = 6) -> None:
    """Right, blank and half-right submissions, and one that cannot be read."""
    for number in range(count):
        notebook = lab.right() if number % 3 else lab.blank()
        if number % 3 == 2:
            notebook.cells[lab.where(notebook, "q2")].source = "import numpy as np\ndef mean(values): return 0"
        hand_in(course, lab, f"s{number}", notebook)
    folder = course.root / "submitted" / "unreadable" / lab.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{lab.name}.ipynb").write_text("{")


def command(course: Course, *options: str) -> list[str]:
    return ["autograde", "tiny", "--course", str(course.root), "--kit", str(course.kit), *options]


def autograde(course: Course, *options: str) -> tuple[int, str]:
    """The command, run in this process: its exit code and what it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cli.main(command(course, *options))
    return code, said.getvalue()


def start(course: Course, *options: str) -> subprocess.Popen:
    """The command in a process of its own, as an instructor starts it."""
    whole = [sys.executable, "-m", "coursekit.cli", *command(course, *options)]
    return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


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


def test_a_run_and_a_second_one_that_has_nothing_to_do(kit, lab, level, tmp_path):
    course = Course.open(tmp_path, kit)
    some_class(course, lab)
    code, said = finish(start(course))
    assert code == 0, said
    rows = {row.student: row for row in read_grades(course.root / "grades" / "tiny.csv")}
    assert [rows[f"s{k}"].score for k in range(6)] == [0, 10, 7, 0, 10, 7]
    assert all(rows[f"s{k}"].max_score == 14 and rows[f"s{k}"].reason == "" for k in range(6))
    assert rows["unreadable"].status == "rejected" and "breaks off" in rows["unreadable"].reason
    attempts, before = history(course), (grades(course), records(course))
    assert len(attempts) == 7 and {a["level"] for a in attempts} == {level.name}
    assert autograde(course)[0] == 0
    assert history(course) == attempts
    assert (grades(course), records(course)) == before


def test_grades_come_in_the_same_order_however_many_runs_they_took(course, lab):
    for student in ("berta", "anna"):
        hand_in(course, lab, student, lab.blank())
        assert autograde(course)[0] == 0
    assert [row.student for row in read_grades(course.root / "grades" / "tiny.csv")] == ["anna", "berta"]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_undisturbed(new_course, lab, tmp_path):
    undisturbed, course = new_course(tmp_path / "one"), new_course(tmp_path / "two")
    for one in (undisturbed, course):
        some_class(one, lab, 8)
    began = time.monotonic()
    assert autograde(undisturbed, "--jobs", "2")[0] == 0
    whole = time.monotonic() - began
    processes = multiprocessing.get_context("forkserver")  # each killed run is a process; it imports nothing anew
    processes.set_forkserver_preload(
        ["coursekit.classroom.commands.autograde", "coursekit.classroom.grade.run", "nbgrader.api"]
    )
    moments = random.Random(20)
    for turn in range(20):
        process = processes.Process(target=cli.main, args=(command(course, "--jobs", "2"),))
        process.start()
        while process.is_alive() and f"process {process.pid}," not in holder(course):
            time.sleep(0.01)
        process.join(moments.uniform(0.0, whole))
        process.kill()
        process.join()
        for line in history(course):
            assert line["student"].startswith(("s", "unreadable"))
        for student in moments.sample(range(8), 3):  # some hand in again between two runs
            notebook = lab.right()
            notebook.cells.append(new_code_cell(f"{turn}"))
            hand_in(course, lab, f"s{student}", notebook)
    some_class(course, lab, 8)
    code, said = autograde(course, "--jobs", "2")
    assert code == 0, said
    assert grades(course) == grades(undisturbed)
    assert records(course) == records(undisturbed)
    students = [row[0] for row in csv.reader(grades(course).splitlines())]
    assert len(students) == len(set(students)) == 10
    for number in range(8):
        path = course.root / "autograded" / f"s{number}" / "tiny" / "tiny.ipynb"
        assert '"outputs"' in path.read_text()
    deadline = time.monotonic() + 60
    while (left := bench.running(str(course.root))) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def holder(course: Course) -> str:
    """Who holds the lock of the course, or held it last."""
    path = course.work / "lock"
    return path.read_text() if path.is_file() else ""


@pytest.mark.slow
def test_terminated_it_leaves_no_process_and_no_scratch_folder(course, lab):
    notebook = lab.right()
    notebook.cells.insert(0, new_code_cell("while True:\n    pass"))
    hand_in(course, lab, "slow", notebook)
    process = start(course)
    deadline = time.monotonic() + 300
    while not ((folder := scratch(course)) and list(folder.glob("g*"))):
        time.sleep(0.1)
        assert process.poll() is None, f"it ended before it could be terminated: {process.communicate()[0]}"
        assert time.monotonic() < deadline, f"nothing is being graded; its processes: {bench.running(str(course.root))}"
    process.terminate()
    process.communicate()
    while (folder.exists() or bench.running(str(folder))) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not folder.exists() and bench.running(str(folder)) == []


def scratch(course: Course) -> Path | None:
    """The scratch folder of a run, which a helper process names on its command line beside the course."""
    found = re.search(r"/tmp/ck-\w+", "\n".join(bench.running(str(course.root))))
    return Path(found[0]) if found else None


def test_a_second_runner_refuses(course, lab):
    hand_in(course, lab, "anna", lab.right())
    with lock(course.work / "lock"):
        code, said = autograde(course)
    assert code == 1 and f"process {os.getpid()}" in said


@pytest.mark.slow
def test_a_locked_gradebook_is_waited_for(course, lab):
    hand_in(course, lab, "anna", lab.right())
    gradebook.create(course.gradebook)
    connection = sqlite3.connect(course.gradebook, check_same_thread=False, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    threading.Timer(8, connection.rollback).start()  # longer than sqlite's own patience of 5 s
    code, said = autograde(course)
    connection.close()
    assert code == 0, said


def test_marks_by_hand_survive_a_new_submission_and_ask_to_be_looked_at(course, lab):
    hand_in(course, lab, "anna", lab.right())
    assert autograde(course)[0] == 0
    with sqlite3.connect(course.gradebook) as connection:
        connection.execute(
            "UPDATE grade SET manual_score = 3, needs_manual_grade = 0 WHERE cell_id IN "
            "(SELECT id FROM base_cell WHERE name = 'q4')"
        )
    connection.close()
    assert autograde(course)[0] == 0  # nothing new: nothing asks
    assert read_grades(course.root / "grades" / "tiny.csv")[0].score == 13
    notebook = lab.right()
    notebook.cells.append(new_code_cell("'a new version'"))
    hand_in(course, lab, "anna", notebook)
    code, said = autograde(course)
    row = read_grades(course.root / "grades" / "tiny.csv")[0]
    assert code == 2, said
    assert (row.status, row.score) == ("review", 13) and "q4" in row.reason
    with sqlite3.connect(course.gradebook) as connection:  # as the formgrader does when somebody has looked
        connection.execute("UPDATE submitted_notebook SET flagged = 0")
    connection.close()
    assert autograde(course)[0] == 0
    assert read_grades(course.root / "grades" / "tiny.csv")[0].status == "graded"


@pytest.mark.slow
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
    assert autograde(course, "--jobs", "1")[0] == 0
    text = (course.root / "autograded" / "b" / "tiny" / "tiny.ipynb").read_text()
    assert "FOUND False False False False False False" in text


@pytest.fixture(scope="module")
def workshop(lab, kit, level, tmp_path_factory):
    limits = Course.open(tmp_path_factory.mktemp("limits"), kit).limits
    with Workshop(lab.bundle, limits, level) as opened:
        yield opened


class Scripted:
    """A pool whose first answers are given beforehand."""

    capacity = 1

    def __init__(self, workshop: Workshop, answers: list[dict]):
        self.workshop, self.answers = workshop, answers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, task, key):
        return self.workshop.submit(task, key)

    def finished(self, running):
        return [
            (job, self.answers.pop(0) if self.answers else result) for job, result in self.workshop.finished(running)
        ]


@pytest.mark.parametrize(
    ("answers", "attempts", "status"),
    [
        ([lost("the machine was tired")], 2, "graded"),
        ([lost("tired")] * 3, 3, "review"),
        ([{"status": "graded", "starved": True, "ours": False, "wall_s": 1.0}], 2, "graded"),
    ],
)
def test_our_failures_and_starved_cells_are_tried_again(course, lab, workshop, answers, attempts, status):
    hand_in(course, lab, "anna", lab.right())

    def run(answers):
        runner = Runner(course, lab.bundle, course.limits, lambda: Scripted(workshop, answers))
        return runner.run(course.root / "submitted")

    rows = run(list(answers))
    assert len(history(course)) == attempts
    assert rows[0].status == status and exit_code(rows) == (0 if status == "graded" else 2)
    if status == "review":  # the next run does not take our failure for a result
        rows = run([])
        assert (rows[0].status, rows[0].score) == ("graded", 10)


@pytest.mark.slow
def test_a_machine_without_a_sandbox_is_refused_unless_allowed(course, lab, monkeypatch):
    hand_in(course, lab, "anna", lab.right())
    monkeypatch.setenv("PATH", "/nowhere")
    code, said = autograde(course)
    assert code == 1 and "no sandbox" in said and "--allow-unsandboxed" in said
    code, said = autograde(course, "--allow-unsandboxed")
    assert code == 0 and "UNSANDBOXED" in said, said
    assert history(course)[-1]["level"] == "D"
    assert read_grades(course.root / "grades" / "tiny.csv")[0].score == 10
