"""An empty gradebook is the one nbgrader would make, and never half of one."""

import os
import sqlite3
import sys
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from coursekit.classroom.records.database import new_database


def contents(path: Path) -> dict:
    """Every table with its columns, and the rows that an empty gradebook has."""
    with sqlite3.connect(path) as database:
        names = sorted(row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return {
            name: (
                database.execute(f"PRAGMA table_info({name})").fetchall(),
                database.execute(f"SELECT * FROM {name}").fetchall(),
            )
            for name in names
        }


def test_equal_to_the_one_of_nbgrader(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    with Gradebook(f"sqlite:///{tmp_path / 'theirs.db'}", "a course"):
        pass
    new_database(tmp_path / "ours.db", "a course")
    theirs, ours = contents(tmp_path / "theirs.db"), contents(tmp_path / "ours.db")
    assert "grade" in ours and "a course" in str(ours["course"]) and ours["alembic_version"][1] != []
    assert ours == theirs


def test_interrupted_it_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("nbgrader.api.Gradebook.check_course", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        new_database(tmp_path / "gradebook.db")
    assert list(tmp_path.iterdir()) == []
