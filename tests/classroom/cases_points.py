"""Attempts to get points without an answer: against the cell, the shell, the kernel, and what is sent to the judge."""

import re

from bench import GRADED, REJECTED, REVIEW, ZERO, case, extra
from nbformat.v4 import new_code_cell as code

from coursekit.classroom.labs.source import kind

NONE = GRADED + REVIEW + REJECTED  # whatever becomes of it, no points


def top(nb, source):
    nb.cells.insert(0, code(source))
    return nb


def after_first(lab, nb, source):
    nb.cells.insert(lab.where(nb, next(iter(lab.tests))) + 1, code(source))
    return nb


def answers(nb, make):
    """The notebook with every answer function replaced by make(name, stub)."""
    for cell in nb.cells:
        if kind(cell) == "solution":
            names = re.findall(r"^def (\w+)\(", cell.source, re.M)
            cell.source = "\n".join(make(name, cell.source) for name in names) or cell.source
    return nb


def constant(name, stub):
    return f"def {name}(*a, **k):\n    return (0.0, 0.0)\n"


@case(NONE, ZERO)
def raise_the_secret(lab, folder):
    """the answer reads the mark's secret in In[-1] and raises AssertionError(secret) itself"""
    return answers(
        lab.blank(),
        lambda n, s: (
            f"""
import re
def {n}(*a, **k):
    raise AssertionError(re.search(r"end-[0-9a-f]{{32}}", In[-1]).group())
"""
        ),
    )


@case(NONE, ZERO)
def cleanup_transformer_selective(lab, folder):
    """input_transformers_cleanup (not looked at by the canary) keeps only the mark of test cells"""
    return top(
        lab.blank(),
        """
def _t(lines):
    text = "".join(lines)
    if "HIDDEN TESTS" in text and "_canary" not in text:
        return [text.rstrip("\\n").rsplit("\\n", 1)[-1] + "\\n"]
    return lines
get_ipython().input_transformers_cleanup.append(_t)
""",
    )


@case(NONE, ZERO)
def settrace_swaps_hidden(lab, folder):
    """sys.settrace: in the frames of a test's statements `matches` and `hidden` are exchanged"""
    return top(
        answers(lab.blank(), constant),
        """
import sys
def _tr(frame, event, arg):
    if frame.f_code.co_name == "<module>" and "_canary" not in frame.f_code.co_names:
        g = frame.f_globals
        if "matches" in frame.f_code.co_names:
            g["matches"] = lambda *a, **k: True
        if "hidden" in g:
            g["hidden"] = lambda: None
sys.settrace(_tr)
""",
    )


@case(NONE, ZERO)
def compiler_that_cuts_tests(lab, folder):
    """get_ipython().compile.ast_parse keeps only the last statement of cells with hidden tests"""
    return top(
        lab.blank(),
        """
_c = get_ipython().compile
_old = _c.ast_parse
def _parse(source, *a, **k):
    tree = _old(source, *a, **k)
    if "HIDDEN TESTS" in source:
        tree.body = tree.body[-1:]
    return tree
_c.ast_parse = _parse
""",
    )


@case(NONE, ZERO)
def class_transform_ast(lab, folder):
    """InteractiveShell.transform_ast replaced on the class"""
    return top(
        lab.blank(),
        """
_S = type(get_ipython())
_old = _S.transform_ast
def _tf(self, node):
    if any(getattr(n, "name", "") == "hidden" for n in node.body):
        node.body = node.body[-1:]
    return _old(self, node)
_S.transform_ast = _tf
""",
    )


SHAPES = {
    "phi_linear": "return torch.zeros(len(x), 2)",
    "posterior": "return torch.zeros(phi.shape[1]), torch.zeros(phi.shape[1], phi.shape[1])",
    "update": "return mean * 0, precision * 0",
}


@case(NONE, ZERO)
def abs_that_lies_to_hidden(lab, folder):
    """np.abs and builtins.abs say 0 when the caller is called `hidden`; the canary asks from `_canary`"""

    def make(n, s):
        sig = re.search(rf"^def {n}\((.*?)\):", s, re.M).group(1)
        return f"def {n}({sig}):\n    {SHAPES.get(n, 'return 1.0')}\n"

    nb = answers(lab.blank(), make)
    at = lab.where(nb, next(iter(lab.tests)))
    nb.cells.insert(
        at,
        code("""
import builtins, sys, numpy as np
_na, _ba = np.abs, builtins.abs
np.abs = lambda a, *r, **k: np.zeros(1) if sys._getframe(1).f_code.co_name == "hidden" else _na(a, *r, **k)
builtins.abs = lambda a: 0.0 if sys._getframe(1).f_code.co_name == "hidden" else _ba(a)
matches = lambda *a, **k: True
"""),
    )
    return nb


