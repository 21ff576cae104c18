"""What a student gets back: everything about their work, and nothing of the hidden tests."""

import re

import pytest
from nbformat.v4 import new_code_cell
from test_runner import autograde, finish, hand_in

from coursekit.grading.feedback import CUT, hide_tests, secret_lines, write_feedback
from coursekit.grading.report import write_report
from coursekit.grading.similarity import compare, tokens

SECRETS = ("_random.randrange", "wrong for another number if", "default_rng().normal", "_m = _random", "HIDDEN TESTS")


@pytest.fixture(scope="module")
def graded(kit, lab, tmp_path_factory):
    """A class of three: right, wrong, and one whose answers print the test that calls them."""
    from coursekit.grading.course import Course

    course = Course.open(tmp_path_factory.mktemp("class"), kit)
    hand_in(course, lab, "right", lab.right())
    wrong = lab.right()
    wrong.cells[lab.where(wrong, "q1")].source = "def double(x):\n    return 5"
    hand_in(course, lab, "wrong", wrong)
    nosy = lab.right()
    nosy.cells[lab.where(nosy, "q1")].source = "def double(x):\n    print(In[-1])\n    return 2 * x"
    nosy.cells.append(
        new_code_cell("from IPython.display import HTML, display\ndisplay(HTML('<pre>' + '\\n'.join(In) + '</pre>'))")
    )
    nosy.cells.append(
        new_code_cell("from IPython.display import Javascript, display\ndisplay(Javascript('alert(7391)'))")
    )
    nosy.cells.append(new_code_cell("raise ValueError(In[4])"))
    hand_in(course, lab, "nosy", nosy)
    code, said = finish(autograde(course))
    assert code == 0, said
    write_feedback(course, lab.name, jobs=2)
    return course


def page(course, student: str) -> str:
    return (course.root / "feedback" / student / "tiny" / "tiny.html").read_text(encoding="utf-8")


def plain(text: str) -> str:
    return re.sub(r"<[^>]*>", "", text)


@pytest.mark.parametrize("student", ["right", "wrong", "nosy"])
def test_no_line_of_a_hidden_test_is_in_it(graded, student):
    text = plain(page(graded, student))
    assert [secret for secret in SECRETS if secret in text] == []
    assert "further tests ran here" in text


def test_it_has_points_and_what_the_tests_said(graded):
    text = plain(page(graded, "wrong"))
    assert "double(2) should be 4" in text and "8.0 / 14.0" in text
    assert "Score: 2.0 / 2.0" in plain(page(graded, "right"))


def test_no_script_of_a_student_runs_in_it(graded):
    assert "alert(7391)" not in re.sub(r"<span[^>]*>|</span>", "", page(graded, "nosy")).split("Javascript", 2)[-1][60:]
    assert "<script>alert" not in page(graded, "nosy")


def test_only_what_changed_is_made_anew(graded, lab):
    assert write_feedback(graded, lab.name) == (3, 0)
    import sqlite3

    with sqlite3.connect(graded.gradebook) as connection:
        connection.execute(
            "UPDATE grade SET manual_score = 3 WHERE auto_score IS NULL AND notebook_id = (SELECT notebook_id FROM grade LIMIT 1)"
        )
    connection.close()
    assert write_feedback(graded, lab.name)[1] == 1


def test_lines_that_tests_share_with_the_notebook_are_no_secret():
    from nbformat.v4 import new_notebook, new_output

    test = new_code_cell(
        "import math\nassert f(1)\n### BEGIN HIDDEN TESTS\nimport math\nassert f(2) == 17\n### END HIDDEN TESTS"
    )
    test.metadata["nbgrader"] = {"grade": True, "solution": False}
    other = new_code_cell("import math")
    other.outputs = [new_output("stream", text="import math\n  assert f(2) == 17  # found it\nfine")]
    notebook = new_notebook(cells=[test, other])
    assert secret_lines(notebook) == {"assert f(2) == 17", "BEGIN HIDDEN TESTS", "END HIDDEN TESTS"}
    hide_tests(notebook)
    assert "17" not in test.source and "assert f(1)" in test.source
    assert other.outputs[0].text == f"import math\n{CUT}\nfine"


def test_the_class_report_shows_every_question_and_who_needs_a_look(graded, lab):
    text = write_report(graded, lab.name)
    assert all(f"<td>{name}</td>" in text for name in ("q1_test", "q2_test", "q3_test", "q4"))
    assert "double(2) should be 4" in text and "wait to be graded by hand" in text
    assert text.count("<img alt=") == 2 and "http" not in text.replace("http-equiv", "")


def test_alike_answers_are_found_and_the_usual_ones_are_not():
    copied = "def f(values, n):\n    total = 0\n    for v in values:\n        total += v ** 2 - 3 * n\n    return total / max(n, 1) - len(values)\n"
    renamed = copied.replace("total", "s").replace("values", "xs").replace("v ", "x ") + "# my own work\n"
    own = "def f(values, n):\n    import numpy as np\n    x = np.asarray(values, dtype=float)\n    return (x @ x - 3 * n * x.size) / max(n, 1) - x.size\n"
    usual = "def f(values, n):\n    return sum(v * v - 3 * n for v in values) / max(n, 1) - len(values)\n"
    answers = {"q": {"anna": copied, "bob": renamed, "carl": own, **{f"u{k}": usual for k in range(2)}}}
    pairs = compare(answers, {"q": "def f(values, n):\n    pass"})
    assert {(p.first, p.second) for p in pairs} == {("anna", "bob"), ("u0", "u1")}
    assert pairs[0].likeness == 1.0
    assert tokens("x = 'a'  # b") == ["name", "=", "text"]
    assert tokens("def broken(:") != []
