"""The filter on system calls, run by an interpreter of BPF for both architectures, and by Linux for this one."""

import ctypes
import errno
import os
import struct

import pytest

from coursekit.classroom.sandbox import seccomp

ALLOWED = "allowed"


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None):
    """What the filter says to a call: "allowed", "killed", or the errno."""
    _, own = seccomp.ARCHITECTURES[machine]
    words = [argument & (1 << 64) - 1 for argument in (*arguments, *[0] * 6)][:6]
    data = struct.pack("<IIQ6Q", number, own if arch is None else arch, 0, *words)
    code = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    tests = {
        seccomp.JUMP_EQUAL: lambda a, k: a == k,
        seccomp.JUMP_GREATER_EQUAL: lambda a, k: a >= k,
        seccomp.JUMP_SET: lambda a, k: bool(a & k),
    }
    at, value = 0, 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, k)
        elif op == seccomp.RETURN:
            break
        else:
            at += yes if tests[op](value, k) else no
    if k == seccomp.KILL:
        return "killed"
    return ALLOWED if k == seccomp.ALLOW else k - seccomp.ERRNO


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_each_call_of_the_tables_is_refused_and_no_other(machine):
    column, _ = seccomp.ARCHITECTURES[machine]
    expected = {}
    for table, number in ((seccomp.REFUSED, errno.EPERM), (seccomp.ABSENT, errno.ENOSYS)):
        for group in table.values():
            expected |= {numbers[column]: number for numbers in group.values() if numbers[column] is not None}
    expected[seccomp.SOCKET[column]] = errno.EAFNOSUPPORT  # of family 0
    for number in range(seccomp.NEWEST + 1):
        assert verdict(machine, number) == expected.get(number, ALLOWED), number
    for number in (seccomp.NEWEST + 1, 2000, seccomp.X32, seccomp.X32 + 1, 2**32 - 1):
        assert verdict(machine, number) == errno.ENOSYS


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_calls_that_depend_on_an_argument(machine):
    column, _ = seccomp.ARCHITECTURES[machine]
    clone, socket, ioctl = (pair[column] for pair in (seccomp.CLONE, seccomp.SOCKET, seccomp.IOCTL))
    thread = 0x3D0F00  # what the C library asks for a thread
    assert verdict(machine, clone, 17) == verdict(machine, clone, thread) == ALLOWED
    for space in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, clone, 17 | space) == errno.EPERM
    assert [verdict(machine, socket, family) for family in (1, 2, 10, 16)] == [ALLOWED] * 4
    assert {verdict(machine, socket, family) for family in (0, 17, 31, 38, 40)} == {errno.EAFNOSUPPORT}
    assert verdict(machine, socket, 1 << 32 | 40) == errno.EAFNOSUPPORT
    assert verdict(machine, ioctl, 0, 0x5413) == ALLOWED  # the size of a terminal
    assert verdict(machine, ioctl, 0, 0x5412) == verdict(machine, ioctl, 0, 0x541C) == errno.EPERM
    assert verdict(machine, ioctl, 0, 7 << 32 | 0x5412) == errno.EPERM  # Linux looks at the low half alone


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_calls_of_another_architecture_end_the_process(machine):
    assert verdict(machine, 1, arch=0x40000003) == "killed"
    assert len(seccomp.program(machine)) // 8 <= 4096  # what Linux takes


def test_linux_takes_it():
    assert seccomp.unavailable() == ""
    column, _ = seccomp.ARCHITECTURES[seccomp.machine()]
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)
        seccomp.apply()
        wrong = 0
        for table, number in ((seccomp.REFUSED, errno.EPERM), (seccomp.ABSENT, errno.ENOSYS)):
            for group in table.values():
                for numbers in group.values():
                    if numbers[column] is not None:
                        got = libc.syscall(numbers[column], 0, 0, 0, 0, 0)
                        wrong += got != -1 or ctypes.get_errno() != number
        os._exit(min(wrong, 100))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_where_no_filter_is_written_its_absence_is_named(monkeypatch):
    from coursekit.classroom.sandbox.levels import Level

    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert seccomp.unavailable() == "no filter is written for riscv64"
    level = Level("B", (), (f"no filter on system calls ({seccomp.unavailable()})",))
    assert level.label == "B; no filter on system calls (no filter is written for riscv64)" and level.sandboxed
