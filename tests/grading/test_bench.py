"""The grader against submissions that are broken, greedy or hostile (see bench.py)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import bench
import pytest

from coursekit.grading.course import Course

HERE = Path(__file__).parent
QUICK = ("a_honest", "untouched", "loop_in_own_cell", "os_exit", "pasted_test", "skip_execution_blank", "truncated")
QUICK += ("link_to_solution", "cheat_ast_transformer", "reads_around", "memory_bit_by_bit", "metadata_gone")


def hold(cases, lab, kit, folder, level):
    outcome = bench.run(Course.open(folder, kit), lab, cases, level=level)
    assert outcome.missed == []
    assert outcome.leftovers == []
    assert outcome.after == outcome.before
    return outcome


def test_the_commonest_cases(lab, kit, tmp_path, level):
    outcome = hold([c for c in bench.all_cases() if c.name in QUICK], lab, kit, tmp_path, level)
    assert outcome.rows["never_came"].status == "missing"
    assert outcome.rows["../../x"].status == "rejected"


@pytest.mark.slow
def test_the_whole_bench(lab, kit, tmp_path, level):
    outcome = hold(bench.all_cases(), lab, kit, tmp_path, level)
    assert len(outcome.rows) == len(bench.all_cases()) + 2
    tampered = [c.student for c in bench.all_cases() if c.name.startswith("cheat_") and "transformer" in c.name]
    assert all(outcome.rows[name].status == "review" for name in tampered)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user, which only root can; run as one, all tests do")
def test_as_an_ordinary_user(kit, tmp_path_factory):
    """The same cases run by an ordinary user, in a mount namespace where this Python can be reached."""
    folder = Path("/tmp") / f"bench-user-{os.getpid()}"
    shutil.copytree(kit, folder / "kit")
    for module in HERE.glob("*.py"):
        shutil.copy(module, folder)
    subprocess.run(["chmod", "-R", "a+rwX", str(folder)], check=True)
    try:
        names = "|".join(
            ("a_honest", "os_exit", "fork_bomb", "fifty_children", "escapes", "writes_around", "reads_around")
        )
        command = [sys.executable, str(folder / "bench.py"), "tiny", "--kit", str(folder / "kit"), "--only", names]
        done = subprocess.run(as_ordinary_user(command), capture_output=True, text=True, timeout=300, cwd=folder)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the bench holds" in done.stdout


def as_ordinary_user(command: list[str]) -> list[str]:
    """The command run by user 60001 where it sees this Python, its packages and the kit, and not the homes they are in."""
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), HERE.parents[1]}
    needed = {p for p in needed if not any(p != other and p.is_relative_to(other) for other in needed)}
    closed = {path: top for path in needed if (top := closed_parent(path))}
    script = "set -e\n"
    for number, path in enumerate(closed):
        script += f"mkdir -p /tmp/keep-$$/{number}; mount --bind {path} /tmp/keep-$$/{number}\n"
    script += "".join(f"mount -t tmpfs -o mode=755 tmpfs {top}\n" for top in sorted(set(closed.values())))
    for number, path in enumerate(closed):
        script += f"mkdir -p {path}; mount --move /tmp/keep-$$/{number} {path}; rmdir /tmp/keep-$$/{number}\n"
    script += 'export HOME=/tmp; exec setpriv --reuid 60001 --regid 60001 --clear-groups -- "$@"'
    return ["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "--", *command]


def closed_parent(path: Path) -> Path | None:
    """The topmost folder above `path` that other users cannot enter."""
    closed = [p for p in path.parents if p != Path("/") and not p.stat().st_mode & 0o001]
    return closed[-1] if closed else None
