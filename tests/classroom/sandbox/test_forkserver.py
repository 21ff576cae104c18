"""The fork server when whoever started it dies."""

import json
import os
import subprocess
import sys


def test_started_by_one_that_dies_at_once_it_ends_quietly_and_removes_its_folder(lab, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "bundle.zip").write_bytes(lab.bundle.to_bytes())
    settings = json.dumps({"bundle": str(folder / "bundle.zip"), "folder": str(folder)})
    command = [sys.executable, "-m", "coursekit.classroom.sandbox.forkserver", str(folder / "engines")]
    read, write = os.pipe()
    os.close(read)  # nobody hears that it is ready
    server = subprocess.run(
        [*command, "coursekit.classroom.grade.submission:work", settings],
        stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(write)
    assert (server.returncode, server.stderr) == (0, "")
    assert not folder.exists()
