"""An empty gradebook, whole or not there at all."""

import sqlite3
from pathlib import Path

from .files import replacement


def new_database(path: Path, course_id: str = "default_course") -> None:
    """Make nbgrader's database at `path`, with nbgrader's tables, their version and the course in it.

    The version is written first: nbgrader starts a program for seconds to ask for it, but only of an empty file.
    """
    import nbgrader
    from alembic.script import ScriptDirectory
    from nbgrader.api import Gradebook

    version = ScriptDirectory(str(Path(nbgrader.__file__).with_name("alembic"))).get_current_head()
    with replacement(path) as name:
        connection = sqlite3.connect(name)
        with connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (version,))
        connection.close()
        with Gradebook(f"sqlite:///{name}", course_id):
            pass
