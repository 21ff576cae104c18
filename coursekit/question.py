"""A hidden question in three parts: what is drawn, what is asked, and who judges.

    draw(rng) -> inputs              plain data (see `coursekit._wire`), drawn in the judge's process; rng is a numpy
                                     Generator. Keys of a dict that begin with "_" stay with the judge.
    ask(answers..., inputs) -> got   in the student's kernel, in a namespace of its own: calls the answers it names and
                                     returns values: never comparisons, verdicts, or counts that the values do not imply
    shapes(inputs) -> form           in the judge's process: what `got` must look like, see `fit`
    judge(inputs, got)               in the judge's process, which loads nothing of the student: None, or one sentence
             -> None | sentence      that says for which input what came. NumPy and SciPy only.

In the graded notebook a question stands as a text, `hold(r'''...''', globals(), ...)`. The grader takes it apart
(`Question.of_cell`): `ask` alone and the inputs go to the kernel (`serve`), the rest never meets the student. Where
nbgrader runs the cell by itself, `hold` does all of it in one process. Nothing here loads torch; a student may.
"""

import ast
import builtins
import contextlib
import hashlib
import inspect
import json
import random
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ._wire import NotPlain, decode, encode

MIME = "application/vnd.coursekit.answer+json"
PARTS = ("draw", "ask", "shapes", "judge")
CLEAN = dict(vars(builtins))  # as they were before any student's code ran


class Unanswered(AssertionError):
    """What a student reads: the answer is not right, and for which input."""


class BadQuestion(Exception):
    """A question that cannot be asked: our fault."""


@dataclass(frozen=True)
class Question:
    """A question as text: `source` defines draw, ask, shapes, judge; `dtype` is torch's default while it is asked."""

    name: str
    source: str
    dtype: str = "float32"

    @classmethod
    def of_cell(cls, source: str) -> "Question | None":
        """The question that a test cell holds, None if it holds none; its name is the cell's grade_id."""
        if "coursekit.question" not in source:
            return None
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "hold":
                values = {k.arg: ast.literal_eval(k.value) for k in node.keywords}
                return cls(values["name"], ast.literal_eval(node.args[0]), values.get("dtype", "float32"))
        return None

    def call(self) -> str:
        """The lines that stand for this question in the graded notebook."""
        if "'''" in self.source or self.source.endswith("\\"):
            raise BadQuestion(f"{self.name}: a question must not contain ''' nor end with a backslash")
        begin = '__import__("coursekit.question", fromlist=["hold"]).hold('
        end = f"globals(), name={self.name!r}, dtype={self.dtype!r}) is None"
        return f"assert {begin}r'''\n{self.source.strip()}\n''', {end}"

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change when anything in the question does."""
        return hashlib.sha256(f"{self.name}\0{self.dtype}\0{self.source}".encode()).hexdigest()[:16]

    @property
    def asked(self) -> str:
        """The source of `ask` alone: all of the question that a student's kernel ever sees."""
        for node in ast.parse(self.source).body:
            if isinstance(node, ast.FunctionDef) and node.name == "ask":
                return ast.get_source_segment(self.source, node)
        raise BadQuestion(f"{self.name} has no function `ask`")

    def parts(self, folder: Path | None = None) -> dict:
        """draw, shapes and judge as functions; `load(name)` gives them the arrays of folder/name, an .npz file."""

        def load(name: str) -> dict:
            path = _lab_file(name, folder)
            with np.load(path, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}

        space = {
            "np": np,
            "differs": differs,
            "describe": describe,
            "maybe": maybe,
            "text": text,
            "load": load,
            "__name__": "question",
        }
        exec(compile(self.source, f"<judge of {self.name}>", "exec"), space)
        missing = [part for part in PARTS if not callable(space.get(part))]
        if missing:
            raise BadQuestion(f"{self.name} has no {', '.join(missing)}")
        return space

    def request(self, inputs, seed: int) -> str:
        """What is sent to the kernel: `ask`, the inputs that it may see, and a seed."""
        seen = {k: v for k, v in inputs.items() if not k.startswith("_")} if isinstance(inputs, dict) else inputs
        request = {"name": self.name, "ask": self.asked, "inputs": encode(seen), "seed": seed, "dtype": self.dtype}
        return json.dumps(request)


