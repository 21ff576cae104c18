"""The commands that build an empty box. A holder process (`cat`) keeps it open; when it ends, all in the box ends."""

import os
import site
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

HOME = "/home/student"
SYSTEM = ("/usr", "/etc/ld.so.cache", "/etc/fonts", "/etc/localtime", "/etc/alternatives")
SHARED_BY_ALL = ("/proc/keys", "/proc/key-users")  # no namespace holds them
MERGED = ("/bin", "/lib", "/lib64", "/lib32", "/sbin")


@dataclass(frozen=True)
class Box:
    """What a box is made of: what can be read in it, and what must not be seen. Nothing of the host can be written."""

    readable: tuple[str, ...]
    hidden: tuple[str, ...]
    disk_mb: int


def python_paths() -> tuple[str, ...]:
    """Folders that this Python needs to run and to import coursekit, and no more of the course than that."""
    package = Path(__file__).resolve().parents[2]
    paths = {sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    paths |= {sysconfig.get_path("platlib"), str(package), *site.getsitepackages()}
    real = {str(Path(p).resolve()) for p in paths} | {str(Path(p)) for p in paths}
    real = {p for p in real if Path(p).exists() and p not in ("/", "/usr", "/home") and not p.startswith("/usr/")}
    return tuple(sorted(p for p in real if not any(p != q and p.startswith(q + "/") for q in real)))


def bubblewrap(box: Box, info_fd: int) -> list[str]:
    """The bubblewrap command of a box; as root without, otherwise with a user namespace."""
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--hostname", "box", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    if os.geteuid() != 0:
        command += ["--unshare-user", "--disable-userns", "--uid", str(os.getuid()), "--gid", str(os.getgid())]
    # first: this Python may itself live below /home or /tmp, and is then put into them
    command += [*_tmpfs("/home", box.disk_mb), *_tmpfs("/tmp", 64)]
    # bubblewrap makes missing parents for their owner alone; as root the kernel is somebody else
    parents = {str(p) for path in (*SYSTEM, *box.readable) for p in Path(path).parents}
    for path in sorted(parents - {"/"}):
        command += ["--dir", path]
    for path in SYSTEM:
        command += ["--ro-bind-try", path, path]
    for path in MERGED:
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--ro-bind-try", path, path]
    for path in box.readable:
        command += ["--ro-bind", path, path]
    for path in box.hidden:
        if any(_inside(path, shown) for shown in (*SYSTEM, *box.readable)):
            command += ["--tmpfs", path]  # the course lies inside a readable folder: cover it, keep what Python needs
            for shown in box.readable:
                command += ["--ro-bind", shown, shown] if _inside(shown, path) and shown != path else []
            command += ["--remount-ro", path]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", *_tmpfs("/dev/shm", 64)]
    for path in SHARED_BY_ALL:
        command += ["--ro-bind", "/dev/null", path] if os.path.exists(path) else []
    command += ["--remount-ro", "/"]
    return [*command, "--chdir", "/", "--info-fd", str(info_fd), "/bin/cat"]


def _tmpfs(path: str, megabytes: int) -> list[str]:
    mode = "0755" if path == "/home" else "1777"
    return ["--perms", mode, "--size", str(megabytes << 20), "--tmpfs", path]


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
