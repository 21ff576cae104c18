"""Processes that share memory are not charged for it twice; processes that each take some are."""

import pytest
from bench import FULL, GRADED, Case, run, write
from nbformat.v4 import new_code_cell

SHARED = """
import os, time
block = bytearray(b"x") * (300 << 20)
children = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        time.sleep(2)
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
print("SHARED")
"""


@pytest.mark.slow
def test_six_forks_of_300_mb_are_300_mb(course, lab, level):
    def make(folder, lab):
        notebook = lab.right()
        notebook.cells.insert(0, new_code_cell(SHARED))
        write(folder, lab, notebook)

    case = Case("shared", make, GRADED, FULL, prints="SHARED")
    assert run(course, lab, [case], level=level).missed == []
