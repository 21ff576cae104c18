"""The form of a chapter, read from its source: nothing is built here."""

import re

import pytest
from pybtex.database import parse_file

from .conftest import BOOK, chapters

CELL = re.compile(r"^```\{code-cell\}.*?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=chapters(), ids=lambda path: path.stem)
def chapter(request) -> str:
    return request.param.read_text(encoding="utf-8")


def test_parts_of_a_chapter(chapter):
    assert re.search(r"^\(ch-[\w-]+\)=$", chapter, re.MULTILINE), "a label, so that others can refer to it"
    assert re.search(r"\{admonition\} Objectives", chapter)
    headings = re.findall(r"^## (.+)$", chapter, re.MULTILINE)
    places = [next((k for k, h in enumerate(headings) if h.startswith(name)), None) for name in (
        "Intuition", "Exercises", "Quiz", "Take-away", "Further reading")]  # fmt: skip
    assert None not in places and places == sorted(places), f"the parts in their order, got {headings}"
    assert "{prf:theorem}" in chapter and "{prf:proof}" in chapter
    assert "```{bibliography}" in chapter


def test_exercises_have_solutions(chapter):
    labels = re.findall(r"\{exercise(?:-start)?\}[^\n]*\n:label: (\S+)", chapter)
    solved = re.findall(r"\{solution(?:-start)?\} (\S+)\n(?::label: \S+\n)?:class: dropdown", chapter)
    assert len(labels) >= 3 and sorted(labels) == sorted(solved)


def test_quiz_has_three_to_five_questions_with_feedback(chapter):
    blocks = re.findall(r"^(`{3,}|:{3,})\{quiz\}\n(.*?)^\1$", chapter, re.MULTILINE | re.DOTALL)
    text = "\n".join(body for _, body in blocks)
    assert 3 <= len(re.findall(r"^\? ", text, re.MULTILINE)) <= 6
    for option in re.findall(r"^- \[[ xX]\].*(?:\n(?!- \[|\?).+)*", text, re.MULTILINE):
        assert " :: " in option.replace("\n", " "), f"no feedback: {option}"


def test_figures_have_caption_name_and_alt_text(chapter):
    names, movable = [], 0
    for cell in CELL.finditer(chapter):
        body = cell["body"]
        draws = re.search(r"^\s*plt\.show\(\)", body, re.MULTILINE)
        assert not draws or ("alt:" in body and "caption:" in body), f"figure without alt text:\n{body[:300]}"
        if found := re.search(r"name: (fig-[\w-]+)", body):
            names.append(found[1])
        if "slider(" in body:
            movable += 1
            assert "alt=" in body, "a movable figure without alt text"
    assert len(names) == len(set(names)) and len(names) + movable >= 2


def test_the_bibliography_can_be_read_and_its_keys_are_unique():
    parse_file(str(BOOK / "references.bib"))
    text = (BOOK / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,\s]+),", text, re.MULTILINE)
    assert len(keys) == len(set(keys)), [key for key in keys if keys.count(key) > 1]
    for entry in re.split(r"^(?=@)", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"\byear\s*=", entry) and re.search(r"\btitle\s*=", entry), entry[:80]


def test_each_chapter_has_a_plan_of_three_hours():
    text = (BOOK / "teaching.md").read_text(encoding="utf-8")
    for path in chapters():
        number = int(path.stem[2:4])
        section = re.search(rf"^## Session {number}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, f"no plan for session {number}"
        spans = [
            tuple(map(int, span)) for span in re.findall(r"^\| *(\d+)\s*[-–]\s*(\d+) *\|", section[0], re.MULTILINE)
        ]
        assert spans and spans[0][0] == 0 and spans[-1][1] == 180, f"session {number} is not 180 minutes: {spans}"
        assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False)), f"a gap in session {number}: {spans}"
