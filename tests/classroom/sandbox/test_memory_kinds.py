"""Memory is counted whatever its kind, and once."""

import contextlib
import mmap
import os
import signal

import psutil

from coursekit.classroom.sandbox import memory, seccomp

MB = 1 << 20


@contextlib.contextmanager
def holding(function):
    """A child that has called `function` and keeps what it returned."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        kept = function()  # noqa: F841
        os.write(write, b"x")
        signal.pause()
    try:
        os.read(read, 1)
        yield pid
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def inherited() -> int:
    """Bytes of this process: a child shares its pages, and may hold as much without a byte of its own."""
    return psutil.Process().memory_info().rss


def shared(megabytes: int) -> mmap.mmap:
    area = mmap.mmap(-1, megabytes * MB)
    for _ in range(megabytes):
        area.write(b"x" * MB)
    return area


def forked(kept, count: int):
    for _ in range(count):
        if os.fork() == 0:
            signal.pause()
    return kept


def test_pages_of_its_own():
    with holding(lambda: bytearray(b"x") * (200 * MB)) as pid:
        assert memory.holds_more([pid], 190 * MB) and not memory.holds_more([pid], 600 * MB + inherited())


def test_shared_pages_count_and_count_once():
    with holding(lambda: forked(shared(200), 5)) as pid:
        assert len(memory.family([pid])) == 6
        assert memory.holds_more([pid], 190 * MB)
        assert not memory.holds_more([pid], 600 * MB + inherited()), "counted for each of six processes"


def test_memfds_count_once_where_no_filter_forbids_them(monkeypatch):
    def fill():
        fd = os.memfd_create("x")
        for _ in range(200):
            os.write(fd, b"x" * MB)
        return fd, os.dup(fd)

    with holding(fill) as pid:
        assert memory.unmapped({pid}) == 200 * MB
        monkeypatch.setattr(seccomp, "unavailable", lambda: "no filter is written for riscv64")
        assert memory.holds_more([pid], 190 * MB) and not memory.holds_more([pid], 600 * MB + inherited())


def test_processes_that_are_gone_hold_nothing():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert not memory.holds_more([pid], 0)
