"""Enter a box that bubblewrap built, and give up everything on the way in.

A kernel is forked from a process that has already imported its libraries, so bubblewrap cannot start it; it joins the
namespaces of a box instead. Nothing a student wrote has run before `drop_privileges` has returned.
"""

import ctypes
import errno
import fcntl
import os
import resource
import sys
from pathlib import Path

from . import seccomp

CLONE = {"mnt": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000}
NS_GET_USERNS = 0xB701
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 4, 24, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
KEYCTL_JOIN_SESSION_KEYRING = 1
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def set_dumpable(value: bool) -> None:
    """Whether other processes of the same user may look into this one."""
    _check(_libc.prctl(PR_SET_DUMPABLE, int(value), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def enter(pid: int) -> None:
    """Join all namespaces of process `pid`. The pid namespace takes hold for the children of this process."""
    spaces = {name: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in CLONE}
    root = os.geteuid() == 0
    if not root:
        # An ordinary user's box has a user namespace that owns the others, and another one inside it that owns nothing.
        owner = fcntl.ioctl(spaces["mnt"], NS_GET_USERNS)
        _check(_libc.setns(owner, CLONE["user"]), "joining the box's user namespace")
        os.close(owner)
    for name in ("pid", "net", "ipc", "uts", "mnt"):
        _check(_libc.setns(spaces[name], CLONE[name]), f"joining the box's {name} namespace")
    if not root:
        _check(_libc.setns(spaces["user"], CLONE["user"]), "joining the box's inner user namespace")
    for fd in spaces.values():
        os.close(fd)


def forget_origin() -> None:
    """Blank the command line and the environment that this process was started with, which /proc shows for ever."""
    os.environ.clear()
    sys.orig_argv[:] = sys.argv[:] = ["python"]
    if sys.platform != "linux":
        return
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    arguments, arguments_end, variables, variables_end = (int(field) for field in fields[45:49])
    for start, end in ((arguments, arguments_end), (variables, variables_end)):
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)
    if arguments_end - arguments > 6:
        ctypes.memmove(arguments, b"python", 6)


def drop_privileges(uid: int | None) -> None:
    """Become user `uid` (None: stay who we are), without capabilities and without a way to get any back.

    Keys of the host are left behind with a session keyring of its own, and where there is one, the filter on system
    calls is in force from here on.
    """
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails where there was none to drop: as good
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(nothing)), "dropping capabilities")
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    status = Path("/proc/self/status").read_text().splitlines()
    held = [line.split()[1] for line in status if line.startswith(("CapPrm", "CapEff", "CapBnd"))]
    if any(int(value, 16) for value in held) or (uid is not None and os.getuid() != uid):
        raise PermissionError(f"privileges are left after dropping them: {held}")
    if seccomp.machine() in seccomp.ARCHITECTURES:
        column = seccomp.ARCHITECTURES[seccomp.machine()][0]
        keyctl = seccomp.REFUSED["keys that outlive the box"]["keyctl"][column]
        if _libc.syscall(keyctl, KEYCTL_JOIN_SESSION_KEYRING, None) < 0 and ctypes.get_errno() != errno.ENOSYS:
            _check(-1, "joining a session keyring of its own")
    if not seccomp.unavailable():
        seccomp.apply()


def set_limits(limits: dict) -> None:
    """Limits of each process in the box, from plain data (see `Limits`)."""
    mb = 1 << 20

    def cap(what: int, value: int) -> None:
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))

    cap(resource.RLIMIT_DATA, limits["memory_mb"] * mb)
    cap(resource.RLIMIT_AS, (limits["memory_mb"] + 3072) * mb)  # libraries and reserved address space come on top
    cap(resource.RLIMIT_CPU, limits["total_seconds"] + 60)
    cap(resource.RLIMIT_NPROC, limits["processes"])
    cap(resource.RLIMIT_NOFILE, limits["open_files"])
    cap(resource.RLIMIT_FSIZE, limits["disk_mb"] * mb)
    cap(resource.RLIMIT_CORE, 0)
    if hasattr(resource, "RLIMIT_MSGQUEUE"):
        cap(resource.RLIMIT_MSGQUEUE, 0)
