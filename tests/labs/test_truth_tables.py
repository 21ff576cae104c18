"""Every lab: who answers rightly keeps the points, who errs loses that question and no other."""

from collections import Counter
from functools import cache

import harness
import pytest

from coursekit.classroom.labs import release
from coursekit.classroom.labs import source as labs
from coursekit.classroom.labs.variants import load_variants

LABS = [name for name in release.find(harness.ROOT) if harness.variants_path(name).is_file()]

# The tests of one table in one worker, which makes it once.
each_table = pytest.mark.parametrize(
    "lab", [pytest.param(name, marks=pytest.mark.xdist_group(f"table-{name}")) for name in LABS]
)


@cache
def table(lab: str) -> list[harness.Outcome]:
    return harness.truth_table(lab)


def complaints(rows) -> str:
    lines = []
    for row in rows:
        told = "".join(f"\n    {test}: {message}" for test, message in row.failed.items())
        lines.append(f"{row.question}/{row.name} must lose {list(row.loses)}, lost {list(row.failed)}{told}")
    return "\n".join(lines)


def test_every_lab_has_variants():
    assert release.find(harness.ROOT) == LABS


@pytest.mark.slow
@each_table
def test_reference_keeps_every_point_in_silence(lab):
    reference = table(lab)[0]
    assert reference.failed == {}, complaints([reference])
    assert reference.noisy == (), "a test cell that writes to stderr scores 0 in plain nbgrader"


@pytest.mark.slow
@each_table
def test_untouched_notebook_scores_nothing(lab):
    untouched = table(lab)[1]
    assert untouched.as_expected, complaints([untouched])


@pytest.mark.slow
@each_table
def test_each_wrong_answer_loses_exactly_its_question(lab):
    wrong = [row for row in table(lab)[2:] if row.kind == "wrong"]
    assert not complaints(row for row in wrong if not row.as_expected)


@pytest.mark.slow
@each_table
def test_each_other_right_answer_keeps_every_point(lab):
    right = [row for row in table(lab)[2:] if row.kind == "right"]
    assert not complaints(row for row in right if not row.as_expected)


@pytest.mark.parametrize("lab", LABS)
def test_each_question_has_three_wrong_answers_and_another_right_one(lab):
    notebook = labs.parse(harness.source_path(lab))
    questions = [labs.grade_id(cell) for cell in notebook.cells if labs.kind(cell) == "solution"]
    count = Counter((v.question, v.kind) for v in load_variants(harness.variants_path(lab)))
    assert [q for q in questions if count[q, "wrong"] < 3 or count[q, "right"] < 1] == []


@pytest.mark.parametrize("lab", LABS)
def test_a_wrong_answer_loses_the_tests_of_its_own_question(lab):
    notebook = labs.parse(harness.source_path(lab))
    graded = {c: labs.kind(cell) for cell in notebook.cells if (c := labs.grade_id(cell))}
    order = list(graded)
    for variant in load_variants(harness.variants_path(lab)):
        after = order[order.index(variant.question) + 1 :]
        own = []
        for name in after:
            if graded[name] != "test":
                break
            own.append(name)
        assert set(variant.loses) <= set(own), f"{variant.question}/{variant.name} loses tests of other questions"
