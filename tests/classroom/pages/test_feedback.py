"""What a student gets back: everything about their work, and nothing of the hidden tests."""

import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from test_run import autograde, hand_in

from coursekit.classroom.pages.feedback import CUT, hide_tests, secret_lines, write_feedback
from coursekit.classroom.pages.formgrader import STAND_IN
from coursekit.classroom.pages.report import write_report
from coursekit.classroom.records.course import CourseError, load_config
from coursekit.classroom.similarity import compare, tokens

NOTES = """
<details><summary>Hint with $x^2$</summary>

Some **bold** text.

</details>

![far](https://example.org/a.png) and [link](https://example.org/b) and <https://example.org/c>

<details open onclick="alert(7391)" ontoggle="alert(7391)"><summary style="position:fixed">evil</summary>x</details>

<script>alert(7391)</script><style>body { display: none }</style><img src=x onerror=alert(7391)>
<a href="javascript:alert(7391)">one</a> [two](javascript:alert(7391)) <a href=" java\nscript:alert(7391)">three</a>
<iframe src="https://example.org"></iframe><svg onload=alert(7391)></svg><math><mtext><script>alert(7391)</script>
<noscript><p title="</noscript><img src=x onerror=alert(7391)>"> <meta http-equiv=refresh content=0> <base href=//x>
<form action="https://example.org"><input name=a autofocus onfocus=alert(7391)></form>
$\\text{<script>alert(7391)</script>}$ <p class="mark good" id="q1_test">10 / 10</p>
"""
SECRETS = ("_random.randrange", "wrong for another number if", "default_rng().normal", "_m = _random", "HIDDEN TESTS")


@pytest.fixture(scope="module")
def graded(new_course, lab, tmp_path_factory):
    """A class of four: right, wrong, one whose answers print the test that calls them, and one who writes HTML."""
    course = new_course(tmp_path_factory.mktemp("class"))
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
    author = lab.right()
    author.cells.insert(1, new_markdown_cell(NOTES))
    author.cells.insert(2, new_markdown_cell("![the image is gone](attachment:gone.png) *stays*"))
    author.cells[lab.where(author, "q4")].source = NOTES
    hand_in(course, lab, "author", author)
    code, said = autograde(course)
    assert code == 0, said
    write_feedback(course, lab.name, jobs=2)
    return course


def page(course, student: str) -> str:
    return (course.root / "feedback" / student / "tiny" / "tiny.html").read_text(encoding="utf-8")


def plain(text: str) -> str:
    return re.sub(r"<[^>]*>", "", text)


class Elements(HTMLParser):
    """Start tags of a page, with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def harmful(text: str) -> list[tuple[str, dict]]:
    """What runs, loads or sends something, or changes how the page looks."""
    tags = {"script", "style", "iframe", "svg", "form", "input", "meta", "base", "link", "object", "embed", "noscript"}

    def bad(tag, attributes):
        links = [v or "" for k, v in attributes.items() if k in ("href", "src")]
        acts = any(k.startswith("on") or k == "style" for k in attributes)
        return tag in tags or acts or any(not re.match(r"#|https?://|data:image/", link) for link in links)

    return [(tag, attributes) for tag, attributes in Elements(text).found if bad(tag, attributes)]


@pytest.mark.parametrize("student", ["right", "wrong", "nosy"])
def test_no_line_of_a_hidden_test_is_in_it(graded, student):
    text = plain(page(graded, student))
    assert [secret for secret in SECRETS if secret in text] == []
    assert "further tests ran here" in text


def test_it_has_points_and_what_the_tests_said(graded):
    text = plain(page(graded, "wrong"))
    assert "double(2) should be 4" in text and "8 of 10 points" in text and "0 / 2" in text
    assert "2 / 2" in plain(page(graded, "right"))


def test_no_script_of_a_student_runs_in_it(graded):
    assert [harmful(page(graded, student).split("<body>")[1]) for student in ("right", "nosy", "author")] == [[]] * 3
    assert "default-src 'none'" in page(graded, "author").split("<body>")[0]  # nor would it, if there were one
    assert "https://example.org/a.png" not in page(graded, "author")


def test_what_folds_in_the_notebook_folds_on_the_page(graded):
    text = page(graded, "author")
    assert text.count("<details><summary>Hint with <math") == 2 and text.count('<details open=""><summary>evil<') == 2
    assert re.search(r"</summary>\s*<p>Some <strong>bold</strong> text.</p>\s*</details>", text)


def test_an_image_that_is_gone_costs_nobody_the_page(graded):
    assert 'alt="the image is gone"' in page(graded, "author") and "<em>stays</em>" in page(graded, "author")


def test_the_formgrader_runs_no_script_of_a_student(graded):
    from nbconvert.exporters import HTMLExporter
    from nbgrader.server_extensions.formgrader.handlers import template_path

    config = load_config(Path(__file__).parents[3])
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [template_path]
    keys = ("assignment_id", "notebook_id", "submission_id", "student", "first_name", "last_name", "notebook_path")
    resources = {**dict.fromkeys(keys, "x"), "base_url": "", "index": 0, "total": 1}
    notebook = graded.folder("autograded") / "author" / "tiny" / "tiny.ipynb"
    text = HTMLExporter(config=config).from_filename(str(notebook), resources=resources)[0]
    assert "Some <strong>bold</strong>" in text and "<summary>Hint with <math" in text
    # its own page has scripts, and we add a stand-in for one that may not be reached: what students wrote has none
    written = re.findall(r'<div class="text_cell_render[^>]*>(.*?)</div>', text.replace(STAND_IN, ""), re.DOTALL)
    assert len(written) > 3 and [found for part in written for found in harmful(part)] == []


def test_only_what_changed_is_made_anew_and_what_a_grader_wrote_is_shown(graded, lab):
    assert "4 of the 14 points are not graded yet" in plain(page(graded, "right"))
    assert plain(page(graded, "right")).count("not graded yet, 4 points") == 2  # at the top and at the answer
    assert write_feedback(graded, lab.name) == (4, 0)
    of_right = """cell_id IN (SELECT id FROM base_cell WHERE name = 'q4') AND notebook_id IN (SELECT n.id FROM
        submitted_notebook n JOIN submitted_assignment s ON s.id = n.assignment_id WHERE s.student_id = 'right')"""
    with sqlite3.connect(graded.gradebook) as connection:  # as the formgrader does
        connection.execute(f"UPDATE grade SET manual_score = 3, needs_manual_grade = 0 WHERE {of_right}")
        connection.execute(f"UPDATE comment SET manual_comment = 'Name the *theorem*.' WHERE {of_right}")
    connection.close()
    assert write_feedback(graded, lab.name) == (4, 1)
    text = plain(page(graded, "right"))
    assert "13 of 14 points." in text and "3 / 4" in text and "not graded yet" not in text
    assert "Name the theorem." in text


def test_a_page_that_cannot_be_made_costs_nobody_else_theirs(graded, lab):
    notebook = graded.folder("autograded") / "nosy" / "tiny" / "tiny.ipynb"
    pages = [graded.folder("feedback") / student / "tiny" / "tiny.html" for student in ("right", "nosy", "wrong")]
    kept = notebook.read_bytes()
    notebook.write_text("{")
    for one in pages:
        one.unlink()
    with pytest.raises(CourseError, match="1 of 4 pages could not be made: nosy: "):
        write_feedback(graded, lab.name)
    assert [one.is_file() for one in pages] == [True, False, True]
    notebook.write_bytes(kept)
    assert write_feedback(graded, lab.name) == (4, 1)


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
