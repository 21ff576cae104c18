"""Start a kernel in a box: forked from a process that has imported what the lab imports, so that it starts at once.

The fork server that runs this module executes only import statements of the lab's own source. Each kernel is a fresh
fork of it, so nothing of one student reaches the next.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
from pathlib import Path

from . import enter
from .bubblewrap import HOME, SOCKETS
from .forkserver import receive, send

NEEDED = ("ipykernel.kernelapp", "ipykernel.ipkernel", "IPython.core.completer")


def prepare(settings: dict) -> None:
    """Import what kernels need; a module that cannot be imported is left for the notebook to complain about."""
    for name in (*NEEDED, *settings["modules"]):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    sys.path[:] = [p for p in sys.path if p not in ("", "/")]
    gc.collect()
    gc.freeze()  # children do not touch, and so do not copy, what is there already


def finish() -> None:
    """Nothing is left behind: kernels end with their boxes."""


def environment(home: str) -> dict[str, str]:
    """All that a kernel finds in its environment."""
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    own = {"HOME": home, "TMPDIR": "/tmp" if home == HOME else home, "USER": "student", "LOGNAME": "student"}
    mpl = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MPLCONFIGDIR": f"{home}/.config/matplotlib"}
    ipy = {"IPYTHONDIR": f"{home}/.ipython", "PYTHONDONTWRITEBYTECODE": "1", "NBGRADER_EXECUTION": "autograde"}
    return {**own, **one, **mpl, **ipy, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}


def start(connection: socket.socket) -> None:
    """Enter the box that the request names, leave a kernel in it, and report how the kernel ended."""
    request, _ = receive(connection)
    files = _read_files(Path(request["files"]))
    if request["box_pid"] is not None:
        enter.enter(request["box_pid"])
    if os.fork():  # only a child is inside the new pid namespace; the parent has nothing more to do
        os._exit(0)
    boxed = request["box_pid"] is not None
    home = HOME if boxed else request["home"]
    _fill_home(home, files, request["uid"], mode=0o700)
    enter.set_limits(request["limits"])
    if boxed:
        enter.drop_privileges(request["uid"])
        enter.set_dumpable(False)
    kernel = os.fork()
    if kernel == 0:
        connection.close()
        _become_kernel(home, SOCKETS if boxed else request["sockets"], request["connection"])
    _watch(kernel, connection)


def _read_files(folder: Path) -> dict[str, bytes]:
    """The files of a submission as bytes: what is read before entering the box is all that gets in."""
    wanted = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {str(p.relative_to(folder)): p.read_bytes() for p in wanted if p.suffix != ".ipynb"}


def _fill_home(home: str, files: dict[str, bytes], uid: int | None, *, mode: int) -> None:
    os.umask(0o077)
    made = [Path(home)]
    Path(home).mkdir(mode=mode, exist_ok=True)
    for name, data in files.items():
        path = Path(home, name)
        for parent in reversed([p for p in path.parents if Path(home) in p.parents]):
            parent.mkdir(exist_ok=True)
            made.append(parent)
        path.write_bytes(data)
        made.append(path)
    if uid is not None:
        for path in made:
            os.chown(path, uid, uid)
    os.chdir(home)


def _become_kernel(home: str, sockets: str, connection_info: dict) -> None:
    """Turn this process into an IPython kernel; does not return."""
    try:
        os.setsid()
        os.dup2(1, 2)  # not to the terminal of whoever grades
        os.closerange(3, 4096)
        if home == HOME:
            enter.set_dumpable(True)
        os.environ.clear()
        os.environ.update(environment(home))
        random.seed()
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()  # a fork would repeat the parent's unseeded state
        file = Path(home, ".kernel.json")
        file.write_text(json.dumps({**connection_info, "ip": f"{sockets}/k"}))
        sys.argv = ["ipykernel_launcher", "-f", str(file)]
        sys.path.append(home)  # last: a numpy.py beside the notebook is nobody's numpy
        from ipykernel.kernelapp import IPKernelApp

        options = ["--HistoryManager.hist_file=:memory:", "--InteractiveShellApp.ignore_cwd=True"]
        app = IPKernelApp.instance()
        app.initialize(["-f", str(file), *options])
        backend = sys.modules.get("matplotlib_inline.backend_inline")
        if backend is not None:  # imported before there was a shell to show figures
            backend._enable_matplotlib_integration()
        file.unlink()  # it holds the kernel's key
        app.start()
    finally:
        os._exit(1)


def _watch(kernel: int, connection: socket.socket) -> None:
    """Hand a handle of the kernel out of the box, wait for its end or for the grader's, and say how it ended."""
    handle = os.pidfd_open(kernel)
    send(connection, {"pid": kernel}, fds=(handle,))
    ready, _, _ = select.select([handle, connection], [], [])
    if handle not in ready:  # the grader has gone away
        with contextlib.suppress(OSError):
            os.killpg(kernel, signal.SIGKILL)
            os.kill(kernel, signal.SIGKILL)
    _, status, used = os.wait4(kernel, 0)
    ended = {"exit": os.waitstatus_to_exitcode(status), "cpu_s": used.ru_utime + used.ru_stime}
    with contextlib.suppress(OSError):
        send(connection, {**ended, "max_rss_mb": used.ru_maxrss / 1024})
    os._exit(0)