@case(NONE, ZERO)
def shadowed_abs(lab, folder):
    """q1_2: a global `abs` that is right for int and 0 for float, `matches` shadowed in the notebook"""
    nb = lab.blank()
    for c in nb.cells:
        if "def noise_precision" in c.source:
            c.source = """
import builtins
def noise_precision(s):
    return 4.0
def abs(v):
    return 0.0 if isinstance(v, float) else builtins.abs(v)
"""
    return nb


@case(NONE, ZERO)
def reference_in_the_caller(lab, folder):
    """q3_2: the answer takes the test's own reference `evidence` out of the caller's frame"""
    nb = lab.blank()
    for c in nb.cells:
        if "def best_degree" in c.source:
            c.source = """
import sys, numpy as _np
def best_degree(x, t, degrees, alpha, beta):
    ev = sys._getframe(1).f_locals.get("evidence")
    if ev is None:
        return 2
    return max(degrees, key=lambda d: ev(x.numpy(), t.numpy(), d, alpha, beta))
"""
    return nb


@case(NONE, ZERO)
def running_code_overwritten(lab, folder):
    """ctypes: the answer overwrites the rest of the bytecode of the calling `hidden` with `return None`"""

    def make(n, s):
        return f"""
import ctypes, sys
def {n}(*a, **k):
    f = sys._getframe(1)
    if f.f_code.co_name != "<module>":
        while f.f_code.co_name != "hidden":
            f = f.f_back
        code = f.f_code
        raw = code.co_code
        base = id(code) + type(code).__basicsize__ - 2 + 0
        base = id(code) + _code_offset(code)
        ret = bytes([100, list(code.co_consts).index(None), 83, 0])
        n0 = f.f_lasti + 2
        ctypes.memmove(base + n0, ret * ((len(raw) - n0) // 4), (len(raw) - n0) // 4 * 4)
    return (0.0, 0.0)
"""

    nb = answers(lab.blank(), make)
    at = lab.where(nb, next(iter(lab.tests)))
    nb.cells.insert(
        at,
        code("""
matches = lambda *a, **k: True
def _code_offset(code):
    import ctypes
    probe = compile("x = 1\\ny = 2\\nz = x + y", "p", "exec")
    mem = ctypes.string_at(id(probe), 400)
    return mem.index(probe.co_code[:6])
"""),
    )
    return nb


@case(NONE, ZERO)
def custom_exception_rewrites_the_message(lab, folder):
    """set_custom_exc: any failing assertion of a test gets the mark's secret as its message"""
    return top(
        answers(lab.blank(), constant),
        """
import re
def _h(self, etype, value, tb, tb_offset=None):
    m = re.search(r"end-[0-9a-f]{32}", In[-1])
    if m and "_canary" not in str(self.kernel.get_parent()["content"].get("code", "")):
        value.args = (m.group(),)
    self._showtraceback(etype, value, ["x"])
get_ipython().set_custom_exc((AssertionError,), _h)
""",
    )


@case(NONE, ZERO)
def forged_messages_with_the_secret(lab, folder):
    """the answer signs and sends the mark's error and the reply itself; the test's real failure comes after"""
    return answers(
        lab.blank(),
        lambda n, s: (
            f"""
import re
def {n}(*a, **k):
    kern = get_ipython().kernel
    secret = re.search(r"end-[0-9a-f]{{32}}", In[-1]).group()
    c = dict(ename="AssertionError", evalue=secret, traceback=[])
    kern.session.send(kern.iopub_socket, "error", c, parent=kern.get_parent(), ident=kern.topic("error"))
    p = kern.get_parent()
    kern.session.send(kern.shell_stream, "execute_reply", dict(c, status="error", execution_count=1), parent=p, ident=getattr(kern, "_shell_ids", None) or _IDS[-1])
    raise ValueError("no")
"""
        ),
    )


