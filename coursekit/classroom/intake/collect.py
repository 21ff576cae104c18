"""Take in what students handed in: regular files only, looked at before they are opened, and nothing of it is run."""

import os
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..records.course import valid_student
from ..records.files import digest
from ..sandbox.limits import Limits

SKIPPED = {".ipynb_checkpoints", "__pycache__", ".DS_Store", "__MACOSX"}


@dataclass(frozen=True)
class Submission:
    """What one student handed in for one lab; `fault` says why it cannot be graded."""

    student: str
    notebook: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    timestamp: str | None = None
    fault: str | None = None
    notes: tuple[str, ...] = ()

    def key(self, *context: str) -> str:
        """The same for the same bytes in the same context, and for nothing else."""
        names = sorted(self.files)
        return digest(*context, self.notebook, self.fault or "", *(p for n in names for p in (n, self.files[n])))


def collect(submitted: Path, lab: str, student: str, limits: Limits) -> Submission | None:
    """The submission of a student, or None if there is no folder for it."""
    if not valid_student(student):
        allowed = "letters, digits, spaces and . _ @ + ' -"
        return Submission(student, fault=f"{student!r} is no valid student id: use {allowed}")
    folder = submitted / student / lab
    try:
        for path in (submitted / student, folder):
            kind = os.lstat(path).st_mode
            if not stat.S_ISDIR(kind):
                return Submission(student, fault=f"{path.name!r} is {_kind(kind)}, expected a folder")
    except FileNotFoundError:
        return None
    except OSError as error:
        return Submission(student, fault=f"the folder cannot be read: {error.strerror}")
    try:
        return _read(folder, lab, student, limits)
    except Unfit as unfit:
        return Submission(student, fault=str(unfit))
    except OSError as error:
        return Submission(student, fault=f"{error.filename or folder} cannot be read: {error.strerror}")


def students_with_folders(submitted: Path) -> list[str]:
    """Names of all entries of the folder of submissions."""
    try:
        return sorted(name for name in os.listdir(submitted) if name not in SKIPPED)
    except FileNotFoundError:
        return []


class Unfit(Exception):
    """Something in a submission that is not opened; the message says what."""


def _read(folder: Path, lab: str, student: str, limits: Limits) -> Submission:
    paths = list(_walk(folder, limits))
    wanted = Path(f"{lab}.ipynb")
    notebooks = [p for p in paths if p.suffix == ".ipynb"]
    if wanted not in paths:
        if not paths:
            raise Unfit("the folder is empty: nothing was handed in")
        if not notebooks:
            raise Unfit(f"there is no notebook; hand in {wanted} (found: {', '.join(map(str, paths[:3]))})")
        raise Unfit(f"the notebook is called {str(notebooks[0])!r}; rename it to '{wanted}' and hand it in again")
    data, total = {}, 0
    for path in paths:
        if path in notebooks and path != wanted:
            continue
        cap = limits.notebook_mb if path == wanted else limits.submission_mb
        content = _read_regular(folder / path, path, cap << 20)
        total += len(content)
        if total > limits.submission_mb << 20:
            raise Unfit(f"the files are larger than {limits.submission_mb} MB together")
        data[str(path)] = content
    notebook = data.pop(str(wanted))
    timestamp, note = _timestamp(data.pop("timestamp.txt", None))
    return Submission(student, notebook, data, timestamp, notes=(note,) if note else ())


def _walk(folder: Path, limits: Limits):
    """Paths of regular files below `folder`; anything else in it is a fault, found without opening it."""
    count = 0
    pending = [Path()]
    while pending:
        here = pending.pop()
        with os.scandir(folder / here) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                path = here / entry.name
                if entry.name in SKIPPED:
                    continue
                kind = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(kind):
                    if len(path.parts) > 8:
                        raise Unfit(f"{str(path)!r} is nested more than 8 folders deep")
                    pending.append(path)
                elif not stat.S_ISREG(kind):
                    raise Unfit(f"{str(path)!r} is {_kind(kind)}, not a file; hand in plain files only")
                else:
                    count += 1
                    if count > limits.files:
                        raise Unfit(f"there are more than {limits.files} files; hand in the notebook and its data only")
                    yield path


def _read_regular(path: Path, name: Path, cap: int) -> bytes:
    """The bytes of a regular file, even if somebody swaps it for something else meanwhile."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise Unfit(f"{str(name)!r} is {_kind(about.st_mode)}, not a file")
        if about.st_size > cap:
            raise Unfit(f"{str(name)!r} has {about.st_size / 2**20:.0f} MB; the limit is {cap >> 20} MB")
        data = file.read(cap + 1)
    if len(data) > cap:
        raise Unfit(f"{str(name)!r} is larger than {cap >> 20} MB")
    return data


def _kind(mode: int) -> str:
    names = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a folder"),
    )
    return next((name for test, name in names if test(mode)), "a device")


def _timestamp(data: bytes | None) -> tuple[str | None, str]:
    """The time in timestamp.txt in UTC, as nbgrader writes it; what cannot be true is not believed."""
    if data is None:
        return None, ""
    try:
        from nbgrader.utils import parse_utc

        when = parse_utc(data.decode("utf-8").strip())
    except Exception:
        return None, "timestamp.txt cannot be read and was ignored"
    now = datetime.now(UTC).replace(tzinfo=None)
    if when is None or not datetime(2000, 1, 1) < when < now + timedelta(days=1):
        return None, f"timestamp.txt says {when}, which cannot be, and was ignored"
    return when.isoformat(sep=" "), ""
