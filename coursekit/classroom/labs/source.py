"""The text source of a lab: read it, and say what is wrong with it before a student does.

A lab is one py:percent file `solutions/<lab>/<lab>.py`. Cells carry nbgrader's metadata in full, for example

    # %% nbgrader={"grade": true, "grade_id": "q1_1_test", "locked": true, "points": 2, "schema_version": 3, ...}

`parse` turns the text into a notebook, `lint` returns a list of complaints, empty when the lab may be released.
This module knows nothing of torch: the grader reads labs with it, too.
"""

import ast
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coursekit.question import PARTS, BadQuestion, Question

TOTAL_POINTS = 20
REQUIRED = ("grade", "grade_id", "locked", "schema_version", "solution", "task")
MARKERS = ("SOLUTION", "HIDDEN TESTS")
# Anything that looks like a marker. What is not written exactly as nbgrader wants it would stay in the student's copy.
LOOSE_MARKER = re.compile(r"\b(begin|end)[\s_-]*(solutions?|hidden[\s_-]*tests?|mark[\s_-]*scheme)\b", re.IGNORECASE)
EXACT_MARKER = re.compile(r"^\s*(### |<!-- )(BEGIN|END) (SOLUTION|HIDDEN TESTS)( -->)?$")

RANDOM_DRAW = re.compile(r"generator=|default_rng|\brandn?\(|\brandint\(|\brandperm\(|\.normal\(|\.uniform\(")
CONVERSION = re.compile(r"np\.array\(|np\.asarray\(|\bfloat\(|\bint\(")


DTYPE = re.compile(r"^# coursekit: *\{dtype: (float32|float64)\}\n", re.MULTILINE)


class LabError(Exception):
    """A lab source that cannot be released; the message lists every fault with its cell."""


@dataclass(frozen=True)
class Variant:
    """Another answer to one question, and what its checks must say of it.

    question: grade_id of the solution cell that `source` replaces; name: a few words, unique within the question;
    kind: "wrong" (plausible, must be rejected) or "right" (written in another way, must be accepted);
    source: the whole text of the cell; loses: grade_ids of the test cells that must fail, and no others.
    """

    question: str
    name: str
    kind: Literal["wrong", "right"]
    source: str
    loses: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind not in ("wrong", "right"):
            raise ValueError(f"kind of variant {self.question}/{self.name} is {self.kind!r}; write 'wrong' or 'right'")
        if (self.kind == "wrong") != bool(self.loses):
            raise ValueError(
                f"variant {self.question}/{self.name} is {self.kind!r} and loses {self.loses}: "
                "a wrong answer names the test cells it loses, a right one loses none"
            )


def load_variants(path: Path) -> list[Variant]:
    """VARIANTS of the file `path` (tests/labs/variants/<lab>.py), with their questions and names checked."""
    spec = importlib.util.spec_from_file_location(f"variants_{path.stem}", path)
    if spec is None or not path.is_file():
        raise FileNotFoundError(f"no variants at {path}; write VARIANTS = [Variant(...), ...] there")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    variants = list(module.VARIANTS)
    keys = [(v.question, v.name) for v in variants]
    if len(set(keys)) != len(keys):
        twice = sorted({k for k in keys if keys.count(k) > 1})
        raise ValueError(f"{path.name}: two variants have the same question and name: {twice}")
    return variants


def parse(path: Path):
    """The notebook (nbformat 4.5) of a py:percent lab source; metadata as written, outputs empty."""
    import jupytext

    if not path.is_file():
        raise LabError(f"there is no lab source {path}; a lab lives in solutions/<lab>/<lab>.py")
    text = path.read_text(encoding="utf-8")
    dtype = DTYPE.search(text)
    notebook = jupytext.reads(DTYPE.sub("", text), fmt="py:percent")
    if not notebook.cells:
        raise LabError(f"{path} has no cells; write it in py:percent, each cell under a line `# %%`")
    for cell in notebook.cells:
        if kind(cell) == "test":
            cell.source = wrap_question(cell.source, grade_id(cell), dtype[1] if dtype else "float32")
    return notebook


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


