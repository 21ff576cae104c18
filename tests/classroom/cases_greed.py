"""Honest submissions, and those that take more than their share of time, memory, disk or processes."""

import os

from bench import ANY, FIRST, FULL, GRADED, MARK, REJECTED, REVIEW, SOME, ZERO, case, extra, write
from nbformat.v4 import new_code_cell

from coursekit.classroom.labs.source import kind

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


extra(
    "warnings",
    """
import warnings, sys
warnings.warn('careful')
print('50%|##', file=sys.stderr)
""",
    GRADED,
    FULL,
)
extra("asks_input", "input('name? ')", GRADED, FULL)
extra("own_error", "1 / 0", GRADED, FULL)
extra("magics", "%matplotlib inline\n%timeit -n1 -r1 pass\n!true", GRADED, FULL)


# --- time -----------------------------------------------------------------------------------------------------------

extra("loop_in_own_cell", "while True:\n    pass", GRADED, FULL, "time limit")
extra("sleeps_in_own_cell", "import time\ntime.sleep(1000)", GRADED, FULL, "time limit")
SWALLOW = """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""
extra("loop_swallows_interrupt", SWALLOW, GRADED, FIRST, "ignored the interrupt")
IGNORE = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    pass
"""
extra("loop_ignores_interrupt", IGNORE, GRADED, FIRST, "ignored the interrupt")


@case(GRADED, SOME, "the notebook ran longer than")
def every_cell_slow(lab, folder):
    notebook = lab.right()
    at = lab.where(notebook, next(iter(lab.tests))) + 1
    notebook.cells[at:at] = [new_code_cell("import time\ntime.sleep(3.5)") for _ in range(40)]
    return notebook


@case(GRADED, ANY, "time limit")
def loop_in_answer(lab, folder):
    from coursekit.classroom.labs.sample import endless

    notebook = lab.right()
    last = [c for c in notebook.cells if kind(c) == "solution"][-1]
    last.source = endless(last.source)
    return notebook


# --- death ----------------------------------------------------------------------------------------------------------

extra("os_exit", "import os\nos._exit(0)", REVIEW, FIRST, "the kernel died")
extra("kill_self", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", REVIEW, FIRST, "the kernel died")
extra("segfault", "import ctypes\nctypes.string_at(0)", REVIEW, FIRST, "the kernel died")
extra("quits", "quit()", REVIEW + GRADED, SOME)
extra("kill_parent", """
import os, signal
try:
    os.kill(os.getppid(), signal.SIGKILL)
except OSError as e:
    print(e)
""",
      GRADED, FULL)  # fmt: skip
extra("kill_everybody", """
import os, signal
try:
    os.kill(-1, signal.SIGKILL)
except OSError as e:
    print(e)
""",
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
extra("fork_bomb", """
import os
for _ in range(3000):
    try:
        if os.fork() == 0:
            import time; time.sleep(60)
    except OSError:
        break
print('stopped')
""", GRADED + REVIEW, ANY)  # fmt: skip
extra("thread_bomb", """
import threading, time
try:
    for _ in range(3000):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
except RuntimeError as e:
    print(e)
""", GRADED + REVIEW, SOME)  # fmt: skip


# --- space ----------------------------------------------------------------------------------------------------------

extra("ten_gigabytes", "block = bytearray(10 << 30)", GRADED, FULL)
# What is kept stays: later cells have no memory left, and a C library may take the kernel down with it.
extra("memory_bit_by_bit", "keep = []\nwhile True:\n    keep.append(bytearray(32 << 20))", GRADED + REVIEW, SOME)
SHARED = """
import os, time
read, write = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(b"x") * (400 << 20)
        os.write(write, b"x")
        time.sleep(60)
for _ in range(8):
    os.read(read, 1)
time.sleep(1)
"""
extra("memory_of_children", SHARED, GRADED, SOME, "memory")
extra(
    "prints_500_mb", "for _ in range(500):\n    print('x' * (1 << 20), flush=True)", GRADED, FIRST, "printed more than"
)
# As one message this may be more than the kernel's memory holds: it then says so, and the other answers count.
extra("prints_500_mb_at_once", "for _ in range(500):\n    print('x' * (1 << 20))", GRADED, SOME)
extra("one_50_mb_line", "print('x' * (50 << 20))", GRADED, FIRST, "MB")


@case(GRADED, FULL, "MB")
def one_50_mb_line_at_the_end(lab, folder):
    notebook = lab.right()
    notebook.cells.append(new_code_cell("print('x' * (50 << 20))"))
    return notebook


# A limit reached while a question is asked ends that question, and is no sign of deceit.
asked = "import time, coursekit.question\ncoursekit.question.answer = lambda *_: {}".format
extra("slow_when_asked", asked("time.sleep(1000)"), GRADED, FIRST, "stopped at its time limit")
prints = "[print('x' * (1 << 20), flush=True) for _ in range(500)]"
extra("prints_when_asked", asked(prints), GRADED, FIRST, "printed more than")
extra(
    "displays_5000",
    """
from IPython.display import display
for k in range(5000):
    display(k)
""",
    GRADED,
    FULL,
)
extra("lines_200000", "for k in range(200000):\n    print(k)", GRADED, FULL)
extra(
    "file_of_512_mb",
    """
f = open('big', 'wb')
for _ in range(512):
    f.write(b'x' * (1 << 20))
""",
    GRADED,
    FULL,
)
extra("files_5000", "for k in range(5000):\n    open(f'f{k}', 'w').write('x')", GRADED, FULL)
extra("fills_tmp", """
import shutil
for d in ('/tmp', '/dev/shm', '/dev', '/'):
    try:
        with open(d + '/fill', 'wb') as f:
            for _ in range(400):
                f.write(b'x' * (1 << 20))
    except OSError as e:
        print(d, e)
""",
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
