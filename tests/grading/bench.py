"""Submissions that are broken, greedy or hostile, made for any released lab, and what has to become of each.

python tests/grading/bench.py LAB [--kit DIR] [--jobs N]     # the whole bench on a lab of the kit
"""

import argparse
import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from coursekit.grading.box import levels
from coursekit.grading.course import Course
from coursekit.grading.lab import Bundle, load, source_notebook
from coursekit.grading.runner import Runner
from coursekit.grading.sample import solved
from coursekit.grading.workshop import Workshop
from coursekit.labs import grade_id, kind

MARK = "bench-sleeper-7391"  # on the command line of every process a case leaves behind


@dataclass
class Lab:
    """A lab and its right answers."""

    name: str
    kit: Path
    bundle: Bundle
    source: object
    release: object

    @classmethod
    def load(cls, kit: Path, name: str) -> "Lab":
        with tempfile.TemporaryDirectory() as folder:
            bundle = load(Course.open(Path(folder), kit), name)
            source = nbformat.reads(source_notebook(Course.open(Path(folder), kit), name), as_version=4)
        release = copy.deepcopy(source)
        stubs = {c.grade_id: c.stub for c in bundle.cells}
        meta = {c.grade_id: c.metadata for c in bundle.cells}
        for cell in release.cells:
            if grade_id(cell) in stubs:
                cell.source, cell.metadata["nbgrader"] = stubs[grade_id(cell)], copy.deepcopy(meta[grade_id(cell)])
        return cls(name, kit, bundle, source, release)

    @property
    def tests(self) -> dict[str, float]:
        return {c.grade_id: c.points for c in self.bundle.cells if c.kind == "test"}

    @property
    def full(self) -> float:
        return sum(self.tests.values())

    @property
    def first(self) -> float:
        """Points of the tests up to and with the first one."""
        return next(iter(self.tests.values()))

    def right(self):
        """A notebook with every answer right."""
        notebook = copy.deepcopy(self.release)
        answers = {grade_id(c): solved(c.source) for c in self.source.cells if kind(c) in ("solution", "manual")}
        for cell in notebook.cells:
            cell.source = answers.get(grade_id(cell), cell.source)
        return notebook

    def blank(self):
        return copy.deepcopy(self.release)

    def where(self, notebook, name: str) -> int:
        return next(i for i, c in enumerate(notebook.cells) if grade_id(c) == name)


@dataclass
class Case:
    """One submission. `make(folder, lab)` writes it; the rest is what has to come out."""

    name: str
    make: Callable
    status: tuple[str, ...]
    score: Callable[[Lab], tuple[float, float]] | None  # lowest and highest score; None for no score
    reason: str = ""
    student: str = ""
    prints: str = ""  # must occur in the graded notebook

    def __post_init__(self):
        self.student = self.student or self.name


CASES: list[Case] = []
FULL = lambda lab: (lab.full, lab.full)  # noqa: E731
FIRST = lambda lab: (lab.first, lab.first)  # noqa: E731
ZERO = lambda lab: (0.0, 0.0)  # noqa: E731
ANY = lambda lab: (0.0, lab.full)  # noqa: E731
SOME = lambda lab: (lab.first, lab.full)  # noqa: E731
GRADED, REVIEW, REJECTED = ("graded",), ("review",), ("rejected",)


def case(status, score, reason="", **more):
    """Register a function that changes a notebook, or returns raw bytes, or writes files itself."""

    def register(function):
        def make(folder: Path, lab: Lab) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            result = function(lab, folder)
            if isinstance(result, bytes):
                (folder / f"{lab.name}.ipynb").write_bytes(result)
            elif result is not None:
                text = json.dumps(result) if not isinstance(result, str) else result
                (folder / f"{lab.name}.ipynb").write_text(text, encoding="utf-8")

        CASES.append(Case(function.__name__, make, status, score, reason, **more))
        return function

    return register


def extra(name: str, source: str, status, score, reason="", *, blank=False, after_first=True, **more):
    """Register a notebook, right or blank, with one more cell after its first test or at its top."""

    def make(folder: Path, lab: Lab) -> None:
        notebook = lab.blank() if blank else lab.right()
        at = lab.where(notebook, next(iter(lab.tests))) + 1 if after_first else 0
        notebook.cells.insert(at, new_code_cell(source))
        write(folder, lab, notebook)

    CASES.append(Case(name, make, status, score, reason, **more))


