"""A process that imports once and forks for each job: what starts slowly is paid for once, and no two jobs meet.

    python -m coursekit.classroom.sandbox.forkserver SOCKET MODULE:FUNCTION [JSON]

The server imports MODULE, calls `MODULE.prepare(JSON)`, then forks a child for each connection to SOCKET, and the child
calls FUNCTION(connection) and exits. The server itself reads nothing from any connection. When its standard input
closes, whoever started it has died: it ends its children, calls `MODULE.finish()` and ends.
"""

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback

PR_SET_PDEATHSIG = 1


class Closed(Exception):
    """The other side closed the connection."""


def send(connection: socket.socket, message: dict, fds: tuple[int, ...] = ()) -> None:
    """Send one JSON message with its length before it, and perhaps file descriptors beside it."""
    data = json.dumps(message).encode()
    head = struct.pack(">Q", len(data))
    if fds:
        socket.send_fds(connection, [head], list(fds))
        connection.sendall(data)
    else:
        connection.sendall(head + data)


def receive(connection: socket.socket, *, max_fds: int = 0) -> tuple[dict, list[int]]:
    """One message and its file descriptors; `Closed` if the other side went away before it was complete."""
    fds: list[int] = []
    data = b""
    while len(data) < 8:
        if max_fds:
            more, new, _, _ = socket.recv_fds(connection, 8 - len(data), max_fds)
            fds += new
        else:
            more = connection.recv(8 - len(data))
        if not more:
            raise Closed
        data += more
    (left,) = struct.unpack(">Q", data)
    parts = []
    while left:
        more = connection.recv(min(left, 1 << 20))
        if not more:
            raise Closed
        parts.append(more)
        left -= len(more)
    return json.loads(b"".join(parts)), fds


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends; elsewhere the closed connection has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def connect(address: str) -> socket.socket:
    """A connection to a new child of the server at `address`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(address)
    return connection


class ForkServer:
    """A running fork server; `connect(server.address)` gives a connection to a fresh child."""

    def __init__(self, address: str, function: str, settings: dict, *, env: dict | None = None, prefix=()):
        self.address = address
        command = [*prefix, sys.executable, "-m", "coursekit.classroom.sandbox.forkserver", address, function]
        self.process = subprocess.Popen(
            [*command, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd="/"
        )

    def wait_ready(self) -> None:
        """Return when the server listens; RuntimeError if it could not start."""
        if self.process.stdout.readline().strip() != b"ready":
            self.close()
            raise RuntimeError(f"a helper process of the grader did not start: {' '.join(self.process.args[-4:-1])}")

    def close(self) -> None:
        """End the server and every child it still has."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def serve(address: str, function) -> None:
    """Fork a child for every connection to `address` until standard input closes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(128)
    children: set[int] = set()
    signal.signal(signal.SIGCHLD, lambda *_: _reap(children))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner, which closes us
    with contextlib.suppress(BrokenPipeError):  # whoever started us has died: standard input says so too
        os.write(1, b"ready\n")
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            break
        connection, _ = listener.accept()
        pid = os.fork()
        if pid == 0:
            _child(listener, connection, function)
        children.add(pid)
        connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _reap(children: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            children.discard(pid)


def _child(listener: socket.socket, connection: socket.socket, function) -> None:
    code = 1
    try:
        die_with_parent()
        listener.close()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        function(connection)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    address, function, settings = sys.argv[1:4]
    module_name, name = function.split(":")
    module = importlib.import_module(module_name)
    module.prepare(json.loads(settings))
    serve(address, getattr(module, name))
    module.finish()


if __name__ == "__main__":
    main()
