"""Many machines: a scheduler and two workers as processes of their own, one of them killed in the middle."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from nbformat.v4 import new_code_cell
from test_runner import autograde, finish, grades, hand_in, history, records

from coursekit.grading.course import Course

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


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


@pytest.mark.slow
def test_a_cluster_grades_as_one_machine_does_and_survives_a_lost_worker(kit, lab, tmp_path):
    local, far = Course.open(tmp_path / "local", kit), Course.open(tmp_path / "far", kit)
    for course in (local, far):
        for number in range(8):
            notebook = lab.right() if number % 2 else lab.blank()
            notebook.cells.append(new_code_cell("import time\ntime.sleep(0.5)"))
            hand_in(course, lab, f"s{number}", notebook)
    assert finish(autograde(local))[0] == 0
    with Cluster() as cluster:
        process = autograde(far, "--cluster", cluster.address)
        deadline = time.monotonic() + 120
        while len(history(far)) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        cluster.workers[0].send_signal(signal.SIGKILL)
        code, said = finish(process)
    assert code == 0, said
    assert grades(far) == grades(local)
    assert records(far) == records(local)
    assert {record.get("level") for record in history(far) if not record["ours"]} <= {"A", "B"}
