"""An empty gradebook, whole or not there at all."""

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path


def new_database(path: Path, course_id: str = "default_course") -> None:
    """Make nbgrader's database at `path`, with nbgrader's tables, their version and the course in it.

    The version is written first: nbgrader starts a program for seconds to ask for it, but only of an empty file.
    """
    import nbgrader
    from alembic.script import ScriptDirectory
    from nbgrader.api import Gradebook

    version = ScriptDirectory(str(Path(nbgrader.__file__).with_name("alembic"))).get_current_head()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    os.close(handle)
    try:
        connection = sqlite3.connect(name)
        with connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (version,))
        connection.close()
        with Gradebook(f"sqlite:///{name}", course_id):
            pass
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
