"""jupyter_client's way to a kernel in a box: it builds the box, asks for a kernel in it, and can end both."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from . import forkserver
from .bubblewrap import Box, bubblewrap
from .kernel import PORTS

NAME = "coursekit-box"
FIRST_UID = 61184  # the range systemd reserves for users that live as long as a process


class OpenBox(NamedTuple):
    """A box with nothing in it but its holder; `pid` is the first process of its pid namespace."""

    pid: int
    process: subprocess.Popen
    first: int  # pidfd of `pid`: readable when every process of the box is gone

    def close(self) -> None:
        """End every process in the box, and return when the last is gone."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()
        os.close(self.first)


def open_box(box: Box) -> OpenBox:
    """Build a box with bubblewrap; RuntimeError with bubblewrap's words if it cannot."""
    read, write = os.pipe()
    said, saying = os.pipe()
    _, *options, holder = bubblewrap(box, write)
    # the first process of a box is bubblewrap itself: neither its command line nor its environment tells of the host
    command = [shutil.which("bwrap") or "bwrap", "--args", str(said), "--", holder]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(command, **pipes, pass_fds=[write, said], env={}, cwd="/")
    except BaseException:
        os.close(read)
        os.close(saying)
        raise
    finally:
        os.close(write)
        os.close(said)
    with contextlib.suppress(BrokenPipeError), open(saying, "wb") as words:
        words.write(b"".join(os.fsencode(option) + b"\0" for option in options))
    with open(read, "rb") as info:
        text = info.read()  # ends when bubblewrap has closed its side
    with contextlib.suppress(OSError):
        process.stdin.write(b"x")  # the holder repeats it as soon as the box is complete
        process.stdin.flush()
    if process.stdout.read(1) != b"x":
        process.kill()
        raise RuntimeError(process.stderr.read().decode("utf-8", "replace").strip() or "bubblewrap failed")
    process.stderr.close()
    pid = json.loads(text)["child-pid"]
    return OpenBox(pid, process, os.pidfd_open(pid))


def unprivileged_user(slot: int) -> int | None:
    """The user a box of root runs as, one for each job at a time; None for an ordinary user, who stays the same."""
    return FIRST_UID + slot % 4000 if os.geteuid() == 0 else None


class Plan(NamedTuple):
    """What the kernels of this process get."""

    level: str
    nursery: str  # address of the fork server that has kernels
    folder: str  # a short, private path for sockets
    readable: tuple[str, ...]
    hidden: tuple[str, ...]
    limits: dict
    slot: int


class BoxProvisioner(LocalProvisioner):
    """A kernel in a box. `plan` is set once in the process that grades one submission."""

    plan: Plan

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.box: OpenBox | None = None
        self.connection = None
        self.handle: int | None = None
        self.used: dict = {}

    @property
    def has_process(self) -> bool:
        return self.handle is not None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict:
        plan = self.plan
        user = unprivileged_user(plan.slot)
        if plan.level != "D":
            self.box = open_box(Box(plan.readable, plan.hidden, plan.limits["disk_mb"]))
        home = tempfile.mkdtemp(prefix="home-", dir=plan.folder) if plan.level == "D" else None
        key = self.connection_info["key"]
        info = {**self.connection_info, "key": key.decode() if isinstance(key, bytes) else key}
        self.connection = forkserver.connect(plan.nursery)
        limits = {**plan.limits, "processes": plan.limits["processes"] + processes_counted_in()}
        listeners = [listen(f"{info['ip']}-{info[port]}") for port in PORTS]
        forkserver.send(
            self.connection,
            {
                "box_pid": self.box.pid if self.box else None,
                "files": str(kwargs.get("cwd") or plan.folder),
                "home": home,
                "uid": user if self.box else None,
                "limits": limits,
                "connection": info,
            },
            fds=tuple(listener.fileno() for listener in listeners),
        )
        for listener in listeners:
            listener.close()
        try:
            answer, fds = forkserver.receive(self.connection, max_fds=1)
        except forkserver.Closed:
            await self.kill()
            raise RuntimeError("the kernel could not be started in its box") from None
        self.handle = fds[0]
        self.pid = host_pid(self.handle) or answer["pid"]
        return self.connection_info

    async def poll(self) -> int | None:
        return None if self.handle is not None and not _readable(self.handle) else 1

    async def wait(self) -> int | None:
        while await self.poll() is None:
            await asyncio.sleep(0.02)
        self._report()
        return 1

    async def send_signal(self, signum: int) -> None:
        if self.handle is not None and not _readable(self.handle):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, signum)

    async def kill(self, restart: bool = False) -> None:
        """End the kernel and, with its box, everything it started."""
        await self.send_signal(signal.SIGKILL)
        self._report()
        if self.box is not None:
            self.box.close()
            self.box = None

    async def terminate(self, restart: bool = False) -> None:
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        await self.kill()
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
        if self.connection is not None:
            self.connection.close()

    def _report(self) -> None:
        """Hear how the kernel ended and what it used; a watcher that was killed with it says nothing."""
        if self.connection is None or self.used:
            return
        self.connection.settimeout(1.0)
        try:
            self.used, _ = forkserver.receive(self.connection)
        except (OSError, forkserver.Closed, ValueError):
            self.used = {"exit": None}


class BoxKernelManager(AsyncKernelManager):
    """A kernel manager whose kernels are in boxes and are reached by sockets in a folder, not by ports."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.transport = "ipc"
        self.folder = tempfile.mkdtemp(prefix="s", dir=BoxProvisioner.plan.folder)
        self.ip = f"{self.folder}/k"
        self.connection_file = tempfile.mkdtemp(prefix="c", dir=BoxProvisioner.plan.folder) + "/kernel.json"
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        boxed = {"kernel_provisioner": {"provisioner_name": NAME, "config": {}}}
        self._kernel_spec = KernelSpec(argv=argv, display_name="Python 3", language="python", metadata=boxed)
        factory = KernelProvisionerFactory.instance()
        factory.provisioners[NAME] = EntryPoint(NAME, f"{__name__}:BoxProvisioner", factory.GROUP_NAME)


def listen(path: str) -> socket.socket:
    """A socket that listens at `path`; the kernel gets it as a descriptor, and never sees the folder it is in."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    listener.bind(path)
    listener.listen(16)
    return listener


def host_pid(handle: int) -> int | None:
    """The pid, as we see it, of the process behind a pidfd."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/self/fdinfo/{handle}") as info:
        for line in info:
            if line.startswith("Pid:"):
                return int(line.split()[1]) or None
    return None


def processes_counted_in() -> int:
    """Tasks that count against a box's limit though they are not in it: on Linux before 5.14, all of this user's."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if os.geteuid() == 0 or (release >= (5, 14) and BoxProvisioner.plan.level != "D"):
        return 0
    tasks = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == os.geteuid():
                tasks += len(os.listdir(entry / "task"))
    return tasks


def _readable(fd: int) -> bool:
    import select

    return bool(select.select([fd], [], [], 0)[0])
