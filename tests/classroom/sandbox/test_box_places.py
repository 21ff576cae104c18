"""The box of a course that lives anywhere: below /home, below /tmp, or somewhere else."""

import subprocess

import pytest

from coursekit.classroom.sandbox.bubblewrap import Box, bubblewrap


@pytest.mark.parametrize("place", ["/home/teacher/course/.venv", "/tmp/course/.venv", "/srv/course/.venv"])
def test_what_is_readable_is_mounted_after_the_empty_folders(place):
    command = bubblewrap(Box((place,), (), 64), 3)
    mounts = [(command[i], command[i + 1]) for i in range(len(command) - 1)]
    assert mounts.index(("--ro-bind", place)) > mounts.index(("--tmpfs", "/home"))
    assert mounts.index(("--ro-bind", place)) > mounts.index(("--tmpfs", "/tmp"))


def test_a_file_below_tmp_is_seen_and_its_neighbours_are_not(tmp_path):
    shown, hidden = tmp_path / "shown", tmp_path / "hidden"
    for folder in (shown, hidden):
        folder.mkdir()
        (folder / "note").write_text(folder.name)
    command = bubblewrap(Box((str(shown),), (), 64), 2)[:-1]
    at = command.index("--info-fd")
    del command[at : at + 2]
    look = f"cat {shown}/note; echo; ls {tmp_path}"
    done = subprocess.run([*command, "/bin/sh", "-c", look], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["shown", "shown"], done.stderr