def verdict(question: Question, parts: dict, inputs, reply: str) -> str | None:
    """None if the reply of the kernel answers the question, else the sentence for the student.

    Raises whatever `shapes` or `judge` raise on data of the right form: that is our fault, not the student's.
    """
    try:
        answer = json.loads(reply)
        raised, data = answer.get("raised"), answer.get("got")
        if isinstance(raised, str):
            return raised[:2000]
        got = decode(data)
    except (NotPlain, ValueError, AttributeError, RecursionError) as error:
        return f"the answer cannot be read: {error}"
    try:
        got = fit(got, parts["shapes"](inputs), "the answer")
    except Unanswered as error:
        return str(error)
    with np.errstate(all="ignore"):
        sentence = parts["judge"](inputs, got)
    if sentence is not None and not isinstance(sentence, str):
        raise BadQuestion(f"judge of {question.name} returned a {type(sentence).__name__}, expected None or a sentence")
    return sentence


def maybe(form):
    """In `shapes`: the value may also be None, where something may rightly be missing (a gradient without a graph)."""
    return ("maybe", form)


text = str  #: in `shapes`: a string


def fit(got, form, where: str):
    """`got` with every array as float64 (complex128 if complex) of the shape that `form` declares, or `Unanswered`.

    A tuple is the shape of an array, `()` of a number, None in it any length; a list or dict of forms is one of exactly
    these entries; `[form, ...]` any number of entries; `maybe(form)` also None; `text` a string; None anything at all.

    >>> fit({"mean": [1, 2]}, {"mean": (2,)}, "the answer")
    {'mean': array([1., 2.])}
    >>> fit([1.0], (2,), "posterior mean")
    Traceback (most recent call last):
    ...
    coursekit.question.Unanswered: posterior mean: expected shape (2,), got shape (1,)
    """
    if form is None:
        return got
    if isinstance(form, tuple) and form[:1] == ("maybe",):
        return None if got is None else fit(got, form[1], where)
    if got is None:
        raise Unanswered(f"{where}: got None (does the function end with `return`?)")
    if form is str:
        if not isinstance(got, str):
            raise Unanswered(f"{where}: expected a text, got {_kind(got)}")
        return got
    if isinstance(form, dict):
        if not isinstance(got, dict) or set(got) != set(form):
            raise Unanswered(f"{where}: expected {', '.join(form)}, got {_kind(got)}")
        return {key: fit(got[key], form[key], key if where == "the answer" else f"{where}, {key}") for key in form}
    if isinstance(form, list):
        entries = list(got) if isinstance(got, list) or getattr(got, "ndim", 0) else None
        if entries is None:
            raise Unanswered(f"{where}: expected {len(form)} values, got {_kind(got)}")
        if len(form) == 2 and form[1] is Ellipsis:
            form = [form[0]] * len(entries)
        if len(entries) != len(form):
            raise Unanswered(f"{where}: expected {len(form)} values, got {len(entries)}")
        pairs = enumerate(zip(entries, form, strict=True))
        return [fit(value, part, f"{where}, entry {i}") for i, (value, part) in pairs]
    try:
        array = np.array(got)
        array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    except (TypeError, ValueError):
        raise Unanswered(f"{where}: expected numbers of shape {form}, got {_kind(got)}") from None
    if form == () and array.size == 1:
        array = array.reshape(())  # a number, however it is wrapped
    if array.ndim != len(form) or any(want not in (None, n) for want, n in zip(form, array.shape, strict=True)):
        raise Unanswered(f"{where}: expected shape {form}, got shape {array.shape}")
    return array


def differs(what: str, got, want, *, rtol: float = 1e-6, atol: float = 1e-8, hint: str = "") -> str | None:
    r"""None if every entry obeys :math:`|g - w| \le \text{atol} + \text{rtol}\,|w|`, else a sentence with both values.

    >>> differs("f(2)", np.array([1.0, 4.5]), np.array([1.0, 4.0]))
    'f(2) is not right: expected [1, 4], got [1, 4.5]; the largest error is 0.5, at index [1].'
    """
    got, want = np.asarray(got), np.asarray(want)
    tail = f" {hint}" if hint else ""
    if got.shape != want.shape:
        return f"{what} is not right: expected shape {want.shape}, got shape {got.shape}.{tail}"
    if not np.isfinite(got).all():
        return f"{what} is not right: expected {describe(want)}, got NaN or infinity in {describe(got)}.{tail}"
    error = np.abs(got - want)
    excess = error - (atol + rtol * np.abs(want))
    if not excess.size or excess.max() <= 0:
        return None
    worst = np.unravel_index(int(excess.argmax()), error.shape)
    place = f", at index {[int(i) for i in worst]}" if worst else ""
    values = f"expected {describe(want)}, got {describe(got)}"
    return f"{what} is not right: {values}; the largest error is {error[worst]:.3g}{place}.{tail}"


