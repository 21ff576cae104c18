"""A tiny lab, a course around it, and the bench of submissions that try to break the grader."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parent))  # for `bench`, which tests of all labs share
sys.path.insert(0, str(Path(__file__).parent / "grade"))  # for `test_run`, whose helpers the cluster's tests use

# Not for the collector of doctests: it would import the cases under another name, and each would be registered twice.
collect_ignore = ["bench.py", "cases_attacks.py", "cases_greed.py", "cases_structure.py", "cohort.py", "speed.py"]

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


def tiny_lab():
    """Three autograded answers of 2, 3 and 5 points with visible and hidden tests, and one of 4 graded by hand."""
    q1 = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    q1_test = (
        "assert int(double(2)) == 4, 'double(2) should be 4'\n### BEGIN HIDDEN TESTS\nimport random as _random\n"
        "_n = _random.randrange(10**6)\nassert int(double(_n)) == 2 * _n, 'wrong for another number'\n### END HIDDEN TESTS"
    )
    q2 = "import numpy as np\ndef mean(values):\n    ### BEGIN SOLUTION\n    return sum(values) / len(values)\n    ### END SOLUTION"
    q2_test = (
        "np.testing.assert_allclose(float(mean([1.0, 2.0])), 1.5)\n### BEGIN HIDDEN TESTS\n"
        "_sample = np.random.default_rng().normal(size=7)\n"
        "np.testing.assert_allclose(float(mean(list(_sample))), float(_sample.mean()))\n### END HIDDEN TESTS"
    )
    q3 = "def squares(n):\n    ### BEGIN SOLUTION\n    return [k * k for k in range(n)]\n    ### END SOLUTION"
    q3_test = (
        "assert [int(k) for k in squares(3)] == [0, 1, 4]\n### BEGIN HIDDEN TESTS\nimport random as _random\n_m = _random.randrange(5, 50)\n"
        "assert [int(k) for k in list(squares(_m))] == [_k * _k for _k in range(_m)]\n### END HIDDEN TESTS"
    )
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