def write(folder: Path, lab: Lab, notebook) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{lab.name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


# --- honest ---------------------------------------------------------------------------------------------------------


@case(GRADED, FULL)
def a_honest(lab, folder):
    return lab.right()


@case(GRADED, FULL)
def z_honest(lab, folder):
    return lab.right()


@case(GRADED, ZERO)
def untouched(lab, folder):
    return lab.blank()


extra("warnings", "import warnings, sys\nwarnings.warn('careful')\nprint('50%|##', file=sys.stderr)", GRADED, FULL)
extra("asks_input", "input('name? ')", GRADED, FULL)
extra("own_error", "1 / 0", GRADED, FULL)
extra("magics", "%matplotlib inline\n%timeit -n1 -r1 pass\n!true", GRADED, FULL)

# --- time -----------------------------------------------------------------------------------------------------------

extra("loop_in_own_cell", "while True:\n    pass", GRADED, FULL, "time limit")
extra("sleeps_in_own_cell", "import time\ntime.sleep(1000)", GRADED, FULL, "time limit")
SWALLOW = "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
extra("loop_swallows_interrupt", SWALLOW, GRADED, FIRST, "ignored the interrupt")
IGNORE = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass"
extra("loop_ignores_interrupt", IGNORE, GRADED, FIRST, "ignored the interrupt")


@case(GRADED, SOME, "the notebook ran longer than")
def every_cell_slow(lab, folder):
    notebook = lab.right()
    at = lab.where(notebook, next(iter(lab.tests))) + 1
    notebook.cells[at:at] = [new_code_cell("import time\ntime.sleep(3.5)") for _ in range(12)]
    return notebook


@case(GRADED, ANY, "time limit")
def loop_in_answer(lab, folder):
    from coursekit.grading.sample import endless

    notebook = lab.right()
    last = [c for c in notebook.cells if kind(c) == "solution"][-1]
    last.source = endless(last.source)
    return notebook


# --- death ----------------------------------------------------------------------------------------------------------

extra("os_exit", "import os\nos._exit(0)", REVIEW, FIRST, "the kernel died")
extra("kill_self", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", REVIEW, FIRST, "the kernel died")
extra("segfault", "import ctypes\nctypes.string_at(0)", REVIEW, FIRST, "the kernel died")
extra("quits", "quit()", REVIEW + GRADED, SOME)
extra("kill_parent", "import os, signal\ntry:\n    os.kill(os.getppid(), signal.SIGKILL)\nexcept OSError as e:\n    print(e)",
      GRADED, FULL)  # fmt: skip
extra("kill_everybody", "import os, signal\ntry:\n    os.kill(-1, signal.SIGKILL)\nexcept OSError as e:\n    print(e)",
      REVIEW + GRADED, SOME)  # fmt: skip
CHILDREN = f"""
import subprocess, sys
for _ in range(50):
    try:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3000)", "{MARK}"], start_new_session=True)
    except OSError as error:
        print(error)
"""
extra("fifty_children", CHILDREN, GRADED + REVIEW, SOME)
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(5)
        for folder in ("/tmp", "/var/tmp", ".", "OUTSIDE"):
            try:
                open(folder + "/late-bench-7391", "w").close()
            except OSError:
                pass
    os._exit(0)
"""
extra("daemon_outlives", DAEMON, GRADED, FULL)
extra("fork_bomb", "import os\nfor _ in range(3000):\n    try:\n        if os.fork() == 0:\n            import time; time.sleep(60)"
      "\n    except OSError:\n        break\nprint('stopped')", GRADED + REVIEW, ANY)  # fmt: skip
extra("thread_bomb", "import threading, time\ntry:\n    for _ in range(3000):\n        threading.Thread(target=time.sleep, "
      "args=(60,), daemon=True).start()\nexcept RuntimeError as e:\n    print(e)", GRADED + REVIEW, SOME)  # fmt: skip

# --- space ----------------------------------------------------------------------------------------------------------

extra("ten_gigabytes", "block = bytearray(10 << 30)", GRADED, FULL)
extra("memory_bit_by_bit", "keep = []\nwhile True:\n    keep.append(bytearray(32 << 20))", GRADED, SOME)
SHARED = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(b"x") * (400 << 20)
        time.sleep(60)
time.sleep(3)
"""
extra("memory_of_children", SHARED, GRADED, SOME, "memory")
extra("prints_500_mb", "for _ in range(500):\n    print('x' * (1 << 20))", GRADED, FIRST, "printed more than")
extra("one_50_mb_line", "print('x' * (50 << 20))", GRADED, FIRST, "MB")
extra("displays_5000", "from IPython.display import display\nfor k in range(5000):\n    display(k)", GRADED, FULL)
extra("lines_200000", "for k in range(200000):\n    print(k)", GRADED, FULL)
extra("file_of_512_mb", "f = open('big', 'wb')\nfor _ in range(512):\n    f.write(b'x' * (1 << 20))", GRADED, FULL)
extra("files_5000", "for k in range(5000):\n    open(f'f{k}', 'w').write('x')", GRADED, FULL)
extra("fills_tmp", "import shutil\nfor d in ('/tmp', '/dev/shm', '/dev', '/'):\n    try:\n        with open(d + '/fill', 'wb') as f:\n"
      "            for _ in range(400):\n                f.write(b'x' * (1 << 20))\n    except OSError as e:\n        print(d, e)",
      GRADED, FULL)  # fmt: skip


@case(REJECTED, None, "2000")
def cells_20000(lab, folder):
    notebook = lab.right()
    notebook.cells += [new_code_cell("pass") for _ in range(20000)]
    return notebook


@case(REJECTED, None, "50 MB")
def notebook_200_mb(lab, folder):
    write(folder, lab, lab.right())
    os.truncate(folder / f"{lab.name}.ipynb", 200 << 20)


@case(REJECTED, None, "100 files")
def brings_5000_files(lab, folder):
    for k in range(5000):
        (folder / f"f{k}").write_text("x")
    return lab.right()


# --- structure ------------------------------------------------------------------------------------------------------


def tests_of(notebook):
    return [c for c in notebook.cells if kind(c) == "test"]


@case(GRADED, FULL)
def pasted_test(lab, folder):
    notebook = lab.right()
    cell = tests_of(notebook)[0]
    notebook.cells.insert(0, copy.deepcopy(cell))
    return notebook


@case(GRADED, FULL)
def everything_twice(lab, folder):
    notebook = lab.right()
    notebook.cells += copy.deepcopy(notebook.cells)
    return notebook


@case(GRADED, ZERO)
def everything_twice_blank(lab, folder):
    notebook = lab.blank()
    notebook.cells += copy.deepcopy(notebook.cells)
    return notebook


@case(GRADED, FULL)
def all_tests_deleted(lab, folder):
    notebook = lab.right()
    notebook.cells = [c for c in notebook.cells if kind(c) != "test"]
    return notebook


@case(GRADED, ZERO)
def all_tests_deleted_blank(lab, folder):
    notebook = lab.blank()
    notebook.cells = [c for c in notebook.cells if kind(c) != "test"]
    return notebook


@case(GRADED, FULL)
def last_test_deleted(lab, folder):
    notebook = lab.right()
    notebook.cells.remove(tests_of(notebook)[-1])
    return notebook


@case(GRADED, ANY)
def last_answer_deleted(lab, folder):
    notebook = lab.right()
    notebook.cells.remove([c for c in notebook.cells if kind(c) == "solution"][-1])
    return notebook


@case(GRADED + REJECTED, FULL)
def metadata_gone(lab, folder):
    notebook = lab.right()
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


@case(REJECTED, None, "download the lab again")
def metadata_and_ids_gone(lab, folder):
    notebook = lab.right()
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell["id"] = {}, f"c{number}"
    return notebook


def with_metadata(name: str, change: Callable, score=FULL, blank=False):
    def make(folder: Path, lab: Lab) -> None:
        notebook = lab.blank() if blank else lab.right()
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader"):
                change(cell)
        write(folder, lab, notebook)

    CASES.append(Case(name, make, GRADED, score))


with_metadata("schema_1", lambda c: c.metadata.nbgrader.update(schema_version=1))
with_metadata("schema_99", lambda c: c.metadata.nbgrader.update(schema_version=99))
with_metadata("schema_three", lambda c: c.metadata.nbgrader.update(schema_version="three"))
with_metadata("points_1000", lambda c: c.metadata.nbgrader.update(points=1000))
with_metadata("points_1e999_blank", lambda c: c.metadata.nbgrader.update(points="1e999"), ZERO, True)
with_metadata("grade_off", lambda c: c.metadata.nbgrader.update(grade=False))
with_metadata("solution_on_blank", lambda c: c.metadata.nbgrader.update(solution=True, locked=False), ZERO, True)
with_metadata("task_on", lambda c: c.metadata.nbgrader.update(task=True))
with_metadata("wrong_types", lambda c: c.metadata.nbgrader.update(grade="yes", locked=[], cell_type=7, checksum={}))
with_metadata("skip_execution_blank", lambda c: c.metadata.update(tags=["skip-execution"]), ZERO, True)
with_metadata("skip_execution", lambda c: c.metadata.update(tags=["skip-execution"]))
with_metadata("raises_exception_blank", lambda c: c.metadata.update(tags=["raises-exception"]), ZERO, True)
with_metadata("tests_edited_blank", lambda c: c.update(source="pass") if kind(c) == "test" else None, ZERO, True)
with_metadata("tests_edited", lambda c: c.update(source="assert False") if kind(c) == "test" else None)


@case(GRADED, FULL)
def cells_of_another_type(lab, folder):
    notebook = lab.right()
    for cell in notebook.cells:
        if kind(cell) in ("test", "solution"):
            cell.cell_type = "markdown" if kind(cell) == "test" else "raw"
            cell.pop("outputs", None), cell.pop("execution_count", None)
    return notebook


@case(GRADED, FULL)
def tests_first(lab, folder):
    notebook = lab.right()
    tests = tests_of(notebook)
    notebook.cells = tests + [c for c in notebook.cells if c not in tests]
    return notebook


@case(GRADED, ZERO)
def extra_graded_cell_blank(lab, folder):
    notebook = lab.blank()
    cell = copy.deepcopy(tests_of(notebook)[0])
    cell.metadata["nbgrader"] |= {"grade_id": "bonus", "points": 100}
    cell.source = "pass"
    notebook.cells.append(cell)
    return notebook


@case(GRADED, FULL)
def unknown_kernel(lab, folder):
    notebook = lab.right()
    notebook.metadata["kernelspec"] = {"name": "sage", "display_name": "Sage", "language": "sage"}
    return notebook


@case(GRADED, FULL)
def no_cell_ids(lab, folder):
    notebook = lab.right()
    notebook["nbformat_minor"] = 4
    for cell in notebook.cells:
        cell.pop("id", None)
    return notebook


@case(GRADED, FULL)
def same_cell_ids(lab, folder):
    notebook = lab.right()
    for cell in notebook.cells:
        cell["id"] = "same"
    return notebook


@case(GRADED, FULL)
def minor_format_99(lab, folder):
    notebook = lab.right()
    notebook["nbformat_minor"] = 99
    return notebook


@case(GRADED, FULL)
def format_3(lab, folder):
    return nbformat.writes(nbformat.convert(lab.right(), 3), version=3)


# --- the file -------------------------------------------------------------------------------------------------------


@case(GRADED, FULL)
def byte_order_mark(lab, folder):
    return b"\xef\xbb\xbf" + json.dumps(lab.right()).encode()


@case(GRADED, FULL)
def crlf(lab, folder):
    notebook = lab.right()
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")
    return json.dumps(notebook, indent=1).replace("\n", "\r\n").encode()


@case(GRADED, FULL)
def lone_surrogate(lab, folder):
    return json.dumps(lab.right()).replace("# A", "# \\ud800 A").encode()


@case(GRADED, FULL)
def huge_outputs(lab, folder):
    notebook = lab.right()
    notebook.cells.append(new_code_cell("1"))
    notebook.cells[-1]["outputs"] = [nbformat.v4.new_output("stream", text="x" * (20 << 20))]
    return notebook


@case(REJECTED, None, "breaks off")
def truncated(lab, folder):
    return json.dumps(lab.right()).encode()[:-200]


@case(REJECTED, None, "empty")
def empty_file(lab, folder):
    return b""


@case(REJECTED, None, "not JSON")
def not_json(lab, folder):
    return b"<html>please log in</html>"


@case(REJECTED, None, "merge conflict")
def merge_conflict(lab, folder):
    text = json.dumps(lab.right(), indent=1)
    return text.replace("\n", "\n<<<<<<< HEAD\n", 1).replace("}", "=======\n>>>>>>> theirs\n}", 1)


@case(REJECTED, None, "UTF-8")
def latin_1(lab, folder):
    return '{"cells": [], "nbformat": 4, "x": "é"}'.encode("latin-1")


@case(REJECTED, None, "UTF-16")
def utf_16(lab, folder):
    return json.dumps(lab.right()).encode("utf-16")


@case(REJECTED, None, "format 9")
def format_9(lab, folder):
    notebook = lab.right()
    notebook["nbformat"] = 9
    return notebook


@case(REJECTED, None, "list")
def a_list(lab, folder):
    return b"[1, 2, 3]"


@case(REJECTED, None, "nested")
def nested_100000(lab, folder):
    return b"[" * 100000 + b"]" * 100000


@case(REJECTED, None, "no list of cells")
def no_cells(lab, folder):
    return b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}'


@case(REJECTED, None, "rename it")
def wrong_name(lab, folder):
    (folder / f"{lab.name} (1).ipynb").write_text(json.dumps(lab.right()))


@case(REJECTED, None, "no notebook")
def no_notebook(lab, folder):
    (folder / "answers.docx").write_bytes(b"PK")


@case(REJECTED, None, "empty")
def empty_folder(lab, folder):
    return None


@case(GRADED, FULL)
def garbage_timestamp(lab, folder):
    (folder / "timestamp.txt").write_text("yesterday-ish")
    return lab.right()


@case(GRADED, FULL)
def forged_timestamp(lab, folder):
    (folder / "timestamp.txt").write_text("1970-01-01 00:00:00 UTC")
    return lab.right()


@case(GRADED, FULL)
def extra_notebook(lab, folder):
    (folder / "other.ipynb").write_text("nonsense")
    return lab.right()


for number, student in enumerate(("Zoë d'Été", "with spaces", "plus+at@sign.org")):
    CASES.append(Case(f"id_{number}", lambda f, lab: write(f, lab, lab.right()), GRADED, FULL, student=student))
for number, student in enumerate(("glob*", "[ab]", "que?stion", "-rf;{x}")):
    rejected = Case(f"bad_id_{number}", lambda f, lab: write(f, lab, lab.right()), REJECTED, None, "student id")
    CASES.append(replace(rejected, student=student))


@case(REJECTED, None, "symbolic link")
def link_to_solution(lab, folder):
    target = lab.kit / "solutions" / lab.name / f"{lab.name}.ipynb"
    (folder / f"{lab.name}.ipynb").symlink_to(target)


@case(REJECTED, None, "symbolic link")
def link_to_gradebook(lab, folder):
    (folder / "data.csv").symlink_to("../../../gradebook.db")
    return lab.right()


@case(REJECTED, None, "symbolic link")
def dangling_link(lab, folder):
    (folder / "data.csv").symlink_to("nowhere")
    return lab.right()


@case(REJECTED, None, "named pipe")
def named_pipe(lab, folder):
    os.mkfifo(folder / f"{lab.name}.ipynb")


def linked_folder(folder: Path, lab: Lab) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(lab.kit / "solutions" / lab.name)


CASES.append(Case("linked_folder", linked_folder, REJECTED, None, "symbolic link"))

# --- theft and sabotage ---------------------------------------------------------------------------------------------

LOOK = """
import glob, os, pathlib
seen = []
for root in ("KIT", "COURSE", "/work", "/root", "/home", "/tmp", "/var", "/run", "."):
    for folder, _, files in os.walk(root):
        if "site-packages" in folder or "/lib/python" in folder or folder.startswith("/run/kernel"):
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
    "ast_transformer": "import ast\nclass T(ast.NodeTransformer):\n    def visit_Assert(self, node):\n        return ast.Pass()\n"
    "get_ipython().ast_transformers.append(T())\nclass D(ast.NodeTransformer):\n    def visit_Expr(self, node):\n"
    "        return ast.Pass()\nget_ipython().ast_transformers.append(D())",
    "ast_empties_cells": "import ast\nclass T(ast.NodeTransformer):\n    def visit_Module(self, node):\n        node.body = []\n"
    "        return node\nget_ipython().ast_transformers.append(T())",
    "input_transformer": "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])",
    "input_transformer_cleanup": "get_ipython().input_transformers_cleanup.append(lambda lines: ['pass\\n'])",
    "wrapped_run_cell": "ip = get_ipython()\nold = ip.run_cell\ndef run(raw, *a, **k):\n    return old('pass', *a, **k)\nip.run_cell = run",
    "wrapped_run_cell_async": "ip = get_ipython()\nold = ip.run_cell_async\nasync def run(raw, *a, **k):\n"
    "    return await old('pass', *a, **k)\nip.run_cell_async = run\nip.should_run_async = lambda *a, **k: True",
    "replaced_do_execute": "k = get_ipython().kernel\nasync def do(*a, **kw):\n"
    "    return {'status': 'ok', 'execution_count': 1, 'payload': [], 'user_expressions': {}}\nk.do_execute = do",
    "patched_class": "from IPython.core.interactiveshell import InteractiveShell as S\n"
    "async def run(self, *a, **k):\n    return False\nS.run_code = run",
    "patched_numpy_testing": "import numpy as np, numpy.testing\nfor name in dir(numpy.testing):\n    if name.startswith('assert'):\n"
    "        setattr(numpy.testing, name, lambda *a, **k: None)\n"
    "class Any(float):\n    pass\ndef mean(v): return 0.0",
    "fake_module": "import sys, types\nfake = types.ModuleType('numpy.testing')\nfake.__getattr__ = lambda name: (lambda *a, **k: None)\n"
    "import numpy\nsys.modules['numpy.testing'] = fake\nnumpy.testing = fake\ndef mean(v): return 0.0",
    "displayhook_ok": "for _n in ('double', 'mean', 'squares'):\n    pass\nclass L(dict):\n    pass\n"
    "def double(x):\n    get_ipython().displayhook('ok')\n    return 0",
    "displayhook_nan": "def double(x):\n    get_ipython().displayhook(float('nan'))\n    return 0",
    "displayhook_billion": "def double(x):\n    get_ipython().displayhook(1e9)\n    return 0",
    "showtraceback_off": "get_ipython().showtraceback = lambda *a, **k: None\nget_ipython()._showtraceback = lambda *a, **k: None",
    "custom_exception_handler": "get_ipython().set_custom_exc((BaseException,), lambda *a, **k: None)",
    "system_exit": "import builtins\ndef double(x): raise SystemExit(0)",
    "keyboard_interrupt": "def double(x): raise KeyboardInterrupt",
    "patched_isinstance": "import builtins\nbuiltins.isinstance = lambda *a: True",
    "patched_assertion_error": "import builtins\nclass Never(BaseException): pass\nbuiltins.AssertionError = Never",
    "forged_iopub": "k = get_ipython().kernel\nold = k.send_response\ndef send(stream, kind, content=None, *a, **kw):\n"
    "    if kind == 'error':\n        return\n    return old(stream, kind, content, *a, **kw)\nk.send_response = send",
    "forged_reply": "k = get_ipython().kernel\nfor s in (k.session,):\n    old = s.send\n    def send(stream, kind, content=None, *a, **kw):\n"
    "        if kind == 'execute_reply' and isinstance(content, dict):\n"
    "            content = {'status': 'ok', 'execution_count': 1, 'payload': [], 'user_expressions': {}}\n"
    "        if kind == 'error':\n            return {}\n"
    "        return old(stream, kind, content, *a, **kw)\n    s.send = send",
    "always_equal": "class E:\n    def __eq__(s, o): return True\n    def __len__(s): return 1\n    def __iter__(s): return iter([])\n"
    "double = mean = squares = lambda *a: E()",
    "int_subclass": "class I(int):\n    def __eq__(s, o): return True\n    def __hash__(s): return 0\n"
    "double = mean = squares = lambda *a: I(0)",
    "reads_the_running_test": "import re\ndef double(x):\n    m = re.search(r'== (\\d+)', In[-1])\n    return int(m.group(1)) if m else 0\n"
    "mean = squares = double",
    "patched_numpy_allclose": "import numpy as np\nnp.allclose = lambda *a, **k: True\nnp.array_equal = lambda *a, **k: True",
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
        0, new_code_cell("import my_helper\nassert open('data/table.csv').read() and my_helper.VALUE == 1")
    )
    notebook.cells.insert(1, new_code_cell("print('HELPED', my_helper.VALUE)"))
    return notebook


# --- running it -----------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of a run of the bench."""

    rows: dict
    notebooks: dict[str, str]
    before: dict[str, str]
    after: dict[str, str]
    leftovers: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def write_class(course: Course, lab: Lab, cases: list[Case]) -> None:
    """The submissions and a roster that also lists students who have none, and one that tries to leave the course."""
    for one in cases:
        try:
            one.make(course.root / "submitted" / one.student / lab.name, lab)
        except OSError as error:
            raise RuntimeError(f"{one.name}: {error}") from error
        notebook = course.root / "submitted" / one.student / lab.name / f"{lab.name}.ipynb"
        if notebook.is_file() and not notebook.is_symlink() and notebook.stat().st_size < 1 << 20:
            data = notebook.read_bytes().replace(b"COURSE", str(course.root).encode())
            notebook.write_bytes(data.replace(b"KIT", str(lab.kit).encode()))
    names = [one.student for one in cases] + ["../../x", "never_came"]
    quoted = ('"' + name.replace('"', '""') + '"' for name in names)
    (course.root / "roster.csv").write_text("student\n" + "\n".join(quoted) + "\n", encoding="utf-8")


def run(course: Course, lab: Lab, cases: list[Case], *, jobs: int = 2, level=None, report=None) -> Outcome:
    """Grade the bench once and look at what it left."""
    write_class(course, lab, cases)
    before = snapshot(course, lab)
    os.environ["BENCH_SECRET"] = "not for students"
    hidden = (str(course.root), str(course.kit))
    open_pool = partial(Workshop, lab.bundle, course.limits, level or levels.probe(), hidden=hidden, jobs=jobs)
    runner = Runner(course, lab.bundle, course.limits, open_pool, report=report)
    rows = {row.student: row for row in runner.run(course.folder("submitted"))}
    texts = {}
    for one in cases:
        path = course.folder("autograded") / one.student / lab.name / f"{lab.name}.ipynb"
        texts[one.student] = path.read_text(encoding="utf-8") if path.is_file() else ""
    outcome = Outcome(rows, texts, before, snapshot(course, lab), leftovers())
    outcome.missed = [f"{one.name}: {problem}" for one in cases if (problem := verdict(one, lab, outcome))]
    return outcome


def verdict(one: Case, lab: Lab, outcome: Outcome) -> str:
    """What is wrong with the outcome of a case; empty if nothing is."""
    row = outcome.rows.get(one.student)
    if row is None:
        return "has no row"
    got = f"{row.status} {row.score} {row.reason!r}"
    if row.status not in one.status:
        return f"expected {' or '.join(one.status)}, got {got}"
    if row.score is None:
        return "" if row.status == "rejected" and one.reason in row.reason else f"expected {one.reason!r}, got {got}"
    low, high = one.score(lab) if one.score else (None, None)
    if low is None or not low <= row.score <= high:
        return f"expected a score from {low} to {high}, got {got}"
    if one.reason not in row.reason:
        return f"expected the reason to say {one.reason!r}, got {got}"
    if one.prints and one.prints not in outcome.notebooks[one.student]:
        return f"expected it to print {one.prints!r}"
    return ""


def snapshot(course: Course, lab: Lab) -> dict[str, str]:
    """Digests of what no submission may change."""
    files = [p for root in (lab.kit / "solutions" / lab.name, course.root / "submitted") for p in root.rglob("*")]
    files += [lab.kit / "nbgrader_config.py", course.root / "roster.csv"]
    regular = [p for p in files if p.is_file() and not p.is_symlink() and p.stat().st_size < 64 << 20]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in regular}


