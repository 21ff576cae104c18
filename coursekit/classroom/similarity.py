"""Pairs of answers that are worth a look because they are more alike than the task explains.

An answer is reduced to its tokens: names of its own become one name, numbers and texts one each, comments vanish. What
the release gave everybody is taken away. Two answers are compared by their shared runs of five tokens (Jaccard index);
runs that many students have count little, for they are how one writes this answer. A pair is a question, no verdict.
"""

import io
import itertools
import json
import keyword
import math
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

RUN = 5
SHORT = 25  # an answer with fewer tokens is too short to say anything


@dataclass(frozen=True)
class Pair:
    """Two students whose answers to one question are alike; likeness is 1 for equal ones."""

    first: str
    second: str
    question: str
    likeness: float
    tokens: int


def tokens(source: str) -> list[str]:
    """The shape of Python code: keywords, operators and called or imported names stay, all else is made alike.

    >>> tokens("def f(x):  # mine\\n    return x + 1") == tokens("def f(y):\\n    return y + 2")
    True
    """
    found = []
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    try:
        stream = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return source.split()
    for index, token in enumerate(stream):
        if token.type in skip:
            continue
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            after_dot = index and stream[index - 1].string == "."
            called = index + 1 < len(stream) and stream[index + 1].string == "("
            found.append(token.string if after_dot or called else "name")
        elif token.type == tokenize.NUMBER:
            found.append("0")
        elif token.type == tokenize.STRING:
            found.append("text")
        else:
            found.append(token.string)
    return found


def runs(source: str, stub: str = "") -> Counter:
    """The runs of RUN tokens of an answer that are not in its stub."""
    words, given = tokens(source), set(_windows(tokens(stub)))
    return Counter(window for window in _windows(words) if window not in given)


def _windows(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]


def compare(answers: dict[str, dict[str, str]], stubs: dict[str, str], *, at_least: float = 0.8) -> list[Pair]:
    """Pairs of students whose likeness is at least `at_least`, most alike first, of question -> student -> text."""
    pairs = []
    for question, given in answers.items():
        shapes = {s: runs(text, stubs.get(question, "")) for s, text in given.items()}
        shapes = {s: shape for s, shape in shapes.items() if sum(shape.values()) >= SHORT - RUN + 1}
        common = Counter(run for shape in shapes.values() for run in shape)
        weight = {run: math.log(1 + len(shapes) / n) for run, n in common.items()}
        for first, second in itertools.combinations(sorted(shapes), 2):
            a, b = shapes[first], shapes[second]
            whole = sum(weight[r] * n for r, n in (a | b).items())
            likeness = sum(weight[r] * n for r, n in (a & b).items()) / whole
            if likeness >= at_least:
                pairs.append(Pair(first, second, question, likeness, sum((a & b).values()) + RUN - 1))
    return sorted(pairs, key=lambda p: (-p.likeness, -p.tokens, p.question, p.first, p.second))


def read_answers(autograded: Path, lab: str) -> dict[str, dict[str, str]]:
    """question -> student -> text of every answer cell in the graded notebooks of a lab."""
    answers: dict[str, dict[str, str]] = {}
    for path in sorted(autograded.glob(f"*/{lab}/{lab}.ipynb")):
        student = path.parent.parent.name
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            meta = cell["metadata"].get("nbgrader", {})
            if meta.get("solution"):
                answers.setdefault(meta["grade_id"], {})[student] = "".join(cell["source"])
    return answers
