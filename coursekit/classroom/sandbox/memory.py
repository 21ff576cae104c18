"""How much memory the processes of a box hold, whatever its kind, seen from outside.

Counted are pages that processes have to themselves, pages they share (each once, however many map it), what was swapped
out, and what Linux itself keeps for each file of the box's folders in memory. The contents of those files have a limit
of their own, the size of their folders. Memory that no process maps and no folder shows (memfd, System V) does not
exist under the filter on system calls; where there is none, open memfds are counted too.
"""

import os
import stat
from pathlib import Path

from . import seccomp

FOLDERS = ("/home", "/tmp", "/dev/shm")  # each in memory
FILE_BYTES = 1024  # an inode and its name, in the kernel's own memory


def family(roots: list[int]) -> set[int]:
    """Processes and all their descendants."""
    known, new = set(), set(roots)
    while new:
        known |= new
        children = set()
        for pid in new:
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    children |= {int(p) for p in Path(f"/proc/{pid}/task/{task}/children").read_text().split()}
            except (OSError, ValueError):
                continue
        new = children - known
    return known


def holds_more(roots: list[int], allowed: int, box: int | None = None) -> bool:
    """Whether the families of `roots` hold more than `allowed` bytes; `box` is the first process of their box.

    A cheap sum that counts what is shared again for each process comes first, the right one only where that is passed.
    """
    pids = family(roots)
    other = files(box) + (unmapped(pids) if seccomp.unavailable() else 0)
    return sum(map(_resident, pids)) + other > allowed and sum(map(_proportional, pids)) + other > allowed


def files(box: int | None) -> int:
    """Bytes that the kernel needs for the files in a box's folders, however empty they are."""
    count = 0
    for folder in FOLDERS if box is not None else ():
        try:
            about = os.statvfs(f"/proc/{box}/root{folder}")
        except OSError:
            continue
        count += about.f_files - about.f_ffree
    return count * FILE_BYTES


def unmapped(pids: set[int]) -> int:
    """Bytes in the memfds that these processes have open, each once."""
    found = {}
    for pid in pids:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in numbers:
            path = f"/proc/{pid}/fd/{number}"
            try:
                if os.readlink(path).startswith("/memfd:"):
                    about = os.stat(path)
                    found[about.st_dev, about.st_ino] = about.st_blocks * 512 if stat.S_ISREG(about.st_mode) else 0
            except OSError:
                continue
    return sum(found.values())


def _resident(pid: int) -> int:
    """What is shared is counted for each process that shares it. Cheap."""
    return _sum(f"/proc/{pid}/status", ("RssAnon", "RssShmem", "VmSwap", "HugetlbPages"))


def _proportional(pid: int) -> int:
    """What is shared is divided among the processes that share it: dear, and right for forks."""
    parts = ("Pss_Anon", "Pss_Shmem", "SwapPss", "Shared_Hugetlb", "Private_Hugetlb")
    return _sum(f"/proc/{pid}/smaps_rollup", parts) or _resident(pid)


def _sum(path: str, names: tuple[str, ...]) -> int:
    try:
        lines = Path(path).read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.partition(":")[0] in names)
    except (OSError, LookupError, ValueError):
        return 0
