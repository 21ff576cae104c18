"""Where the things of a course are, and who is in it."""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..sandbox.limits import Limits

STUDENT_ID = re.compile(r"(?![.\s])[\w.@+' -]{1,100}(?<!\s)")
LAB_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class CourseError(Exception):
    """Something about the course folder has to be put right by the instructor; the message says what."""


@dataclass(frozen=True)
class Student:
    """One line of the roster."""

    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    lms_id: str = ""


@dataclass(frozen=True)
class Course:
    """A folder with submissions and grades, and the folder of the kit that its labs come from."""

    root: Path
    kit: Path
    config: object = field(repr=False)

    @classmethod
    def open(cls, root: Path, kit: Path | None = None) -> "Course":
        """The course in `root`; its labs and nbgrader_config.py are in `kit`, by default the same folder."""
        root = Path(root).resolve()
        kit = Path(kit).resolve() if kit else root
        return cls(root, kit, load_config(kit))

    @property
    def settings(self) -> dict:
        """The section c.CourseKit of nbgrader_config.py."""
        return dict(self.config.CourseKit)

    @property
    def limits(self) -> Limits:
        """What one submission may use."""
        return Limits.from_config(self.settings)

    @property
    def gradebook(self) -> Path:
        """nbgrader's database."""
        return self.root / "gradebook.db"

    @property
    def work(self) -> Path:
        """The grader's own records: results, history, locks."""
        return self.root / ".grading"

    def folder(self, step: str) -> Path:
        """nbgrader's folder of a step: submitted, autograded, feedback."""
        return self.root / self.config.CourseDirectory.get(f"{step}_directory", step)

    def source(self, lab: str) -> Path:
        """The folder of a lab's source."""
        if not LAB_ID.fullmatch(lab):
            raise CourseError(f"{lab!r} is no name of a lab: letters, digits, '_' and '-' only")
        folder = self.kit / self.config.CourseDirectory.get("source_directory", "solutions") / lab
        if not folder.is_dir():
            there = sorted(p.name for p in folder.parent.glob("*") if p.is_dir())
            raise CourseError(f"there is no lab {folder}; there are: {', '.join(there) or 'none'}")
        return folder


def load_config(root: Path):
    """root/nbgrader_config.py as traitlets Config; the kit's settings where it says nothing."""
    from traitlets.config import Config, PyFileConfigLoader

    if not (root / "nbgrader_config.py").is_file():
        return Config()
    return PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()


def read_roster(path: Path) -> list[Student]:
    """The students in a CSV file with a column `student` (or `id`) and perhaps names, email and lms_id.

    The ids are as they stand in the file: which of them can be graded is decided later, and each gets a row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CourseError(f"{path} is not UTF-8; save it as 'CSV UTF-8'") from None
    try:
        dialect = csv.Sniffer().sniff(text.split("\n", 1)[0], delimiters=",;\t")
    except csv.Error:
        dialect = csv.excel
    rows = csv.DictReader(text.splitlines(), dialect=dialect)
    columns = {name.strip().lower(): name for name in rows.fieldnames or []}
    key = columns.get("student") or columns.get("id") or columns.get("student_id")
    if key is None:
        raise CourseError(f"{path} has no column 'student'; its columns are {list(rows.fieldnames or [])}")
    students, seen = [], set()
    for row in rows:
        value = (row[key] or "").strip()
        if not value:
            continue
        if value in seen:
            raise CourseError(f"{path} lists {value!r} twice")
        seen.add(value)
        other = {c: (row.get(columns.get(c, c)) or "").strip() for c in ("first_name", "last_name", "email", "lms_id")}
        students.append(Student(value, **other))
    return students


def valid_student(name: str) -> bool:
    """Whether a name can be a folder and an id everywhere: in paths, in patterns and in web addresses.

    >>> [valid_student(n) for n in ("anna", "Zoë O'Neil", "../../x", "a*", "[ab]", ".hidden", "")]
    [True, True, False, False, False, False, False]
    """
    return STUDENT_ID.fullmatch(name) is not None
