"""`coursekit doctor`: what this machine has, how well it can shut submissions in, and how to do better."""

import argparse
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("torch", "numpy", "matplotlib", "nbgrader", "jupyterlab", "jupyter-book", "distributed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`coursekit doctor` has no arguments."""


def run(args: argparse.Namespace) -> int:
    """0 if submissions can be graded in a sandbox, 1 if not."""
    print(
        f"Python {platform.python_version()} on {platform.system()} {platform.release()}, {os.cpu_count()} processors"
    )
    for name in PACKAGES:
        try:
            print(f"  {name:14} {version(name)}")
        except PackageNotFoundError:
            print(f"  {name:14} not installed")
    if find_spec("torch"):
        from coursekit.device import default_device

        print(f"  device         {default_device()}")
    if not find_spec("nbgrader"):
        print("\nGrading needs nbgrader: pip install 'coursekit[grading]'")
        return 1
    from ..sandbox import levels

    level = levels.probe()
    print(f"\nSandbox level {level.name}: {levels.MEANING[level.name]}")
    for line in level.tried:
        print(f"  tried {line}")
    print("\n" + advice(level.name))
    return 0 if level.sandboxed else 1


def advice(level: str) -> str:
    """How to get a better level here."""
    if level == "A":
        return "Nothing better is known here."
    if level == "B":
        return (
            "Good for any class. Level A also caps memory and tasks of all kernels together: it needs a user session\n"
            "of systemd with cgroup v2 (log in rather than `su`; `loginctl enable-linger $USER` on a server)."
        )
    if sys.platform == "darwin":
        return (
            "macOS has nothing like bubblewrap. Grade in a Linux virtual machine (Lima, UTM, Multipass) or container,\n"
            "or on another machine with --cluster; --allow-unsandboxed is for submissions that you trust."
        )
    if sys.platform == "win32":
        return "Use WSL 2: install Ubuntu from the Store, and this kit and bubblewrap (`apt install bubblewrap`) in it."
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return (
            "This is a container, and its seccomp profile keeps bubblewrap from making namespaces. Start it with\n"
            "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined` (Docker, Podman), or let the\n"
            "container be the box: mount only one class into it, no network, and grade with --allow-unsandboxed."
        )
    words = [
        "Install bubblewrap: `sudo apt install bubblewrap` (Debian, Ubuntu), `sudo dnf install bubblewrap` (Fedora).",
    ]
    if _reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        words.append(
            "Ubuntu restricts user namespaces of ordinary users. Allow them for bubblewrap alone:\n"
            "  sudo tee /etc/apparmor.d/bwrap <<'EOF'\n"
            "  abi <abi/4.0>,\n"
            "  include <tunables/global>\n"
            "  profile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }\n"
            "  EOF\n"
            "  sudo systemctl reload apparmor"
        )
    if _reads("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        words.append(
            "Let ordinary users make namespaces: `sudo sysctl -w kernel.unprivileged_userns_clone=1` (Debian)."
        )
    if _reads("/proc/sys/user/max_user_namespaces") == "0":
        words.append("User namespaces are switched off: `sudo sysctl -w user.max_user_namespaces=15000`.")
    return "\n".join(words)


def _reads(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
