"""Submissions that look around, write where they should not, or want points for nothing."""

from pathlib import Path

from bench import CASES, FIRST, FULL, GRADED, REVIEW, ZERO, Case, Lab, case, extra, write
from nbformat.v4 import new_code_cell

from coursekit.classroom.labs.source import kind

# --- theft and sabotage ---------------------------------------------------------------------------------------------

LOOK = """
import glob, os, pathlib
seen = []
for root in ("KIT", "COURSE", "/work", "/root", "/home", "/tmp", "/var", "/run", "."):
    for folder, _, files in os.walk(root):
        if any(part in folder for part in ("site-packages", "/lib/python", "/coursekit/classroom/pages/templates")) or folder.startswith("/run/kernel"):
            continue
        seen += [os.path.join(folder, f) for f in files
                 if f.endswith((".db", ".ipynb", ".json", ".zip", ".csv")) and "/.pyenv/" not in folder and "/.venv/" not in folder]
for path in ("KIT/nbgrader_config.py", "COURSE/gradebook.db", "COURSE/submitted", "KIT/solutions", "/etc/passwd", "/etc/shadow"):
    if os.path.exists(path):
        seen.append(path)
print("SEEN", seen)
pids = [p for p in os.listdir("/proc") if p.isdigit()]
print("PIDS", len(pids) < 8)
print("ENV", sorted(k for k in os.environ if "KEY" in k or "TOKEN" in k or "SECRET" in k or k == "BENCH_SECRET"))
"""
extra("reads_around", LOOK, GRADED, FULL, prints="SEEN []")
NETWORK = """
import socket
for target in (("192.0.2.1", 80), ("8.8.8.8", 53), ("127.0.0.1", 22)):
    try:
        socket.create_connection(target, 0.5)
        print("OPEN", target)
    except OSError as error:
        print("closed", error.errno)
print("INTERFACES", [n for _, n in socket.if_nameindex()])
"""
extra("network", NETWORK, GRADED, FULL, prints="INTERFACES ['lo']")
WRITE = """
import os, site, sqlite3, sys
wrote = []
targets = ["COURSE/gradebook.db", "COURSE/roster.csv", "COURSE/submitted/a_honest/x", "KIT/nbgrader_config.py", "KIT/solutions/x",
           os.path.join(sys.prefix, "x"), os.path.join(site.getsitepackages()[0], "x.py"), "/usr/x", "/etc/x", "/x", "/dev/x",
           os.path.join(sys.base_prefix, "x"), os.path.dirname(__import__("coursekit").__file__) + "/x.py"]
for path in targets:
    try:
        with open(path, "a") as f:
            f.write("# written by a submission")
        wrote.append(path)
    except OSError:
        pass
for path in ("COURSE/gradebook.db", "../../../gradebook.db"):
    try:
        c = sqlite3.connect(path)
        c.execute("update grade set manual_score = 999")
        c.commit()
        wrote.append(path)
    except sqlite3.Error:
        pass
os.makedirs(os.path.expanduser("~/.ipython/profile_default/startup"), exist_ok=True)
open(os.path.expanduser("~/.ipython/profile_default/startup/evil.py"), "w").write("raise SystemExit")
print("WROTE", wrote)
"""
extra("writes_around", WRITE, GRADED, FULL, prints="WROTE []")
ESCAPE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
done = []
for name, call in (("unshare user", lambda: libc.unshare(0x10000000)), ("mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
                   ("setuid", lambda: libc.setuid(0)), ("chroot", lambda: libc.chroot(b"/")),
                   ("setns", lambda: libc.setns(os.open("/proc/1/ns/mnt", 0), 0)), ("sethostname", lambda: libc.sethostname(b"x", 1))):
    try:
        if call() == 0 and name != "unshare user":
            done.append(name)
    except OSError:
        pass
print("ESCAPED", done, os.getuid() != 0)
"""
extra("escapes", ESCAPE, GRADED, FULL, prints="ESCAPED [] True")


# --- tricks for points: wrong or no answers, worth nothing ----------------------------------------------------------

CHEATS = {
    "ast_transformer": """
import ast
class T(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()
get_ipython().ast_transformers.append(T())
class D(ast.NodeTransformer):
    def visit_Expr(self, node):
        return ast.Pass()
get_ipython().ast_transformers.append(D())
""",
    "ast_empties_cells": """
import ast
class T(ast.NodeTransformer):
    def visit_Module(self, node):
        node.body = []
        return node
get_ipython().ast_transformers.append(T())
""",
    "input_transformer": "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])",
    "input_transformer_cleanup": "get_ipython().input_transformers_cleanup.append(lambda lines: ['pass\\n'])",
    "wrapped_run_cell": """
ip = get_ipython()
old = ip.run_cell
def run(raw, *a, **k):
    return old('pass', *a, **k)
ip.run_cell = run
""",
    "wrapped_run_cell_async": """
ip = get_ipython()
old = ip.run_cell_async
async def run(raw, *a, **k):
    return await old('pass', *a, **k)
ip.run_cell_async = run
ip.should_run_async = lambda *a, **k: True
""",
    "replaced_do_execute": """
k = get_ipython().kernel
async def do(*a, **kw):
    return {'status': 'ok', 'execution_count': 1, 'payload': [], 'user_expressions': {}}
k.do_execute = do
""",
    "patched_class": """
from IPython.core.interactiveshell import InteractiveShell as S
async def run(self, *a, **k):
    return False
S.run_code = run
""",
    "patched_numpy_testing": """
import numpy as np, numpy.testing
for name in dir(numpy.testing):
    if name.startswith('assert'):
        setattr(numpy.testing, name, lambda *a, **k: None)
class Any(float):
    pass
def mean(v): return 0.0
""",
    "fake_module": """
import sys, types
fake = types.ModuleType('numpy.testing')
fake.__getattr__ = lambda name: (lambda *a, **k: None)
import numpy
sys.modules['numpy.testing'] = fake
numpy.testing = fake
def mean(v): return 0.0
""",
    "displayhook_ok": """
for _n in ('double', 'mean', 'squares'):
    pass
class L(dict):
    pass
def double(x):
    get_ipython().displayhook('ok')
    return 0
""",
    "displayhook_nan": """
def double(x):
    get_ipython().displayhook(float('nan'))
    return 0
""",
    "displayhook_billion": """
def double(x):
    get_ipython().displayhook(1e9)
    return 0
""",
    "showtraceback_off": """
get_ipython().showtraceback = lambda *a, **k: None
get_ipython()._showtraceback = lambda *a, **k: None
""",
    "custom_exception_handler": "get_ipython().set_custom_exc((BaseException,), lambda *a, **k: None)",
    "system_exit": "import builtins\ndef double(x): raise SystemExit(0)",
    "keyboard_interrupt": "def double(x): raise KeyboardInterrupt",
    "patched_isinstance": "import builtins\nbuiltins.isinstance = lambda *a: True",
    "patched_assertion_error": """
import builtins
class Never(BaseException): pass
builtins.AssertionError = Never
""",
    "forged_iopub": """
k = get_ipython().kernel
old = k.send_response
def send(stream, kind, content=None, *a, **kw):
    if kind == 'error':
        return
    return old(stream, kind, content, *a, **kw)
k.send_response = send
""",
    "forged_reply": """
k = get_ipython().kernel
for s in (k.session,):
    old = s.send
    def send(stream, kind, content=None, *a, **kw):
        if kind == 'execute_reply' and isinstance(content, dict):
            content = {'status': 'ok', 'execution_count': 1, 'payload': [], 'user_expressions': {}}
        if kind == 'error':
            return {}
        return old(stream, kind, content, *a, **kw)
    s.send = send
""",
    "always_equal": """
class E:
    def __eq__(s, o): return True
    def __len__(s): return 1
    def __iter__(s): return iter([])
double = mean = squares = lambda *a: E()
""",
    "int_subclass": """
class I(int):
    def __eq__(s, o): return True
    def __hash__(s): return 0
double = mean = squares = lambda *a: I(0)
""",
    "reads_the_running_test": """
import re
def double(x):
    m = re.search(r'== (\\d+)', In[-1])
    return int(m.group(1)) if m else 0
mean = squares = double
""",
    "patched_numpy_allclose": """
import numpy as np
np.allclose = lambda *a, **k: True
np.array_equal = lambda *a, **k: True
""",
}  # fmt: skip


def cheat(name: str, source: str) -> None:
    def make(folder: Path, lab: Lab) -> None:
        notebook = lab.blank()
        # every answer is blank but defined, so that only the trick could pass a test
        for cell in notebook.cells:
            if kind(cell) == "solution":
                cell.source = "import numpy as np\n" + source
        write(folder, lab, notebook)

    CASES.append(Case(f"cheat_{name}", make, GRADED + REVIEW, ZERO))


for _name, _source in CHEATS.items():
    cheat(_name, _source)


@case(GRADED + REVIEW, ZERO)
def numpy_beside_the_notebook(lab, folder):
    for name in ("numpy", "random", "math"):
        (folder / f"{name}.py").write_text("def __getattr__(name):\n    return lambda *a, **k: 0\n")
    return lab.blank()


@case(GRADED, FULL)
def helper_beside_the_notebook(lab, folder):
    (folder / "my_helper.py").write_text("VALUE = 1\n")
    (folder / "data").mkdir()
    (folder / "data" / "table.csv").write_text("a,b\n1,2\n")
    notebook = lab.right()
    notebook.cells.insert(
        0,
        new_code_cell("""
import my_helper
assert open('data/table.csv').read() and my_helper.VALUE == 1
"""),
    )
    notebook.cells.insert(1, new_code_cell("print('HELPED', my_helper.VALUE)"))
    return notebook


FORGED_FRAMES = """
frames = [b"stream", b"<IDS|MSG>", b"no signature", b"{}", b"{}", b"{}", b"no json"]
get_ipython().kernel.iopub_socket.send_multipart(frames)
"""
extra("frames_that_cannot_be_read", FORGED_FRAMES, REVIEW, FIRST, "could not be read")


HALF_A_PAIR = """
import json
k = get_ipython().kernel
when = {"date": "2026-01-01T00:00:00"}
header, parent = k.session.msg_header("stream") | when, k.get_parent()["header"] | when
parts = [json.dumps(part).encode() for part in (header, parent, {}, {"name": "stdout", "text": "half \\ud800 a pair"})]
k.iopub_socket.send_multipart([b"stream", b"<IDS|MSG>", k.session.sign(parts), *parts])
"""
extra("text_that_cannot_be_written", HALF_A_PAIR, GRADED, FULL, prints="half ? a pair")