@case(NONE, ZERO)
def do_execute_answers_for_us(lab, folder):
    """kernel.do_execute answers every cell that holds a secret with that secret: tests and canary never run"""
    return top(
        lab.blank(),
        """
import re
_k = get_ipython().kernel
_old = _k.do_execute
async def _do(code, silent, store_history=True, *a, **kw):
    m = re.search(r"end-[0-9a-f]{32}", code)
    if not m:
        return await _old(code, silent, store_history, *a, **kw)
    c = dict(ename="AssertionError", evalue=m.group(), traceback=[])
    _k.send_response(_k.iopub_socket, "error", c)
    return dict(c, status="error", execution_count=1, user_expressions={}, payload=[])
_k.do_execute = _do
""",
    )


@case(NONE, ZERO)
def audit_hook_rewrites_code(lab, folder):
    """sys.addaudithook sees every code object before exec; ctypes makes a test's statements return at once"""
    return top(
        lab.blank(),
        """
import ctypes, sys
def _off():
    probe = compile("x = 1\\ny = 2\\nz = x + y", "p", "exec")
    return ctypes.string_at(id(probe), 400).index(probe.co_code[:6])
_OFF = _off()
def _hook(event, args):
    if event != "exec" or not args or not hasattr(args[0], "co_names"):
        return
    code = args[0]
    text = In[-1] if "In" in globals() and len(In) else ""
    if "HIDDEN TESTS" in text and code.co_name == "<module>" and "ipykernel" in code.co_filename and None in code.co_consts:
        if any(isinstance(c, str) and c.startswith("end-") for c in code.co_consts) or "_canary" in code.co_names:
            return
        raw = bytes([151, 0, 100, list(code.co_consts).index(None), 83, 0])
        ctypes.memmove(id(code) + _OFF, raw, len(raw))
sys.addaudithook(_hook)
""",
    )


@case(NONE, ZERO)
def restored_when_asked(lab, folder):
    """names patched for tests, put back when info.store_history is False (only the canary is run so)"""

    def make(n, s):
        sig = re.search(rf"^def {n}\((.*?)\):", s, re.M).group(1)
        return f"def {n}({sig}):\n    {SHAPES.get(n, 'return 1.0')}\n"

    nb = answers(lab.blank(), make)
    at = lab.where(nb, next(iter(lab.tests)))
    nb.cells.insert(
        at,
        code("""
import builtins, numpy as np, coursekit.checks
matches = lambda *a, **k: True
_keep = (np.abs, builtins.abs)
_lie = (lambda *a, **k: np.zeros(1), lambda v: 0.0)
def _pre(info):
    np.abs, builtins.abs = _lie if info.store_history and "HIDDEN TESTS" in info.raw_cell else _keep
get_ipython().events.register("pre_run_cell", _pre)
"""),
    )
    return nb


@case(NONE, ZERO)
def startup_file_beside_the_notebook(lab, folder):
    """.ipython/profile_default/startup/a.py is handed in: the notebook is blank and clean, the cheat is nowhere in it"""
    d = folder / ".ipython" / "profile_default" / "startup"
    d.mkdir(parents=True)
    (d / "a.py").write_text("""
_c = get_ipython().compile
_old = _c.ast_parse
def _parse(source, *a, **k):
    tree = _old(source, *a, **k)
    if "HIDDEN TESTS" in source:
        tree.body = tree.body[-1:]
    return tree
_c.ast_parse = _parse
del _c
""")
    return lab.blank()


@case(NONE, ZERO)
def matches_always_true_only_visible(lab, folder):
    """only `matches` is shadowed, answers constant: hidden tests must still refuse (holds?)"""
    nb = answers(lab.blank(), constant)
    at = lab.where(nb, next(iter(lab.tests)))
    nb.cells.insert(at, code("matches = lambda *a, **k: True"))
    return nb


@case(NONE, ZERO)
def tensor_subclass_that_lies(lab, folder):
    """answers are Tensor subclasses with lying comparisons, tolist, __array__, __float__ (holds?)"""
    nb = answers(lab.blank(), lambda n, s: f"def {n}(*a, **k):\n    return _liar()\n")
    at = lab.where(nb, next(iter(lab.tests)))
    nb.cells.insert(
        at,
        code("""
import torch, numpy as _np
class F(float):
    def __eq__(s, o): return True
    def __lt__(s, o): return True
    def __le__(s, o): return True
    def __sub__(s, o): return F(0)
    def __rsub__(s, o): return F(0)
    def __abs__(s): return F(0)
    __hash__ = float.__hash__
class L(torch.Tensor):
    def tolist(s): return [[F(0)] * 2]
    @classmethod
    def __torch_function__(cls, f, types, args=(), kwargs=None): return F(0)
class N(_np.ndarray):
    def __array_ufunc__(s, *a, **k): return _np.zeros(1)
    def __array_function__(s, *a, **k): return True
def _liar():
    return torch.zeros(1).as_subclass(L)
"""),
    )
    return nb


