"""From what was handed in to what nbgrader can grade, without running anything."""

import json
import os

import pytest

from coursekit.classroom.intake import collect as intake
from coursekit.classroom.intake.notebook import Rejected, read_notebook
from coursekit.classroom.intake.repair import repair
from coursekit.classroom.sandbox.limits import Limits


def repaired(lab, notebook):
    return repair(read_notebook(json.dumps(notebook).encode()), lab.bundle, max_cells=100)


def names(notebook) -> list[str]:
    return [c["metadata"]["nbgrader"]["grade_id"] for c in notebook["cells"] if "nbgrader" in c["metadata"]]


def test_a_sound_notebook_stays_as_it_is(lab):
    fixed, notes = repaired(lab, lab.right())
    assert notes == []
    assert names(fixed) == ["q1", "q1_test", "q2", "q2_test", "q3", "q3_test", "q4"]
    hidden = [c["source"] for c in fixed["cells"] if "HIDDEN" in c["source"]]
    assert len(hidden) == 3  # locked tests are the lab's, with what students do not see


def test_every_cell_of_the_lab_is_there_once_whatever_was_deleted(lab):
    whole = lab.right()
    for gone in range(1, len(whole.cells)):
        notebook = lab.right()
        del notebook.cells[gone]
        fixed, notes = repaired(lab, notebook)
        assert sorted(names(fixed)) == ["q1", "q1_test", "q2", "q2_test", "q3", "q3_test", "q4"]
        assert len(notes) == 1 and "missing" in notes[0]


def test_of_two_copies_of_an_answer_the_changed_one_counts(lab):
    import copy

    notebook = lab.blank()
    answer = copy.deepcopy(notebook.cells[lab.where(notebook, "q1")])
    answer.source = "def double(x): return x + x"
    notebook.cells.insert(1, answer)
    fixed, notes = repaired(lab, notebook)
    graded = [c for c in fixed["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == "q1"]
    assert [c["source"] for c in graded] == ["def double(x): return x + x"]
    assert "q1: 2 copies, one graded" in notes


def test_metadata_is_the_labs_and_never_the_students(lab):
    notebook = lab.right()
    for cell in notebook.cells:
        cell.metadata["tags"] = ["skip-execution"]
        if "nbgrader" in cell.metadata:
            cell.metadata["nbgrader"] |= {"points": 1e9, "grade": True, "solution": True, "schema_version": 99}
    fixed, _ = repaired(lab, notebook)
    expected, _ = repaired(lab, lab.right())
    assert [c["metadata"] for c in fixed["cells"]] == [c["metadata"] for c in expected["cells"]]


def test_tests_move_behind_the_answers_they_test(lab):
    notebook = lab.right()
    notebook.cells.reverse()
    fixed, notes = repaired(lab, notebook)
    order = names(fixed)
    for k in (1, 2, 3):
        assert order.index(f"q{k}") < order.index(f"q{k}_test")
    assert any("another order" in note for note in notes)


def test_a_notebook_that_is_not_the_lab_is_rejected_with_advice(lab):
    with pytest.raises(Rejected, match="download the lab again"):
        repair(read_notebook(b'{"nbformat": 4, "cells": []}'), lab.bundle, max_cells=9)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"), (b"[]", "list"), (b"3", "int"), (b"{}", "nbformat"), (b'{"nbformat": true}', "nbformat"),
        (b'{"nbformat": 4}', "no list of cells"), (b'{"nbformat": 4, "cells": [3]}', "cell 1 is a int"),
        (b'{"nbformat": 4, "cells": [{"source": 3}]}', "source of cell 1"), (b'{"nbformat": 9}', "format 9"),
        (b'{"nbformat": 3}', "cannot be converted"), (b'{"nbformat": 4, "cells": [', "breaks off"), (b"hello}", "not JSON"),
        ("é".encode("latin-1"), "byte 0 is 0xe9"), ("{}".encode("utf-16"), "UTF-16"), (b"[" * 10**5, "nested"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_rejected_in_one_line(data, word):
    with pytest.raises(Rejected, match=word) as caught:
        read_notebook(data)
    assert "\n" not in str(caught.value)


def test_intake_opens_regular_files_only(tmp_path):
    folder = tmp_path / "anna" / "lab"
    folder.mkdir(parents=True)
    (folder / "lab.ipynb").write_text("{}")
    (folder / "data.txt").write_text("x")
    (folder / "timestamp.txt").write_text("2026-01-02 03:04:05 UTC")
    taken = intake.collect(tmp_path, "lab", "anna", Limits())
    assert (taken.notebook, taken.files, taken.timestamp) == (b"{}", {"data.txt": b"x"}, "2026-01-02 03:04:05")
    os.mkfifo(folder / "pipe")
    assert "named pipe" in intake.collect(tmp_path, "lab", "anna", Limits()).fault
    assert intake.collect(tmp_path, "lab", "bob", Limits()) is None
    for student in ("../anna", "a*", "", ".x", "a/b", "x" * 200):
        assert "student id" in intake.collect(tmp_path, "lab", student, Limits()).fault


def test_a_key_depends_on_every_byte_and_on_the_context(tmp_path):
    one = intake.Submission("anna", b"n", {"a": b"1"})
    assert one.key("x") == intake.Submission("bob", b"n", {"a": b"1"}).key("x")
    others = [one.key("y"), intake.Submission("anna", b"m", {"a": b"1"}).key("x")]
    others += [
        intake.Submission("anna", b"n", {"a": b"2"}).key("x"),
        intake.Submission("anna", b"n", {"b": b"1"}).key("x"),
    ]
    assert len({one.key("x"), *others}) == 5


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "60"])
def test_limits_that_cannot_be_are_refused(value):
    with pytest.raises(ValueError, match="c.CourseKit.cell_seconds"):
        Limits.from_config({"cell_seconds": value})