def lint(notebook, *, total: float = TOTAL_POINTS) -> list[str]:
    """Every fault of a lab source as one line of text that names the cell; empty if it may be released."""
    faults: list[str] = []
    seen: dict[str, int] = {}
    for number, cell in enumerate(notebook.cells, start=1):
        where = f"cell {number}" + (f" ({grade_id(cell)})" if grade_id(cell) else "")
        faults += [f"{where}: {fault}" for fault in _metadata_faults(cell) + _marker_faults(cell)]
        if cell.cell_type == "code":
            faults += [f"{where}: {fault}" for fault in _code_faults(cell)]
        if grade_id(cell) in seen:
            faults.append(f"{where}: grade_id is already that of cell {seen[grade_id(cell)]}; each must be unique")
        elif grade_id(cell):
            seen[grade_id(cell)] = number
    worth = sum(v for v in points(notebook).values() if isinstance(v, int | float))
    if worth != total:
        faults.append(f"the points add up to {worth:g}, and a lab is worth {total:g}")
    return faults


def _metadata_faults(cell) -> list[str]:
    meta = cell.metadata.get("nbgrader")
    if meta is None:
        return []
    faults = [f"nbgrader metadata lacks {key!r}" for key in REQUIRED if key not in meta]
    unknown = sorted(set(meta) - {*REQUIRED, "points"})
    if unknown:
        faults.append(f"nbgrader metadata has {unknown}, which a source must not have")
    if meta.get("schema_version") != 3:
        faults.append(f"schema_version is {meta.get('schema_version')!r}, expected 3")
    for key in ("grade", "locked", "solution", "task"):
        if key in meta and not isinstance(meta[key], bool):
            faults.append(f"{key!r} is {meta[key]!r}, expected true or false")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(meta.get("grade_id", ""))):
        faults.append(f"grade_id {meta.get('grade_id')!r} must be 1 to 64 letters, digits, '_' or '-'")
    if meta.get("task"):
        faults.append(
            "task cells are not used here; let students answer in a markdown cell with grade and solution true"
        )
    worth = meta.get("points")
    if meta.get("grade") and (not isinstance(worth, int | float) or isinstance(worth, bool) or worth <= 0):
        faults.append(f"a graded cell needs points > 0, got {worth!r}")
    if not meta.get("grade") and "points" in meta:
        faults.append("points on a cell that is not graded")
    if kind(cell) in ("test", "locked") and not meta.get("locked"):
        faults.append("a test cell must be locked, or students can edit it")
    if kind(cell) in ("solution", "manual") and meta.get("locked"):
        faults.append("a cell for an answer must not be locked")
    expected = {"solution": "code", "test": "code", "manual": "markdown"}.get(kind(cell), cell.cell_type)
    if cell.cell_type != expected:
        faults.append(f"a {kind(cell)} cell must be a {expected} cell, this one is {cell.cell_type}")
    return faults


def _marker_faults(cell) -> list[str]:
    faults, opened, count = [], None, {marker: 0 for marker in MARKERS}
    for line in cell.source.split("\n"):
        loose = LOOSE_MARKER.search(line)
        if not loose:
            continue
        exact = EXACT_MARKER.match(line)
        comment = "<!-- " if cell.cell_type == "markdown" else "### "
        if not exact or exact[1] != comment:
            faults.append(f"{line.strip()!r} is no exact marker: nbgrader would leave the text in the student's copy")
            continue
        begins, marker = exact[2] == "BEGIN", exact[3]
        if begins and opened:
            faults.append(f"BEGIN {marker} inside a {opened} block")
        elif not begins and opened != marker:
            faults.append(f"END {marker} without its BEGIN")
        opened = marker if begins else None
        count[marker] += begins
    if opened:
        faults.append(f"BEGIN {opened} without its END")
    answers = kind(cell) in ("solution", "manual")
    if answers and count["SOLUTION"] != 1:
        faults.append(f"{count['SOLUTION']} solution blocks; an answer cell has exactly one BEGIN/END SOLUTION pair")
    if not answers and count["SOLUTION"]:
        faults.append("a solution block outside an answer cell")
    if kind(cell) != "test" and count["HIDDEN TESTS"]:
        faults.append("hidden tests outside a test cell")
    return faults


