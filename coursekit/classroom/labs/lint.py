"""What is wrong with a lab source, said before a student finds out."""

import ast
import re
from collections.abc import Sequence

from coursekit.question import PARTS, Question

from .source import DTYPES, GRADE_ID, KINDS, MARKERS, blocks, grade_id, kind, points, without

SETTINGS = ("dtype", "allowed")
EXAMPLES = "`# %% q1_1 answer`, `# %% q1_1_test test 2`, `# %% q1_4 text 1 [markdown]`"
TOTAL_POINTS = 20
# Anything that looks like a marker. What is not written exactly as nbgrader wants it would stay in the student's copy.
LOOSE_MARKER = re.compile(r"\b(begin|end)[\s_-]*(solutions?|hidden[\s_-]*tests?|mark[\s_-]*scheme)\b", re.IGNORECASE)
EXACT_MARKER = re.compile(r"^\s*(### |<!-- )(BEGIN|END) (SOLUTION|HIDDEN TESTS)( -->)?$")

RANDOM_DRAW = re.compile(r"generator=|default_rng|\brandn?\(|\brandint\(|\brandperm\(|\.normal\(|\.uniform\(")
CONVERSION = re.compile(r"np\.array\(|np\.asarray\(|\bfloat\(|\bint\(")


def lint(notebook, *, total: float = TOTAL_POINTS) -> list[str]:
    """Every fault of a lab source as one line of text that names the cell; empty if it may be released."""
    faults = _settings_faults(notebook.metadata.get("coursekit", {}))
    seen: dict[str, int] = {}
    for number, cell in enumerate(notebook.cells, start=1):
        where = f"cell {number}" + (f" ({grade_id(cell)})" if grade_id(cell) else "")
        faults += [f"{where}: {fault}" for fault in _header_faults(cell) + _marker_faults(cell)]
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


def _settings_faults(settings: dict) -> list[str]:
    faults = [f"the settings have {key!r}; there are dtype and allowed" for key in settings if key not in SETTINGS]
    if settings.get("dtype", DTYPES[0]) not in DTYPES:
        faults.append(f"the settings say dtype {settings['dtype']!r}; expected {' or '.join(DTYPES)}")
    allowed = settings.get("allowed", [])
    if not isinstance(allowed, list) or not all(isinstance(name, str) for name in allowed):
        faults.append(f"the settings say allowed {allowed!r}; expected a list of names")
    return faults


def _header_faults(cell) -> list[str]:
    faults = []
    if "stray" in cell.metadata:
        faults.append(f"the header has {', '.join(cell.metadata['stray'])}=...; a name and a kind say it: {EXAMPLES}")
    title = cell.metadata.get("title")
    if title is not None and grade_id(cell) is None:
        name, word, worth = ([*title.split(), "", "", ""])[:3]
        if not GRADE_ID.fullmatch(name):
            faults.append(f"grade_id {name!r} must be 1 to 64 letters, digits, '_' or '-'")
        elif word not in KINDS:
            faults.append(f"the header {title!r} has no kind ({', '.join(KINDS)}): {EXAMPLES}")
        elif len(title.split()) > 3:
            faults.append(f"the header {title!r} goes on after its points: {EXAMPLES}")
        elif KINDS[word][1]:
            faults.append(f"a graded cell needs points > 0, got {worth or 'none'}: {EXAMPLES}")
        else:
            faults.append("points on an answer; they belong to its test")
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
