"""Release: the same bytes on each run, what nbgrader itself would write, nothing that students must not see."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from harness import ROOT, stub

from coursekit.classroom.labs import release
from coursekit.classroom.labs import source as labs
from coursekit.classroom.labs.lint import TOTAL_POINTS
from coursekit.classroom.labs.variants import load_variants
from coursekit.cli import main

LABS = release.find(ROOT)


def cell(text: str, title: str = "", kind: str = "") -> str:
    head = "# %%" + (f" {title}" if title else "") + (f" [{kind}]" if kind else "")
    body = "".join(f"# {line}\n" if line else "#\n" for line in text.split("\n")) if kind else text + "\n"
    return f"{head}\n{body}\n"


SOLUTION = "def f(x):\n    ### BEGIN SOLUTION\n    secret = 2 * x\n    return secret\n    ### END SOLUTION"
CHECK = (
    "assert float(f(1.0)) == 2\n### BEGIN HIDDEN TESTS\nimport random\nx = random.Random().uniform(1, 2)\n"
    "answer = float(f(x))\nassert answer == 2 * x  # a secret remark\n### END HIDDEN TESTS"
)
GOOD = (
    cell("# A lab", kind="markdown")
    + cell("import math")
    + cell(SOLUTION, "q1 answer")
    + cell(CHECK, "q1_test test 20")
)


@pytest.fixture
def course(tmp_path):
    """A course of one small lab, `tiny`; write(text) replaces its source."""

    class Course:
        root = tmp_path
        source = tmp_path / "solutions" / "tiny" / "tiny.py"
        student = tmp_path / "labs" / "tiny" / "tiny.ipynb"

        def write(self, text: str):
            self.source.parent.mkdir(parents=True, exist_ok=True)
            self.source.write_text(text)

        def release(self, *options: str) -> int:
            return main(["release", *options, "--root", str(self.root)])

    made = Course()
    made.write(GOOD)
    return made


@pytest.mark.parametrize("lab", LABS)
def test_labs_are_fresh(lab):
    stale = [
        str(path.relative_to(ROOT))
        for path, text in release.build(ROOT, lab).items()
        if (path.suffix != ".ipynb" or path.is_relative_to(ROOT / "labs"))
        and (not path.is_file() or path.read_text() != text)
    ]
    assert stale == [], "run `coursekit release` and commit"


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_same_bytes_elsewhere_and_with_other_hashes(lab, tmp_path):
    shutil.copytree(ROOT / "solutions" / lab, tmp_path / "solutions" / lab)
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    command = [sys.executable, "-m", "coursekit.cli", "release", lab]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True)
    for path, text in release.build(ROOT, lab).items():
        assert (tmp_path / path.relative_to(ROOT)).read_bytes() == text.encode()


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_nbgrader_itself_makes_the_same_student_notebook(lab, tmp_path):
    built = release.build(ROOT, lab)
    source = tmp_path / "solutions" / lab / f"{lab}.ipynb"
    release.write_atomically(source, built[ROOT / "solutions" / lab / f"{lab}.ipynb"])
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    for path in (ROOT / "solutions" / lab).iterdir():  # all that stands beside it: variants, pictures, notes
        if path.is_file() and path != ROOT / "solutions" / lab / source.name:
            shutil.copy(path, source.parent)
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", lab]
    plain = os.environ | {"PATH": os.defpath}  # as from a terminal where the environment is not active
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = nbformat.read(tmp_path / "labs" / lab / f"{lab}.ipynb", 4)
    assert made == nbformat.reads(built[ROOT / "labs" / lab / f"{lab}.ipynb"], 4)
    assert sorted(p.name for p in (tmp_path / "labs" / lab).iterdir()) == [f"{lab}.ipynb"], "the source leaks"


@pytest.mark.parametrize("lab", LABS)
def test_released_notebook_holds_no_secret(lab):
    text = (ROOT / "labs" / lab / f"{lab}.ipynb").read_text()
    for word in ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "def hidden", "Rubric", "Model answer"):
        assert word not in text
    student = nbformat.reads(text, 4)
    assert release.find_leaks(labs.parse(ROOT / "solutions" / lab / f"{lab}.py"), student) == []
    assert all(c.get("outputs", []) == [] and c.get("execution_count") is None for c in student.cells)


@pytest.mark.parametrize("lab", LABS)
def test_nbgrader_accepts_the_metadata_of_both_notebooks(lab):
    from nbgrader.nbgraderformat import MetadataValidator

    for path, text in release.build(ROOT, lab).items():
        if path.suffix == ".ipynb":
            notebook = nbformat.reads(text, 4)
            nbformat.validate(notebook)
            MetadataValidator().validate_nb(notebook)
            assert sum(labs.points(notebook).values()) == TOTAL_POINTS


def test_release_writes_three_files_and_a_second_run_touches_none(course, capsys):
    assert course.release() == 0
    assert "20 points, released" in capsys.readouterr().out
    files = [course.student, course.source.with_suffix(".ipynb"), course.source.with_name("grade_ids.lock")]
    before = [path.stat().st_mtime_ns for path in files]
    assert course.release("tiny") == 0
    assert "unchanged" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in files] == before
    assert sorted(p.name for p in course.student.parent.iterdir()) == ["tiny.ipynb"], "no temporary file stays"


def test_student_gets_stub_and_visible_check_only(course):
    course.release()
    markdown, code, answer, check = nbformat.read(course.student, 4).cells
    assert answer.source == stub(SOLUTION).replace("    raise", "    # YOUR CODE HERE\n    raise")
    assert check.source == "assert float(f(1.0)) == 2"
    assert check.metadata.editable is False and check.metadata.deletable is False
    assert [c.id for c in (markdown, code, answer, check)] == ["after-top-1", "after-top-2", "q1", "q1_test"]


def test_check_reports_a_stale_release_and_writes_nothing(course, capsys):
    course.release()
    course.write(GOOD.replace("# A lab", "# Another lab"))
    before = course.student.read_bytes()
    assert course.release("--check") == 1
    assert "labs/tiny/tiny.ipynb" in capsys.readouterr().err
    assert course.student.read_bytes() == before


def test_grade_id_that_was_released_may_not_vanish(course, capsys):
    course.release()
    course.write(GOOD.replace("q1 answer", "question1 answer"))
    assert course.release() == 1
    assert "'q1 solution' was released and is gone" in capsys.readouterr().err


def test_local_image_becomes_part_of_the_notebook(course):
    course.write(cell("![a dot](dot.png)", kind="markdown") + GOOD)
    assert course.release() == 1  # there is no such image yet
    (course.source.parent / "dot.png").write_bytes(b"\x89PNG")
    assert course.release() == 0
    first = nbformat.read(course.student, 4).cells[0]
    assert first.source == "![a dot](attachment:dot.png)"
    assert first.attachments == {"dot.png": {"image/png": "iVBORw=="}}


HEAD = (
    "# ---\n# coursekit: {}\n# jupyter:\n#   jupytext:\n#     text_representation: {{format_name: percent}}\n# ---\n\n"
)


def test_settings_of_a_lab_are_read_and_not_released(course):
    course.write(HEAD.format("{dtype: float64, allowed: [torch.linalg.solve]}") + GOOD)
    parsed = labs.parse(course.source)
    assert parsed.metadata["coursekit"] == {"dtype": "float64", "allowed": ["torch.linalg.solve"]}
    assert course.release() == 0
    assert "coursekit" not in nbformat.read(course.student, 4).metadata
    course.write(GOOD.replace("# # A lab", "# # A lab\n# coursekit: {dtype: float64}"))
    assert labs.parse(course.source).metadata["coursekit"] == {}


def test_header_gives_the_keys_of_nbgrader(course):
    course.write(
        GOOD + cell("### BEGIN SOLUTION\n### END SOLUTION", "q2 text 0.5", "markdown").replace("\n# ", "\n# ", 1)
    )
    cells = {labs.grade_id(c): c for c in labs.parse(course.source).cells if labs.grade_id(c)}
    assert {name: labs.kind(c) for name, c in cells.items()} == {"q1": "solution", "q1_test": "test", "q2": "manual"}
    plain = {"schema_version": 3, "task": False}
    assert cells["q1"].metadata["nbgrader"] == plain | {
        "grade": False,
        "grade_id": "q1",
        "locked": False,
        "solution": True,
    }
    test = {"grade": True, "grade_id": "q1_test", "locked": True, "solution": False, "points": 20}
    assert cells["q1_test"].metadata["nbgrader"] == plain | test
    text = {"grade": True, "grade_id": "q2", "locked": False, "solution": True, "points": 0.5}
    assert cells["q2"].metadata["nbgrader"] == plain | text and cells["q2"].cell_type == "markdown"


FAULTS = {
    "the header has nbgrader=...": GOOD.replace(
        "q1 answer", 'nbgrader={"grade": false, "grade_id": "q1", "solution": true}'
    ),
    "the header has points=...": GOOD.replace("test 20", "test 20 points=20"),
    "grade_id 'q.1'": GOOD.replace("q1 answer", "q.1 answer"),
    "the header 'q1 anser' has no kind": GOOD.replace("q1 answer", "q1 anser"),
    "the header 'q1' has no kind": GOOD.replace("q1 answer", "q1"),
    "needs points > 0, got none": GOOD.replace("test 20", "test"),
    "needs points > 0, got 0": GOOD.replace("test 20", "test 0"),
    "needs points > 0, got -20": GOOD.replace("test 20", "test -20"),
    "needs points > 0, got nan": GOOD.replace("test 20", "test nan"),
    "goes on after its points": GOOD.replace("test 20", "test 20 points"),
    "points on an answer": GOOD.replace("q1 answer", "q1 answer 20"),
    "add up to 19": GOOD.replace("test 20", "test 19"),
    "must be unique": GOOD + cell(SOLUTION, "q1 answer"),
    "the settings have 'device'": HEAD.format("{device: cpu}") + GOOD,
    "the settings say dtype 'float16'": HEAD.format("{dtype: float16}") + GOOD,
    "the settings say allowed 'torch'": HEAD.format("{allowed: torch}") + GOOD,
    "write them in one line": HEAD.format("") + GOOD,
    "the settings are '{dtype: float64'": HEAD.format("{dtype: float64") + GOOD,
    "0 solution blocks": GOOD.replace("    ### BEGIN SOLUTION\n", "").replace("    ### END SOLUTION", ""),
    "2 solution blocks": GOOD.replace(
        "return secret\n", "return secret\n    ### END SOLUTION\n    ### BEGIN SOLUTION\n"
    ),
    "BEGIN SOLUTION without its END": GOOD.replace("    ### END SOLUTION\n", ""),
    "END SOLUTION without its BEGIN": GOOD.replace("    ### BEGIN SOLUTION\n", ""),
    "no exact marker": GOOD.replace("### BEGIN SOLUTION", "### Begin solution"),
    "is no exact marker": GOOD.replace("### END HIDDEN TESTS", "# END HIDDEN TEST"),
    "solution block outside": GOOD.replace("import math", SOLUTION),
    "hidden tests outside": GOOD.replace("import math", "### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS"),
    "ends on an expression": GOOD.replace("### END HIDDEN TESTS", "x\n### END HIDDEN TESTS"),
    "ends on an expression once": GOOD.replace("assert float(f(1.0)) == 2\n###", "assert f\nf(1.0)\n###"),
    "asserts nothing once": GOOD.replace("assert float(f(1.0)) == 2\n", "y = 1\n"),
    "draws its inputs": GOOD.replace("random.Random().uniform(1, 2)", "1.5"),
    "converts the answer": GOOD.replace("answer = float(f(x))", "answer = f(x)"),
    "not valid Python": GOOD.replace("import math", "import import"),
    "magics": GOOD.replace("import math", "%matplotlib inline").replace("# %matplotlib", "%matplotlib"),
    "must be a code cell": GOOD.replace("test 20", "test 20 [raw]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_malformed_source_is_refused_and_nothing_written(course, capsys, fault):
    course.write(FAULTS[fault])
    assert course.release() == 1
    assert fault in capsys.readouterr().err
    assert [p.name for p in course.source.parent.iterdir()] == ["tiny.py"]
    assert not course.student.exists()


def test_unknown_lab_and_empty_course_say_what_to_do(course, capsys, tmp_path):
    assert course.release("nothere") == 1
    assert "there is no lab source" in capsys.readouterr().err
    assert course.release("../tiny") == 1
    assert "there are: tiny" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["release", "--root", str(tmp_path / "empty")]) == 1
    assert "give --root" in capsys.readouterr().err


def test_failed_write_leaves_the_old_file_whole(course, monkeypatch):
    target = course.root / "file.txt"
    release.write_atomically(target, "old")
    monkeypatch.setattr(release.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        release.write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in course.root.iterdir() if p.name.startswith(".file")] == []


def test_leak_detector_sees_a_solution_line():
    source = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOLUTION)])
    student = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("    secret = 2 * x")])
    assert release.find_leaks(source, student) == ["secret = 2 * x"]


def test_variant_files_are_checked(tmp_path):
    head = "from coursekit.classroom.labs.variants import Variant\n"
    path = tmp_path / "variants.py"
    path.write_text(head + "VARIANTS = [Variant('q1', 'a', 'wrong', 'x')]")
    with pytest.raises(ValueError, match="names the test cells it loses"):
        load_variants(path)
    path.write_text(head + "VARIANTS = [Variant('q1', 'a', 'right', 'x')] * 2")
    with pytest.raises(ValueError, match="same question and name"):
        load_variants(path)
    with pytest.raises(FileNotFoundError, match="no variants"):
        load_variants(Path(tmp_path / "nothere.py"))
