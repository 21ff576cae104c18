"""Start a kernel in a box: forked from a process that has imported what the lab imports, so that it starts at once.

The fork server that runs this module executes only import statements of the lab's own source. Each kernel is a fresh
fork of it, so nothing of one student reaches the next.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path

from . import enter
from .bubblewrap import HOME
from .forkserver import receive, send

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
NEEDED = ("ipykernel.kernelapp", "ipykernel.ipkernel", "IPython.core.completer", "coursekit.question")


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
    request, listeners = receive(connection, max_fds=len(PORTS))
    enter.forget_origin()
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
        _become_kernel(home, listeners, request["connection"])
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


def _become_kernel(home: str, listeners: list[int], connection_info: dict) -> None:
    """Turn this process into an IPython kernel; does not return."""
    try:
        os.setsid()
        os.dup2(1, 2)  # not to the terminal of whoever grades
        _keep_only(listeners)
        if home == HOME:
            enter.set_dumpable(True)
        os.environ.clear()
        os.environ.update(environment(home))
        random.seed()
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()  # a fork would repeat the parent's unseeded state
        number, name = tempfile.mkstemp(dir="/tmp" if home == HOME else home)
        file = Path(name)
        with open(number, "w") as text:
            json.dump({**connection_info, "ip": "k"}, text)
        sys.argv = ["ipykernel_launcher", "-f", str(file)]
        sys.path.append(home)  # last: a numpy.py beside the notebook is nobody's numpy
        options = ["--HistoryManager.hist_file=:memory:", "--InteractiveShellApp.ignore_cwd=True"]
        app = _app(dict(zip((connection_info[port] for port in PORTS), range(3, 3 + len(PORTS)), strict=True)))
        app.initialize(["-f", str(file), *options])
        backend = sys.modules.get("matplotlib_inline.backend_inline")
        if backend is not None:  # imported before there was a shell to show figures
            backend._enable_matplotlib_integration()
        file.unlink()  # it holds the kernel's key
        app.start()
    finally:
        os._exit(1)


def _keep_only(listeners: list[int]) -> None:
    """Close every descriptor but the standard three and the listening sockets, which become 3, 4, ..."""
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in listeners]
    os.closerange(3, 64)
    for number, fd in enumerate(aside, start=3):
        os.dup2(fd, number, inheritable=False)
    os.closerange(3 + len(listeners), 4096)


def _app(sockets: dict[int, int]):
    """An IPython kernel that listens on sockets it was given, by port: it needs no folder to make any in."""
    import zmq
    from ipykernel import heartbeat, kernelapp

    class Heartbeat(heartbeat.Heartbeat):
        def _try_bind_socket(self):
            self.socket.setsockopt(zmq.USE_FD, sockets[self.port])
            return super()._try_bind_socket()

    class Kernel(kernelapp.IPKernelApp):
        def _try_bind_socket(self, s, port):
            s.setsockopt(zmq.USE_FD, sockets[port])
            return super()._try_bind_socket(s, port)

        def init_control(self, context):
            super().init_control(context)
            # for a debugger; it would look for its own shell socket by a name that the box does not have
            self.debug_shell_socket.disconnect(self.shell_socket.getsockopt(zmq.LAST_ENDPOINT))

    kernelapp.Heartbeat = Heartbeat
    return Kernel.instance()


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
