"""The text source of a lab, and how it is read.

A lab is one py:percent file `solutions/<lab>/<lab>.py`. The header of a cell says its name, what it is to nbgrader, and
what it is worth:

    # %% q1_1 answer                        the student writes code
    # %% q1_1_test test 2                   it is tested, for 2 points
    # %% q1_4 text 1 [markdown]             the student writes text, which is graded by hand, for 1 point

Tags may follow (`tags=["demo"]`). The block `# ---` at the top may hold one line of settings of the lab, such as
`# coursekit: {dtype: float64}`. `parse` turns the text into a notebook; `lint.lint` says what is wrong with it.
"""

import re
from pathlib import Path

from coursekit.question import BadQuestion, Question

MARKERS = ("SOLUTION", "HIDDEN TESTS")
DTYPES = ("float32", "float64")  # of torch, while the lab is asked
GRADE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: kind in the header -> (what nbgrader calls it, see `kind`, and whether it has points)
KINDS = {"answer": ("solution", False), "test": ("test", True), "text": ("manual", True)}
SETTINGS = re.compile(r"(\A# ---\n(?:#(?! ---\n).*\n)*?)# coursekit:(.*)\n")


class LabError(Exception):
    """A lab source that cannot be released; the message lists every fault with its cell."""


def parse(path: Path):
    """The notebook (nbformat 4.5) of a lab source, with nbgrader's keys on its cells; outputs empty.

    `metadata["coursekit"]` holds the lab's settings. Faults of a header are left in place for `lint`.
    """
    import jupytext

    if not path.is_file():
        raise LabError(f"there is no lab source {path}; a lab lives in solutions/<lab>/<lab>.py")
    text, settings = _settings(path)
    notebook = jupytext.reads(text, fmt="py:percent")
    if not notebook.cells:
        raise LabError(f"{path} has no cells; write it in py:percent, each cell under a line `# %%`")
    notebook.metadata["coursekit"] = settings
    dtype = settings.get("dtype")
    for cell in notebook.cells:
        stray = sorted(set(cell.metadata) - {"title", "tags", "lines_to_next_cell"})
        for key in stray:
            del cell.metadata[key]
        if stray:
            cell.metadata["stray"] = stray
        if (keys := nbgrader_keys(cell.metadata.get("title", ""))) is not None:
            cell.metadata["nbgrader"] = keys
        if kind(cell) == "test":
            cell.source = wrap_question(cell.source, grade_id(cell), dtype if dtype in DTYPES else DTYPES[0])
    return notebook


def _settings(path: Path) -> tuple[str, dict]:
    """The text of a lab without its line of settings, and the settings."""
    import yaml

    text = path.read_text(encoding="utf-8")
    found = SETTINGS.match(text)
    if found is None:
        return text, {}
    try:
        settings = yaml.safe_load(found[2])
    except yaml.YAMLError:
        settings = None
    if not isinstance(settings, dict):
        example = "`# coursekit: {dtype: float64}`"
        raise LabError(f"{path.name}: the settings are {found[2].strip()!r}; write them in one line, {example}")
    return SETTINGS.sub(r"\1", text, count=1), settings


def nbgrader_keys(title: str) -> dict | None:
    """The keys that nbgrader needs of a cell with this header; None if it is no header of a graded cell or an answer.

    >>> nbgrader_keys("q1_1_test test 2")["points"], nbgrader_keys("q1_1 answer")["solution"]
    (2, True)
    >>> nbgrader_keys("q1_1_test test") is nbgrader_keys("q1_1 essay 2") is None
    True
    """
    name, word, worth = ([*title.split(), "", "", ""])[:3]
    if not GRADE_ID.fullmatch(name) or word not in KINDS or len(title.split()) > 3:
        return None
    what, graded = KINDS[word]
    if graded != bool(re.fullmatch(r"\d+(\.\d+)?", worth)) or (worth and not graded) or (graded and float(worth) <= 0):
        return None
    keys = {"grade": graded, "grade_id": name, "locked": what == "test", "schema_version": 3}
    keys |= {"solution": what != "test", "task": False}
    return keys | {"points": int(worth) if worth.isdigit() else float(worth)} if graded else keys


def wrap_question(source: str, name: str, dtype: str) -> str:
    """A test cell whose hidden block, if it defines `draw` and `ask`, is replaced by the one call that holds them."""
    found = blocks(source, "HIDDEN TESTS")
    if len(found) != 1 or not all(re.search(rf"^def {part}\(", found[0], re.MULTILINE) for part in ("draw", "ask")):
        return source
    begin, _, rest = source.partition(found[0])
    try:
        return begin + Question(name, found[0].strip(), dtype).call() + rest
    except BadQuestion as error:
        raise LabError(str(error)) from None


def kind(cell) -> str:
    """What a cell is to nbgrader: "solution", "test", "manual" (graded by hand), "locked" or "plain"."""
    meta = cell.metadata.get("nbgrader", {})
    if meta.get("solution"):
        return "manual" if meta.get("grade") else "solution"
    if meta.get("grade"):
        return "test"
    return "locked" if meta.get("locked") else "plain"


def grade_id(cell) -> str | None:
    """The cell's grade_id, or None."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def points(notebook) -> dict[str, float]:
    """grade_id -> points of every graded cell, in the order of the notebook."""
    graded = (c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade"))
    return {grade_id(c): c.metadata["nbgrader"]["points"] for c in graded}


def blocks(source: str, marker: str) -> list[str]:
    """The texts between BEGIN `marker` and END `marker` lines, markers excluded."""
    found, current = [], None
    for line in source.split("\n"):
        if f"BEGIN {marker}" in line:
            current = []
        elif f"END {marker}" in line and current is not None:
            found.append("\n".join(current))
            current = None
        elif current is not None:
            current.append(line)
    return found


def without(source: str, marker: str) -> str:
    """`source` without its `marker` blocks: what nbgrader leaves of hidden tests in the student's copy."""
    lines, inside = [], False
    for line in source.split("\n"):
        if f"BEGIN {marker}" in line:
            inside = True
        elif f"END {marker}" in line:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)