def leftovers() -> list[str]:
    """Processes and files that a submission left behind."""
    shown = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    found = [line for line in shown.splitlines() if MARK in line]
    return found + [p for p in ("/tmp/late-bench-7391", "/var/tmp/late-bench-7391") if os.path.exists(p)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab")
    parser.add_argument("--kit", type=Path, default=Path.cwd())
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cell-seconds", type=int, default=20)
    parser.add_argument("--only", default="", help="a regular expression that names of cases must match")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    course = Course.open(folder, args.kit.resolve())
    course.config.CourseKit.update(cell_seconds=args.cell_seconds, total_seconds=6 * args.cell_seconds)
    lab = Lab.load(args.kit.resolve(), args.lab)
    cases = [one for one in CASES if re.search(args.only, one.name)]

    def report(done, total, student, result, left):
        print(
            f"[{done}/{total}] {student}: {result['status']} {result.get('score')} {result['wall_s']} s",
            file=sys.stderr,
        )

    outcome = run(course, lab, cases, jobs=args.jobs, report=report)
    changed = [p for p in outcome.before if outcome.before[p] != outcome.after.get(p)]
    problems = outcome.missed + outcome.leftovers + [f"changed: {p}" for p in changed]
    print("\n".join(problems) or "the bench holds")
    print(f"{len(cases)} cases, {len(problems)} problems; {folder}")
    if not problems:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
