"""How well this machine can shut a kernel in: found by trying, never by looking for a file.

A  bubblewrap, and a cgroup that caps memory and tasks     B  bubblewrap, limits of each process, and a watchdog
D  limits and a folder of its own: time and memory are held, nothing is isolated
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from . import seccomp
from .bubblewrap import Box, python_paths

MEANING = {
    "A": "bubblewrap and a cgroup: isolated, with memory and tasks capped as a whole",
    "B": "bubblewrap: isolated, limits on each process and a watchdog on their sum",
    "D": "UNSANDBOXED: time and memory are limited, but submissions can read and change your files",
}


@dataclass(frozen=True)
class Level:
    """A sandbox level and how it was found: `tried` has one line for each thing that was tried."""

    name: str
    tried: tuple[str, ...]
    gaps: tuple[str, ...] = ()  # what a box of this level lacks on this machine

    @property
    def sandboxed(self) -> bool:
        """Whether what runs in the box is shut off from the rest of the machine."""
        return self.name != "D"

    @property
    def label(self) -> str:
        """The level as it stands in the record of each submission: with what it lacks."""
        return "; ".join((self.name, *self.gaps))


def probe() -> Level:
    """The best level that works here, each proved by a box that is opened, entered and looked out of."""
    tried = []
    if sys.platform != "linux":
        return Level("D", (f"no sandbox on {sys.platform}: bubblewrap needs Linux",))
    works, why = _try_bubblewrap()
    tried.append(f"bubblewrap: {why}")
    if not works:
        return Level("D", tuple(tried))
    missing = seccomp.unavailable()
    tried.append(f"filter on system calls: {missing or 'works'}")
    gaps = (f"no filter on system calls ({missing})",) if missing else ()
    works, why = _try_systemd()
    tried.append(f"cgroup by systemd-run: {why}")
    return Level("A" if works else "B", tuple(tried), gaps)


def scope(memory_mb: int, tasks: int) -> list[str]:
    """The prefix that puts a command, and all it forks, under a cgroup (level A)."""
    caps = ["-p", f"MemoryMax={memory_mb}M", "-p", "MemorySwapMax=0", "-p", f"TasksMax={tasks}"]
    return ["systemd-run", "--user", "--scope", "--quiet", *caps, "--"]


def _try_systemd() -> tuple[bool, str]:
    if not shutil.which("systemd-run"):
        return False, "there is no systemd-run"
    fill = "import mmap; m = mmap.mmap(-1, {0} << 20); [m.write(b'x' * (1 << 20)) for _ in range({0})]"
    try:
        done = subprocess.run([*scope(64, 32), "true"], capture_output=True, text=True, timeout=10)
        if done.returncode:
            return False, _last_line(done.stderr)
        command = [*scope(64, 32), sys.executable, "-c", fill.format(256)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return False, "no answer in time"
    return done.returncode != 0, "works" if done.returncode else "its limit on memory does not hold shared memory"


# Run inside the box: what it can see of the outside, as JSON.
LOOK = """
import ctypes, json, os, socket
from coursekit.classroom.sandbox import enter
seen = {"uid": os.getuid(), "pids": sum(p.isdigit() for p in os.listdir("/proc")), "nets": os.listdir("/sys/class/net")
        if os.path.isdir("/sys/class/net") else [], "home": os.listdir("/home"), "secret": os.path.exists(SECRET)}
seen["nested"] = ctypes.CDLL(None).unshare(0x10000000) == 0
try:
    open("/usr/written-by-a-box", "w"); seen["wrote"] = True
except OSError:
    seen["wrote"] = False
try:
    socket.create_connection(("192.0.2.1", 9), 0.2); seen["network"] = "open"
except OSError as error:
    seen["network"] = error.strerror
print(json.dumps(seen))
"""


def _try_bubblewrap() -> tuple[bool, str]:
    if not shutil.which("bwrap"):
        return False, "there is no command bwrap"
    if not hasattr(os, "pidfd_open"):
        return False, "this Python cannot hold on to processes (os.pidfd_open is missing)"
    with tempfile.TemporaryDirectory(prefix="ck-probe-", dir="/tmp") as folder:
        secret = os.path.join(folder, "secret")
        open(secret, "w").close()
        look = LOOK.replace("SECRET", repr(secret))
        code = (
            "import os, sys\nfrom coursekit.classroom.sandbox import enter\n"
            "enter.enter(int(sys.argv[1]))\n"
            "if os.fork() == 0:\n"
            "    os.chdir('/'); enter.drop_privileges(int(sys.argv[2]) if sys.argv[2] else None)\n"
            f"    exec({look!r})\n"
            "else: sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        )
        box = None
        try:
            from .provisioner import open_box, unprivileged_user

            box = open_box(Box(python_paths(), (), 8))
            user = unprivileged_user(0)
            done = subprocess.run(
                [sys.executable, "-c", code, str(box.pid), "" if user is None else str(user)],
                capture_output=True, text=True, timeout=20,
            )  # fmt: skip
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            return False, str(error)
        finally:
            if box is not None:
                box.close()
    if done.returncode:
        return False, f"a process could not enter the box: {_last_line(done.stderr)}"
    seen = json.loads(done.stdout)
    bad = [
        f"{k} is {seen[k]!r}" for k, good in (("secret", False), ("wrote", False), ("nested", False)) if seen[k] != good
    ]
    bad += ["a process can make a user namespace"] if seen["nested"] and not seccomp.unavailable() else []
    bad += ["the network is open"] if seen["network"] == "open" else []
    bad += ["the box runs as root"] if seen["uid"] == 0 else []
    bad += [f"{seen['pids']} processes can be seen"] if seen["pids"] > 6 else []
    return not bad, "; ".join(bad) or "works"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["failed without a word"])[-1]