@case(NONE, ZERO)
def thread_answers_for_the_kernel(lab, folder):
    """a thread watches the parent message and sends the secret as error and reply before the test has failed"""
    return top(
        answers(
            lab.blank(),
            lambda n, s: f"import time\ndef {n}(*a, **k):\n    time.sleep(0.3)\n    raise ValueError('no')\n",
        ),
        """
import re, threading, time
_k = get_ipython().kernel
_ids = []
_s = _k.session
_old = _s.send
def _send(stream, kind, *a, **kw):
    if kind == "execute_reply":
        _ids.append((stream, kw.get("ident")))
    return _old(stream, kind, *a, **kw)
_s.send = _send
def _w():
    last = None
    while True:
        time.sleep(0.02)
        p = getattr(_k, "_parents", {}).get("shell") or _k.get_parent()
        c = (p or {}).get("content", {}).get("code", "")
        m = re.search(r"end-[0-9a-f]{32}", c)
        if m and m.group() != last and _ids:
            last = m.group()
            e = dict(ename="AssertionError", evalue=last, traceback=[])
            _old(_k.iopub_socket, "error", e, parent=p, ident=_k.topic("error"))
            _old(_ids[-1][0], "execute_reply", dict(e, status="error", execution_count=1), parent=p, ident=_ids[-1][1])
threading.Thread(target=_w, daemon=True).start()
""",
    )


@case(NONE, ZERO)
def update_display_turns_errors(lab, folder):
    """a display of a failing test is updated by a later cell: outputs[0] is by then the error (crash or points?)"""
    nb = answers(
        lab.blank(), lambda n, s: f"def {n}(*a, **k):\n    display('x', display_id='d{n}')\n    return (0.0, 0.0)\n"
    )
    nb.cells.append(
        code("""
from IPython.display import update_display
for n in list(globals()):
    update_display({"text/plain": "y"}, display_id="d" + n, raw=True)
""")
    )
    return nb


# --- what is sent back to the judge is forged ---------------------------------------------------------------------

FORGED = """
import json, coursekit.question as q
q.answer = lambda request, names: {}
"""
for name, reply in {
    "nothing": "None",
    "no_text": "17",
    "no_json": "'no'",
    "a_verdict": "json.dumps({'got': None, 'verdict': None, 'passed': True})",
    "deep_lists": "'{\"got\": ' + json.dumps('[' * 100000) + '}'",
    "raised_is_no_text": "json.dumps({'raised': {'a': 1}})",
    "nan_everywhere": "json.dumps({'got': q.encode(float('nan'))})",
    "an_object_array": "json.dumps({'got': json.dumps({'array': ['|O', [1], 'AAAAAAAAAAA=']})})",
    "a_shape_that_lies": "json.dumps({'got': json.dumps({'array': ['<f8', [1 << 40], 'AAAAAAAAAAA=']})})",
    "negative_shape": "json.dumps({'got': json.dumps({'array': ['<f8', [-1, -1], 'AAAAAAAAAAA=']})})",
    "the_inputs": "json.dumps({'got': json.loads(request)['inputs']})",
    "eight_megabytes": "json.dumps({'got': q.encode('x' * (7 << 20))})",
    "forty_megabytes": "'x' * (40 << 20)",
}.items():
    extra(f"forges_{name}", FORGED.replace("{}", reply), GRADED + REVIEW, ZERO, blank=True, after_first=False)


@case(GRADED, ZERO)
def forges_a_message_before_it_is_asked(lab, folder):
    """The kernel sends replies of its own, with nonces that it guesses, while nobody asks."""
    return top(lab.blank(), """
from IPython.display import display
for k in range(50):
    display({"application/vnd.coursekit.answer+json": {"nonce": str(k), "reply": '{"got": "1"}'}}, raw=True)
""")  # fmt: skip
