"""The class at a glance, as one HTML file: scores, questions, where it failed, and the time it took."""

import base64
import html
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..records import gradebook
from ..records.course import Course, CourseError
from ..records.grades import Row, number, read_grades
from .templates import head


@dataclass(frozen=True)
class Question:
    """How the class did on one graded cell."""

    name: str
    points: float
    mean: float
    full: int
    none: int
    waiting: int


def questions(path: Path, lab: str) -> list[Question]:
    """The graded cells of a lab, in the order of their names in the gradebook, with the scores of the class."""
    query = """SELECT c.name, gc.max_score, COALESCE(g.manual_score, g.auto_score), g.needs_manual_grade FROM grade g
        JOIN base_cell c ON c.id = g.cell_id JOIN grade_cells gc ON gc.id = c.id
        JOIN submitted_notebook n ON n.id = g.notebook_id JOIN submitted_assignment s ON s.id = n.assignment_id
        JOIN assignment a ON a.id = s.assignment_id WHERE a.name = ?"""
    found: dict[str, list] = {}
    for name, points, score, waiting in gradebook.read(path, query, (lab,)):
        found.setdefault(name, []).append((points, score, waiting))
    return [_question(name, entries) for name, entries in sorted(found.items())]


def _question(name: str, entries: list) -> Question:
    points = entries[0][0]
    known = [score for _, score, _ in entries if score is not None]
    mean = sum(known) / len(known) if known else 0.0
    full, none = sum(s == points for s in known), sum(s == 0 for s in known)
    return Question(name, points, mean, full, none, sum(bool(w) for _, _, w in entries))


def messages(course: Course, lab: str, *, most: int = 3) -> dict[str, list[tuple[str, int]]]:
    """graded cell -> what its test said most often when it failed, and how often."""
    found: dict[str, Counter] = {}
    for path in course.folder("autograded").glob(f"*/{lab}/{lab}.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            meta = cell["metadata"].get("nbgrader", {})
            if not meta.get("grade") or cell["cell_type"] != "code":
                continue
            for output in cell["outputs"]:
                if output["output_type"] == "error":
                    first = (output.get("evalue") or "").strip().split("\n")[0][:160]
                    found.setdefault(meta["grade_id"], Counter())[f"{output['ename']}: {first}"] += 1
                    break
    return {name: counter.most_common(most) for name, counter in found.items()}


def seconds(course: Course, lab: str, rows: list[Row]) -> list[float]:
    """The time each submission of the last run took."""
    found = {}
    history = course.work / "history.jsonl"
    if history.is_file():
        for line in history.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a line that a power cut left unfinished
            if record.get("lab") == lab:
                found[record["student"]] = record.get("wall_s", 0.0)
    names = {row.student for row in rows}
    return [value for student, value in found.items() if student in names and value]


def write_report(course: Course, lab: str) -> str:
    """The report of a lab as HTML text that loads nothing from elsewhere."""
    path = course.root / "grades" / f"{lab}.csv"
    if not path.is_file():
        raise CourseError(f"there is no {path}; run `coursekit autograde {lab}` first")
    rows, now = read_grades(path), gradebook.scores(course.gradebook, lab)
    scores = [now[r.student][0] for r in rows if r.student in now and r.status in ("graded", "review")]
    most = max((m for _, m, _ in now.values()), default=0.0)
    cells, said = questions(course.gradebook, lab), messages(course, lab)
    count = Counter(row.status for row in rows)
    middle = sorted(scores)[len(scores) // 2] if scores else 0.0
    mean = sum(scores) / len(scores) if scores else 0.0
    times = seconds(course, lab, rows)
    parts = [
        f"<h1>{html.escape(lab)}</h1>",
        f"<p>{len(rows)} students: " + ", ".join(f"{n} {status}" for status, n in count.items()) + ". ",
        f"Mean {mean:.1f}, median {number(middle)} of {number(most)} points. ",
        f"{sum(times):.0f} s of grading, {max(times, default=0):.1f} s for the slowest.</p>",
        _picture(_histogram(scores, most), f"Histogram of {len(scores)} scores of {number(most)}, mean {mean:.1f}"),
        "<h2>Question by question</h2>",
        _picture(_bars(cells), "Mean share of the points of each question: " + _spoken(cells)),
        _table(cells, said),
    ]
    look = [row for row in rows if row.status != "graded"]
    if look:
        parts.append("<h2>To look at</h2><table><tr><th>Student</th><th>Status</th><th>Reason</th></tr>")
        parts += [f"<tr><td>{_(r.student)}</td><td>{_(r.status)}</td><td>{_(r.reason)}</td></tr>" for r in look]
        parts.append("</table>")
    body = "".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head(lab)}</head><body>{body}</body></html>\n'


def _(text: str) -> str:
    return html.escape(str(text))


def _spoken(cells: list[Question]) -> str:
    return ", ".join(f"{c.name} {c.mean / c.points:.0%}" for c in cells)


def _table(cells: list[Question], said: dict) -> str:
    heads = "".join(f"<th class=number>{word}</th>" for word in ("Points", "Mean", "Full", "None"))
    rows = [f"<table><tr><th>Question</th>{heads}<th>What its test said most</th></tr>"]
    for c in cells:
        words = [f"{_(text)} ({n}×)" for text, n in said.get(c.name, [])]
        words += [f"{c.waiting} wait to be graded by hand"] if c.waiting else []
        numbers = "".join(f"<td class=number>{v}</td>" for v in (number(c.points), f"{c.mean:.2f}", c.full, c.none))
        rows.append(f"<tr><td>{_(c.name)}</td>{numbers}<td>{'<br>'.join(words)}</td></tr>")
    return "".join(rows) + "</table>"


def _histogram(scores: list[float], most: float):
    def draw(axes):
        axes.hist(scores, bins=[k - 0.5 for k in range(int(most) + 2)], color="#0072B2", edgecolor="white")
        axes.set(xlabel="score", ylabel="students", xlim=(-0.5, most + 0.5))
        axes.yaxis.get_major_locator().set_params(integer=True)

    return draw, (8, 3)


def _bars(cells: list[Question]):
    def draw(axes):
        shares = [c.mean / c.points for c in cells]
        axes.barh([c.name for c in cells], shares, color=["#0072B2" if s >= 0.5 else "#D55E00" for s in shares])
        axes.set(xlabel="mean share of the points", xlim=(0, 1))
        axes.invert_yaxis()

    return draw, (8, 0.5 + 0.28 * len(cells))


def _picture(drawing, alt: str) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    draw, size = drawing
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img alt="{_(alt)}" src="data:image/png;base64,{data}"></p>'
