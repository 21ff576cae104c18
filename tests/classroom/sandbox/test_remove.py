"""Whatever a folder holds, it can be removed, and nothing outside it is touched."""

import os
import stat
from pathlib import Path

import pytest

from coursekit.classroom.sandbox.remove import remove


def deep(folder: Path, depth: int) -> None:
    """Folders in folders, deeper than any path may be long."""
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def as_user(uid: int, function) -> int:
    """The exit code of a child that became another user: 0 if `function()` held."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            code = 0 if function() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture(params=["as who runs the tests", "as an ordinary user"])
def removed(request, tmp_path_factory):
    """A function that removes a folder; where root runs the tests, once as an ordinary user who owns what is in it."""
    if request.param == "as who runs the tests" or os.geteuid() != 0:
        return lambda folder, made=(): remove(folder)
    uid = 61999

    def run(folder, made=()):
        os.chown(folder.parent, uid, uid)
        for path in (folder, *made):
            os.chown(path, uid, uid, follow_symlinks=False)
        for parent in [*folder.parents][:-1]:
            if parent.stat().st_uid != uid and not parent.stat().st_mode & 1:
                parent.chmod(parent.stat().st_mode | 0o111)
        return as_user(uid, lambda: remove(folder)) == 0

    return run


def test_three_thousand_folders_in_each_other(tmp_path, removed):
    folder = tmp_path / "scratch"
    deep(folder, 3000)
    made, fd = [], os.open(folder, os.O_RDONLY)
    if os.geteuid() == 0:  # theirs, all the way down
        for _ in range(3000):
            inner = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.fchown(inner, 61999, 61999)
            os.close(fd)
            fd = inner
    os.close(fd)
    assert removed(folder, made) and not folder.exists()


def test_a_link_in_a_read_only_folder_changes_nothing_where_it_leads(tmp_path, removed):
    theirs = tmp_path / "instructor.txt"
    theirs.write_text("kept")
    theirs.chmod(0o664)
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("kept")
    folder = tmp_path / "scratch"
    inner = folder / "a"
    inner.mkdir(parents=True)
    (inner / "link").symlink_to(theirs)
    (inner / "folder").symlink_to(outside)
    (inner / "hard").hardlink_to(theirs)
    (folder / "b" / "c").mkdir(parents=True)
    (folder / "b" / "c" / "x").write_text("x")
    os.mkfifo(folder / "pipe")
    made = [inner, inner / "link", inner / "folder", folder / "b", folder / "b" / "c", folder / "b" / "c" / "x"]
    inner.chmod(0o500)
    (folder / "b" / "c").chmod(0)
    (folder / "b").chmod(0o100)
    assert removed(folder, made) and not folder.exists()
    assert theirs.read_text() == "kept" and stat.S_IMODE(theirs.stat().st_mode) == 0o664
    assert (outside / "file").read_text() == "kept" and stat.S_IMODE(outside.stat().st_mode) == 0o755


def test_names_that_are_no_text_and_names_of_its_own(tmp_path, removed):
    folder = tmp_path / "scratch"
    folder.mkdir()
    made = []
    for name in (b"caf\xe9", b".up-0", b".up-1", b"new\nline"):
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
        (path / "inner" / "innermost").mkdir(parents=True)
        made += [path, path / "inner", path / "inner" / "innermost"]
    assert removed(folder, made) and not folder.exists()


def test_what_is_a_link_itself_is_only_unlinked(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "file").write_text("kept")
    link = tmp_path / "link"
    link.symlink_to(real)
    assert remove(link) and not link.is_symlink() and (real / "file").read_text() == "kept"


def test_what_is_not_there_is_removed_and_what_cannot_be_is_said(tmp_path):
    assert remove(tmp_path / "nothing") is True
    assert remove("/proc/self/task") is False
    assert remove("\0") is False