def _code_faults(cell) -> list[str]:
    if re.search(r"^\s*[%!]", cell.source, re.MULTILINE):
        return ["magics and shell commands do not survive as text; use Python"]
    faults = []
    views: Sequence[tuple[str, str]] = [("", cell.source)]
    if kind(cell) == "test":
        views = [("", cell.source), (" once the hidden tests are removed", without(cell.source, "HIDDEN TESTS"))]
    for view, text in views:
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            faults.append(f"not valid Python{view}: {error.msg} (line {error.lineno})")
            continue
        if kind(cell) != "test":
            continue
        if not any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(tree)):
            faults.append(f"the test cell asserts nothing{view}")
        elif isinstance(tree.body[-1], ast.Expr):
            faults.append(
                f"the test cell ends on an expression{view}: nbgrader would read its value as a partial grade"
            )
    if kind(cell) == "test" and not faults and (question := Question.of_cell(cell.source)) is not None:
        faults += question_faults(question)
    elif kind(cell) == "test":
        hidden = "\n".join(blocks(cell.source, "HIDDEN TESTS"))
        if not RANDOM_DRAW.search(hidden):
            faults.append("no hidden test draws its inputs at run time (a generator, rand, randn, uniform, ...)")
        if not CONVERSION.search(hidden):
            faults.append("no hidden test converts the answer (np.array, float, int) before it compares")
    return faults


VERDICTS = {"all", "any", "bool", "isclose", "allclose", "equal", "array_equal", "isfinite", "isnan", "issubset"}


def question_faults(question: Question) -> list[str]:
    """What is wrong with a question: a missing part, an `ask` that compares, imports beyond NumPy and SciPy."""
    try:
        tree = ast.parse(question.source)
    except SyntaxError as error:
        return [f"the question is not valid Python: {error.msg} (line {error.lineno})"]
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    faults = [f"the question has no function `{part}`" for part in PARTS if part not in functions]
    for node in tree.body:
        inside = node.name if isinstance(node, ast.FunctionDef) else "the question"
        if inside == "ask":
            faults += _ask_faults(node)
            continue
        for part in ast.walk(node):
            names = [a.name for a in part.names] if isinstance(part, ast.Import) else []
            names += [part.module or ""] if isinstance(part, ast.ImportFrom) else []
            allowed = ("numpy", "scipy", "math", "itertools", "fractions", "collections", "functools")
            faults += [f"{inside} imports {n}; only NumPy, SciPy and Python's mathematics are there"
                       for n in names if n.split(".")[0] not in allowed]  # fmt: skip
    return faults


def _ask_faults(ask: ast.FunctionDef) -> list[str]:
    """`ask` returns what the student claims: values. A comparison would be a verdict made in the student's kernel."""
    faults = []
    names = [a.arg for a in (*ask.args.args, *ask.args.kwonlyargs)]
    if names[-1:] != ["inputs"] or len(names) < 2:
        faults.append(f"ask({', '.join(names)}): name the answers it calls, then `inputs`")
    allowed = {id(k.value) for n in ast.walk(ask) if isinstance(n, ast.Call) for k in n.keywords}
    for node in ast.walk(ask):
        if isinstance(node, ast.Compare | ast.BoolOp | ast.Assert) or (
            isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        ):
            faults.append(f"ask compares (`{ast.unparse(node)[:60]}`): return the values, and compare them in judge")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool) and id(node) not in allowed:
            faults.append("ask holds True or False: return values, not verdicts")
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in VERDICTS:
                faults.append(f"ask calls `{called}`: return the values, and compare them in judge")
    return faults
