"""A tiny lab, a course around it, and the bench of submissions that try to break the grader."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from coursekit.question import Question

sys.path.insert(0, str(Path(__file__).parent))  # for `bench`, which tests of all labs share
sys.path.insert(0, str(Path(__file__).parent / "grade"))  # for `test_run`, whose helpers the cluster's tests use

# Not for the collector of doctests: it would import the cases under another name, and each would be registered twice.
collect_ignore = ["bench.py", "cohort.py", "speed.py"]
collect_ignore_glob = ["cases_*.py"]

LAB = "tiny"
SETTINGS = """
c = get_config()
c.CourseDirectory.source_directory = "solutions"
c.CourseKit.cell_seconds = 4
c.CourseKit.total_seconds = 16
c.CourseKit.memory_mb = 1024
c.CourseKit.disk_mb = 64
c.CourseKit.output_mb = 5
"""


def pytest_configure(config):
    if sys.platform == "linux" and shutil.which("bwrap") is None:
        raise pytest.UsageError(
            "the tests of the grader need bubblewrap: apt install bubblewrap (or your system's word)"
        )


def cell(name: str, source: str, *, points: float = 0, grade=False, solution=False, markdown=False):
    """A cell with nbgrader's metadata."""
    new = (new_markdown_cell if markdown else new_code_cell)(source)
    meta = {"grade_id": name, "grade": grade, "solution": solution, "locked": grade and not solution}
    new.metadata["nbgrader"] = {**meta, "schema_version": 3, "task": False, **({"points": points} if grade else {})}
    new["id"] = name
    return new


DOUBLE = """
def draw(rng):
    return [2, int(rng.integers(10**6))]


def ask(double, inputs):
    return [double(n) for n in inputs]


def shapes(inputs):
    return [() for n in inputs]


def judge(inputs, got):
    return differs(f"double of {inputs}", np.array(got), 2.0 * np.array(inputs), atol=0)
"""
MEAN = """
def draw(rng):
    return [[1.0, 2.0], rng.normal(size=7).tolist()]


def ask(mean, inputs):
    return [mean(list(values)) for values in inputs]


def shapes(inputs):
    return [() for values in inputs]


def judge(inputs, got):
    return differs(f"mean of {inputs}", np.array(got), np.array([np.mean(values) for values in inputs]))
"""
SQUARES = """
def draw(rng):
    return [3, int(rng.integers(5, 50))]


def ask(squares, inputs):
    return [list(squares(n)) for n in inputs]


def shapes(inputs):
    return [(n,) for n in inputs]


def judge(inputs, got):
    for n, values in zip(inputs, got):
        if wrong := differs(f"squares({n})", values, np.arange(float(n)) ** 2):
            return wrong
"""


def test_cell(visible: str, name: str, question: str) -> str:
    """The text of a test cell: a visible check and a hidden question."""
    return f"{visible}\n### BEGIN HIDDEN TESTS\n{Question(name, question.strip()).call()}\n### END HIDDEN TESTS"


def tiny_lab():
    """Three autograded answers of 2, 3 and 5 points with visible and hidden tests, and one of 4 graded by hand."""
    q1 = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    q1_test = test_cell("assert int(double(2)) == 4, 'double(2) should be 4'", "q1_test", DOUBLE)
    q2 = "import numpy as np\ndef mean(values):\n    ### BEGIN SOLUTION\n    return np.mean(values)\n    ### END SOLUTION"
    q2_test = test_cell("np.testing.assert_allclose(float(mean([1.0, 2.0])), 1.5)", "q2_test", MEAN)
    q3 = "def squares(n):\n    ### BEGIN SOLUTION\n    return np.arange(n) ** 2\n    ### END SOLUTION"
    q3_test = test_cell("assert [int(k) for k in squares(3)] == [0, 1, 4]", "q3_test", SQUARES)
    text = "### BEGIN SOLUTION\nBecause it is so.\n### END SOLUTION"
    notebook = new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [
        new_markdown_cell("# A tiny lab", id="title"),
        cell("q1", q1, solution=True),
        cell("q1_test", q1_test, grade=True, points=2),
        cell("q2", q2, solution=True),
        cell("q2_test", q2_test, grade=True, points=3),
        cell("q3", q3, solution=True),
        cell("q3_test", q3_test, grade=True, points=5),
        cell("q4", text, grade=True, solution=True, points=4, markdown=True),
    ]
    return notebook


@pytest.fixture(scope="session")
def kit(tmp_path_factory) -> Path:
    """A kit with the tiny lab, as nbgrader's source notebook."""
    root = tmp_path_factory.mktemp("kit")
    (root / "solutions" / LAB).mkdir(parents=True)
    nbformat.write(tiny_lab(), root / "solutions" / LAB / f"{LAB}.ipynb")
    (root / "nbgrader_config.py").write_text(SETTINGS)
    return root


@pytest.fixture(scope="session")
def lab(kit):
    """The tiny lab as the bench needs it."""
    import bench

    return bench.Lab.load(kit, LAB)


@pytest.fixture(scope="session")
def prepared(kit, tmp_path_factory) -> Path:
    """A course to which nothing was handed in; what nbgrader takes seconds to record of the lab is made once."""
    from coursekit.classroom.labs.bundle import load
    from coursekit.classroom.records import gradebook
    from coursekit.classroom.records.course import Course

    course = Course.open(tmp_path_factory.mktemp("prepared"), kit)
    load(course, LAB)
    gradebook.create(course.gradebook)
    return course.root


@pytest.fixture(scope="session")
def new_course(kit, prepared):
    """A function that makes a folder a course for the tiny lab, without submissions."""
    from coursekit.classroom.records.course import Course

    return lambda folder: Course.open(shutil.copytree(prepared, folder, dirs_exist_ok=True), kit)


@pytest.fixture
def course(new_course, tmp_path):
    """A course for the tiny lab, without submissions."""
    return new_course(tmp_path)


@pytest.fixture(scope="session")
def level():
    """The sandbox level of this machine; on Linux the tests need a sandbox."""
    from coursekit.classroom.sandbox import levels

    found = levels.probe()
    if sys.platform == "linux" and not found.sandboxed:
        pytest.fail(f"the tests of the grader need a working sandbox: {'; '.join(found.tried)}")
    return found
