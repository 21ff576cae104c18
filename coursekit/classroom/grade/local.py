"""The two fork servers that grade a lab: one has nbgrader imported, the other what the lab's kernels import."""

import contextlib
import itertools
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path

from ..labs.bundle import Bundle
from ..records.course import CourseError
from ..sandbox import forkserver, kernel
from ..sandbox.bubblewrap import HOME, python_paths
from ..sandbox.clock import PATIENCE
from ..sandbox.levels import Level, scope
from ..sandbox.limits import Limits
from ..sandbox.remove import remove


class Lost(Exception):
    """The process that graded a submission ended without an answer, or had to be ended."""


def lost(reason: str) -> dict:
    """The result of a submission that we failed to grade; the runner tries it again."""
    return {"status": "review", "reason": reason, "flags": [reason], "ours": True, "wall_s": 0.0}


class Job:
    """One submission being graded; `fileno` can be waited for."""

    def __init__(self, address: str, task: dict, deadline: float):
        self.task = task
        self.deadline = time.monotonic() + deadline
        self.connection = forkserver.connect(address)
        forkserver.send(self.connection, task)
        self.pid: int | None = None

    def fileno(self) -> int:
        return self.connection.fileno()

    def advance(self) -> dict | None:
        """The result if it has come; None after the first message, which only says who works on it."""
        try:
            message, _ = forkserver.receive(self.connection)
        except (forkserver.Closed, OSError, ValueError):
            self.close()
            raise Lost("the process that graded it ended without an answer") from None
        if self.pid is None:
            self.pid = message["pid"]
            return None
        self.close()
        return message

    def end(self) -> None:
        """Stop working on it, at once. Its box ends with it."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        self.connection.close()


class Workshop:
    """A context in which submissions of one lab are graded at one sandbox level, `capacity` of them at a time."""

    def __init__(self, bundle: Bundle, limits: Limits, level: Level, *, hidden: tuple[str, ...] = (), jobs: int = 1):
        self.bundle, self.limits, self.level, self.hidden, self.capacity = bundle, limits, level, hidden, jobs
        self.slots = itertools.count()

    def __enter__(self) -> "Workshop":
        _remove_dead_folders()
        self.folder = tempfile.mkdtemp(prefix="ck-", dir="/tmp")  # short: socket paths have at most 107 bytes
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.servers: list[forkserver.ForkServer] = []
        bundle = Path(self.folder, "bundle.zip")
        bundle.write_bytes(self.bundle.to_bytes())
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        cache = {"MPLCONFIGDIR": f"{self.folder}/matplotlib", "HOME": HOME}  # not a name that tells whose course it is
        mpl = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coursekit" / "matplotlib"
        with contextlib.suppress(OSError):
            shutil.copytree(mpl, cache["MPLCONFIGDIR"])  # the list of fonts is made once for all runs
        modules = {"modules": list(self.bundle.modules)}
        nursery = f"{self.folder}/kernels"
        prefix = []
        if self.level.name == "A":
            memory = self.capacity * (self.limits.memory_mb + 3 * self.limits.disk_mb) + 1024
            prefix = scope(memory, self.capacity * self.limits.processes + 64)
            prefix += ["env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS"]  # systemd-run needs them
        kernel_env = {**kernel.environment(HOME), **cache, "PATH": os.environ.get("PATH", "/usr/bin:/bin")}
        kernel_env |= {k: v for k, v in os.environ.items() if k in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")}
        self.servers.append(
            forkserver.ForkServer(
                nursery, "coursekit.classroom.sandbox.kernel:start", modules, env=kernel_env, prefix=prefix
            )
        )
        judges = f"{self.folder}/judges"
        files = Path(self.folder, "judge")
        files.mkdir(mode=0o700)
        for name, data in self.bundle.judge.items():
            (files / name).write_bytes(data)
        about = {"files": str(files)}
        self.servers.append(forkserver.ForkServer(judges, "coursekit.classroom.judge.process:work", about, env=env))
        settings = {
            "bundle": str(bundle),
            "judge": judges,
            "limits": self.limits.to_dict(),
            "level": self.level.name,
            "label": self.level.label,
            "nursery": nursery,
            "folder": self.folder,
            "readable": python_paths(),
            "hidden": [*self.hidden, self.folder],
        }
        self.engines = f"{self.folder}/engines"
        self.servers.append(
            forkserver.ForkServer(self.engines, "coursekit.classroom.grade.submission:work", settings, env=env)
        )
        for server in self.servers:
            try:
                server.wait_ready()
            except RuntimeError as error:
                raise CourseError(f"{error}; what it said is above") from None
        with contextlib.suppress(OSError):
            shutil.copytree(cache["MPLCONFIGDIR"], mpl, dirs_exist_ok=True)

    def submit(self, task: dict, key: str = "") -> Job:
        """Begin to grade a submission."""
        try:
            return Job(
                self.engines,
                {**task, "slot": next(self.slots)},
                deadline=(PATIENCE + 1) * self.limits.total_seconds + 120,
            )
        except OSError as error:
            why = f"a helper process of the grader has ended ({error.strerror}); was there enough memory?"
            raise CourseError(f"{why} What was graded is kept: run it again to go on") from None

    def finished(self, running: list[Job], *, wait: float = 1.0) -> list[tuple[Job, dict]]:
        """Jobs that have ended, waiting a little for one; a job past its deadline is ended, and lost."""
        ready, _, _ = select.select(running, [], [], wait)
        ended = []
        for job in running:
            try:
                result = job.advance() if job in ready else None
            except Lost as error:
                result = lost(str(error))
            if result is None and time.monotonic() > job.deadline:
                job.end()
                result = lost("it did not end by itself and was stopped")
            if result is not None:
                ended.append((job, result))
        return ended

    def grade(self, task: dict) -> dict:
        """Grade one submission and wait for it."""
        job = self.submit(task)
        while True:
            for _, result in self.finished([job]):
                return result

    def __exit__(self, *_) -> None:
        for server in reversed(self.servers):
            server.close()
        remove(self.folder)


def _remove_dead_folders() -> None:
    """Remove folders of runs that were killed together with their servers: nobody listens there any more."""
    for folder in Path("/tmp").glob("ck-*"):
        with contextlib.suppress(OSError):
            about = folder.lstat()
            if about.st_uid != os.getuid() or time.time() - about.st_mtime < 300:
                continue
            try:
                forkserver.connect(str(folder / "engines")).close()
            except (ConnectionRefusedError, FileNotFoundError):
                remove(folder)
