"""The grader against submissions that are broken, greedy or hostile (see bench.py)."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bench
import pytest

QUICK = ("a_honest", "untouched", "loop_in_own_cell", "os_exit", "pasted_test", "skip_execution_blank", "truncated")
QUICK += ("link_to_solution", "cheat_ast_transformer", "reads_around", "memory_bit_by_bit", "metadata_gone")


def hold(cases, lab, course, level):
    outcome = bench.run(course, lab, cases, jobs=4, level=level)  # most of the slow ones only wait
    assert outcome.missed == []
    assert outcome.leftovers == []
    assert outcome.after == outcome.before
    return outcome


@pytest.mark.slow
def test_the_commonest_cases(lab, course, level):
    outcome = hold([c for c in bench.all_cases() if c.name in QUICK], lab, course, level)
    assert outcome.rows["never_came"].status == "missing"
    assert outcome.rows["../../x"].status == "rejected"


@pytest.mark.slow
def test_the_whole_bench(lab, course, level):
    outcome = hold(bench.all_cases(), lab, course, level)
    assert len(outcome.rows) == len(bench.all_cases()) + 2


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user, which only root can; run as one, all tests do")
def test_as_an_ordinary_user(kit):
    """Some of the cases run by an ordinary user."""
    names = "|".join(("a_honest", "os_exit", "fork_bomb", "fifty_children", "escapes", "writes_around", "reads_around"))
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        own = shutil.copytree(kit, Path(folder) / "kit")
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        command = [sys.executable, bench.__file__, "tiny", "--kit", str(own), "--only", names, "--ordinary-user"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the bench holds" in done.stdout
