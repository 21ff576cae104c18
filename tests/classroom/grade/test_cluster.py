"""One job, eight, or many machines: the same grades. A scheduler and two workers are processes of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pytest
from nbformat.v4 import new_code_cell
from test_run import autograde, finish, grades, hand_in, history, records, some_class, start

from coursekit.classroom.records.course import Course
from coursekit.classroom.records.grades import read_grades

version("distributed")  # the extra `cluster`: without it these tests fail at once
pytestmark = pytest.mark.slow


class Cluster:
    """A Dask scheduler on a free port of this machine, and workers."""

    def __enter__(self):
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        for line in self.scheduler.stderr:
            found = re.search(r"tcp://127\.0\.0\.1:\d+", line)
            if found:
                self.address = found[0]
                break
        self.workers = [self._worker(name) for name in ("one", "two")]
        return self

    def _worker(self, name: str):
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name, "--local-directory", "/tmp")
        return self._start("worker", self.address, *options)

    def _start(self, *command: str):
        # the scheduler's log goes to a pipe that is read until the address comes, the workers' to nowhere
        err = subprocess.PIPE if command[0] == "scheduler" else subprocess.DEVNULL
        whole = [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]]
        env = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60"}
        return subprocess.Popen(whole, stderr=err, stdout=subprocess.DEVNULL, text=True, env=env)

    def __exit__(self, *_):
        for process in (*self.workers, self.scheduler):
            process.terminate()
        for process in (*self.workers, self.scheduler):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def strangers(course: Course, lab) -> None:
    """Right, wrong and blank answers, one that cannot be read, one whose kernel dies, one that cheats, some slow."""
    some_class(course, lab, 6)
    for student, source in (
        ("dies", "import os\nos._exit(0)"),
        ("cheats", "import numpy as np\nnp.testing.assert_allclose = lambda *_, **__: None"),
        *((f"slow{k}", "import time\ntime.sleep(0.5)") for k in range(3)),
    ):
        notebook = lab.right()
        notebook.cells.insert(lab.where(notebook, "q2"), new_code_cell(source))
        hand_in(course, lab, student, notebook)


def outcome(course: Course) -> tuple:
    """The table of grades, which names neither level nor time, and all that the gradebook says."""
    return grades(course), records(course)


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as running:
        yield running


@pytest.fixture(scope="module")
def alone(new_course, lab, tmp_path_factory):
    """What one job makes of the class."""
    course = new_course(tmp_path_factory.mktemp("alone"))
    strangers(course, lab)
    code, said = autograde(course, "--jobs", "1")
    assert code == 2, said  # two are in review
    statuses = {row.student: row.status for row in read_grades(course.root / "grades" / "tiny.csv")}
    assert [s for s in statuses if statuses[s] == "review"] == ["dies"]
    return outcome(course)


def test_eight_jobs_give_the_same_grades_as_one(alone, course, lab):
    strangers(course, lab)
    assert autograde(course, "--jobs", "8")[0] == 2
    assert outcome(course) == alone


def test_a_cluster_gives_the_same_grades_as_one_job(alone, cluster, course, lab):
    strangers(course, lab)
    code, said = finish(start(course, "--cluster", cluster.address))
    assert code == 2, said
    assert outcome(course) == alone
    assert {record["level"] for record in history(course)} <= {"A", "B"}
    assert len(history(course)) == 12  # each of them once


def test_a_worker_that_is_lost_in_the_middle_changes_no_grade(alone, cluster, course, lab):
    strangers(course, lab)
    process = start(course, "--cluster", cluster.address)
    deadline = time.monotonic() + 120
    while len(history(course)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(history(course)) < 12
    cluster.workers[0].send_signal(signal.SIGKILL)
    code, said = finish(process)
    assert code == 2, said
    assert outcome(course) == alone
