"""The parts of the Sphinx extension that need no Sphinx."""

import doctest
import importlib

import pytest
from coursebook import evidence, notebook, quiz
from pybtex.database import Entry, Person

from .conftest import BOOK


@pytest.mark.parametrize("path", sorted((BOOK / "_ext" / "coursebook").glob("*.py")), ids=lambda p: p.stem)
def test_examples(path):
    name = "coursebook" if path.stem == "__init__" else f"coursebook.{path.stem}"
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_quiz_text_over_several_lines():
    first, second = quiz.parse(
        [
            "? A question",
            "  that goes on",
            "- [x] right,",
            "  really :: because",
            "- [ ] wrong",
            "",
            "? Two",
            "- [X] a",
            "- [x] b",
        ]
    )
    assert first.text == "A question\nthat goes on" and not first.several
    assert [(o.text, o.right, o.feedback) for o in first.options] == [
        ("right,\nreally", True, "because"),
        ("wrong", False, ""),
    ]
    assert second.several and second.line == 6


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "at least one"),
        (["text"], "begins with"),
        (["- [x] a"], "before the first"),
        (["? q", "- [x] a"], "at least two"),
        (["? q", "- [ ] a", "- [ ] b"], "no right answer"),
        (["? q", "- [x]", "- [ ] b"], "empty"),
    ],
)
def test_quiz_errors_say_what_is_wrong(lines, message):
    with pytest.raises(quiz.QuizError, match=message):
        quiz.parse(lines)


def test_records_of_one_and_of_many():
    record = {"id": "B1.1"}
    cells = [
        {"cell_type": "markdown"},
        {"cell_type": "code", "outputs": [{"output_type": "stream"}, {"data": {evidence.MIME: record}}]},
        {"cell_type": "code", "outputs": [{"data": {evidence.MIME: [record, record]}}]},
    ]
    assert evidence.records_of({"cells": cells}) == [record] * 3


def test_names_of_authors():
    def entry(*authors, year="2001"):
        return Entry("book", {"year": year}, {"author": [Person(a) for a in authors]})

    assert evidence.author_year(entry("Saxe, Andrew M.", "McClelland, J.", "Ganguli, S.")) == "Saxe et al. (2001)"
    assert (
        evidence.author_year(entry("{Der Kiureghian}, Armen", "Ditlevsen, Ove"))
        == "Der Kiureghian and Ditlevsen (2001)"
    )
    assert evidence.author_year(entry("Corbi{\\`e}re, Charles", 'G{\\"u}ne{\\c{s}}, A.')) == "Corbière and Güneş (2001)"
    assert evidence.author_year(entry("van den Dries, Lou")) == "van den Dries (2001)"


def test_notebook_text_keeps_code_fences_and_drops_lists_of_the_page():
    code = "```python\nx = 1\n```\n\n"
    text = f"(label)=\n# T\n\n{code}```{{bibliography}}\n:all:\n```\n:::{{admonition}} Note\n:class: tip\n\nText.\n:::"
    assert notebook.plain(text, name_of=lambda role, target: target) == f"# T\n\n{code}> **Note**\n>\n> Text."


def test_notebook_references_become_words():
    text = "{prf:ref}`a`, {ref}`here <b>`, {cite:p}`c,d`, {numref}`Figure %s <fig>`"
    assert notebook.plain(text, name_of=lambda role, target: f"<{target}>") == "<a>, here, <c,d>, <fig>"
