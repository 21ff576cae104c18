"""Every student on the roster is graded, in review, rejected with a reason, or missing; there is nothing else."""

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .files import write_atomically

STATUSES = ("graded", "review", "rejected", "missing")


@dataclass(frozen=True)
class Row:
    """One line of grades/<lab>.csv."""

    student: str
    status: str
    score: float | None = None
    max_score: float | None = None
    reason: str = ""

    def __post_init__(self):
        if self.status not in STATUSES or (self.status != "graded" and not self.reason):
            raise ValueError(f"{self.student}: a status is one of {STATUSES} and has a reason unless it is 'graded'")
        for name in ("student", "reason"):  # a folder may be called anything: what cannot be printed is spelled out
            object.__setattr__(self, name, printable(getattr(self, name)))


def printable(text: str) -> str:
    r"""The text with escapes for what cannot be printed or encoded.

    >>> printable("Zoë\n\udcff")
    'Zoë\\n\\udcff'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def write_grades(path: Path, rows: list[Row]) -> None:
    """Write the rows as CSV, quoted where needed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("student", "status", "score", "max_score", "reason"))
    for row in rows:
        writer.writerow((row.student, row.status, number(row.score), number(row.max_score), row.reason))
    write_atomically(path, text.getvalue())


def read_grades(path: Path) -> list[Row]:
    """The rows that `write_grades` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(r["student"], r["status"], _float(r["score"]), _float(r["max_score"]), r["reason"])
            for r in csv.DictReader(file)
        ]


def number(value: float | None) -> str:
    """A score without needless digits; empty for none.

    >>> number(12.0), number(2.5), number(None)
    ('12', '2.5', '')
    """
    return "" if value is None else f"{value:.10g}"


def exit_code(rows: list[Row]) -> int:
    """0 if all are graded or rejected, 2 if any is in review, 3 if any is missing."""
    statuses = {row.status for row in rows}
    return 3 if "missing" in statuses else 2 if "review" in statuses else 0


def summary(rows: list[Row]) -> str:
    """How many there are of each kind, and everybody who needs a look."""
    count = Counter(row.status for row in rows)
    lines = [f"{len(rows)} students: " + ", ".join(f"{count[s]} {s}" for s in STATUSES)]
    graded = [r for r in rows if r.score is not None and r.status in ("graded", "review")]
    if graded:
        mean = sum(r.score for r in graded) / len(graded)
        lines.append(f"mean score {mean:.1f} of {number(graded[0].max_score)}")
    width = max((len(r.student) for r in rows), default=0)
    lines += [f"  {r.student:{width}}  {r.status:8}  {r.reason}" for r in rows if r.status != "graded"]
    return "\n".join(lines)


def _float(text: str) -> float | None:
    return float(text) if text else None