def describe(array: np.ndarray) -> str:
    """All of a small array, else its first entries and its shape."""
    array = np.asarray(array)
    form = {"float": "{:.6g}".format}
    with np.printoptions(precision=6, suppress=True, linewidth=100, threshold=20, formatter=form):
        if array.size <= 12:
            return np.array2string(array, separator=", ").replace("\n", "\n            ")
        first = np.array2string(array.ravel()[:6], separator=", ")
        return f"{first[:-1]}, ...] (the first of {array.size} entries, shape {array.shape})"


def serve(request: str, nonce: str) -> None:
    """In the student's kernel: answer one request, as a message of type `MIME` that only the grader reads."""
    from IPython import get_ipython

    shell = get_ipython()
    reply = answer(request, shell.user_ns)
    shell.display_pub.publish({MIME: {"nonce": nonce, "reply": reply}})


def answer(request: str, names: dict) -> str:
    """The reply to a request: what `ask` returned, or what an answer raised, as text."""
    asked = json.loads(request)
    space = {"__builtins__": CLEAN, "__name__": "question", "np": np}
    exec(compile(asked["ask"], f"<question {asked['name']}>", "exec"), space)
    ask = space["ask"]
    wanted = [name for name in inspect.signature(ask).parameters if name != "inputs"]
    lost = [name for name in wanted if name not in names]
    if lost:
        return json.dumps({"raised": f"`{lost[0]}` is not defined (was its cell run, and is its name as given?)"})
    if "torch" in sys.modules:
        space["torch"] = sys.modules["torch"]
        from . import device

        space["device"] = device.default_device()
    with _ground(asked["seed"], asked["dtype"]):
        try:
            got = ask(**{name: names[name] for name in wanted}, inputs=decode(asked["inputs"]))
            return json.dumps({"got": encode(got)})
        except NotPlain as error:
            return json.dumps({"raised": f"{', '.join(wanted)}: {error}"})
        except (Exception, SystemExit) as error:
            return json.dumps({"raised": _words(error, asked["name"])})


@contextlib.contextmanager
def _ground(seed: int, dtype: str):
    """The state in which every question is asked, whatever the notebook has set; what it had set is put back."""
    torch = sys.modules.get("torch")
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (an answer may draw from it)
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if torch is not None:
            stack.enter_context(torch.random.fork_rng())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            stack.callback(torch.set_default_device, torch.get_default_device())
            torch.set_default_dtype(getattr(torch, dtype))
            torch.set_default_device("cpu")
            torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def hold(source: str, names: dict, *, name: str, dtype: str = "float32") -> None:
    """Ask and judge in this one process: what happens where nbgrader runs the cell by itself.

    Raises:
        AssertionError: the answer is not right; the message says for which input.
    """
    question = Question(name, source, dtype)
    parts = question.parts()
    seed = random.SystemRandom().getrandbits(63)
    inputs = decode(encode(parts["draw"](np.random.default_rng(seed))))
    sentence = verdict(question, parts, inputs, answer(question.request(inputs, seed), names))
    if sentence is not None:
        raise Unanswered(sentence)


def _words(error: BaseException, name: str) -> str:
    """What an answer raised, and the last line of the student's own code that led there."""
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(("<ipython", "/tmp/ipykernel")) or "ipykernel_" in frame.filename:
            where = f" at `{frame.line}`" if frame.line else f" in {frame.name}"
    return f"your answer raised {type(error).__name__}: {str(error)[:500]}{where}"


def _kind(value) -> str:
    if isinstance(value, dict):
        return "a dict of " + (", ".join(list(value)[:8]) or "nothing")
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"{type(value).__name__} {value!r}"[:80]


def _lab_file(name: str, folder: Path | None) -> Path:
    """A file of the lab that students never see; without a grader it is looked for in the course around this folder."""
    if folder is not None:
        return Path(folder) / name
    here = Path.cwd()
    for parent in (here, *here.parents):
        found = sorted(parent.glob(f"solutions/*/judge/{name}"))
        if found:
            return found[0]
    raise BadQuestion(f"this question needs the file judge/{name} of its lab, which is not found from {here}")
