"""Grade a class: several submissions at a time, each result kept the moment it exists, imported by one writer.

What is done is known by keys of content, never by what happens to lie about: a run that was killed at any moment is
simply started again.
"""

import base64
import json
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path

from coursekit import __version__

from ..intake import collect as intake
from ..intake.collect import Submission
from ..labs.bundle import FORMAT, Bundle
from ..records import gradebook
from ..records.course import Course, Student, read_roster
from ..records.files import append_line, digest, read_json, write_atomically
from ..records.grades import Row
from ..sandbox.limits import Limits

OUR_ATTEMPTS = 3  # a failure of the grader is tried again; the student's own are not


@dataclass
class Paper:
    """One student's submission on its way through the run."""

    student: Student
    submission: Submission
    key: str
    attempts: int = 0
    retried: bool = False
    result: dict | None = None


class Runner:
    """One run of one lab. `run()` returns a row for each student; `open_pool()` opens what does the work."""

    def __init__(self, course: Course, bundle: Bundle, limits: Limits, open_pool, *, context=(), report=None):
        self.course, self.bundle, self.limits, self.open_pool = course, bundle, limits, open_pool
        self.report = report or (lambda *_: None)
        self.results = course.work / "results" / bundle.lab
        self.history = course.work / "history.jsonl"
        limited = repr(sorted(limits.to_dict().items()))
        self.context = (bundle.key, str(FORMAT), __version__, limited, environment(bundle.modules), *context)

    def run(self, submitted: Path, roster: Path | None = None) -> list[Row]:
        """Grade what is new, import what is not imported, and account for everybody."""
        course_id = self.course.config.CourseDirectory.get("course_id", "")
        gradebook.create(self.course.gradebook, course_id)
        gradebook.sync_lab(self.course.gradebook, self.bundle, course_id)
        students, unknown = self._students(submitted, roster)
        papers, rows = [], {}
        for student in students:
            submission = intake.collect(submitted, self.bundle.lab, student.id, self.limits)
            if submission is None:
                rows[student.id] = Row(student.id, "missing", reason="nothing was handed in")
            elif student.id in unknown:
                rows[student.id] = Row(student.id, "rejected", reason="handed in, but not on the roster")
            elif submission.fault:
                rows[student.id] = Row(student.id, "rejected", reason=submission.fault)
            else:
                papers.append(Paper(student, submission, submission.key(*self.context)))
        self._grade([p for p in papers if not self._known(p)])
        done = gradebook.imported(self.course.gradebook, self.bundle.lab)
        scores = gradebook.scores(self.course.gradebook, self.bundle.lab)
        flagged = gradebook.flagged(self.course.gradebook, self.bundle.lab)
        for paper in papers:
            rows[paper.student.id] = self._row(paper, done, scores, flagged)
        return [rows[s.id] for s in students]

    def _students(self, submitted: Path, roster: Path | None) -> tuple[list[Student], set[str]]:
        """Everybody there is an account of: the roster, or else the gradebook; and whoever handed something in."""
        folders = intake.students_with_folders(submitted)
        file = roster or (self.course.root / "roster.csv")
        if roster or file.is_file():
            listed = read_roster(file)
            unknown = {name for name in folders if name not in {s.id for s in listed}}
            unknown = {name for name in unknown if (submitted / name / self.bundle.lab).exists()}
        else:
            known, unknown = {s.id: s for s in gradebook.students(self.course.gradebook)}, set()
            came = (name for name in folders if (submitted / name / self.bundle.lab).exists())
            known = {name: Student(name) for name in came} | known
            listed = [known[name] for name in sorted(known)]  # in one order, however many runs it took
        return [*listed, *(Student(name) for name in sorted(unknown))], unknown

    def _known(self, paper: Paper) -> bool:
        """Whether a result for exactly this content exists; if so it is imported, unless it has been."""
        result = read_json(self.results / f"{paper.key}.json")
        if result is None or result.get("ours"):
            return False
        self._import(paper, result)
        return True

    def _grade(self, papers: list[Paper]) -> None:
        if not papers:
            return
        waiting, running, done = deque(papers), {}, 0
        began = time.monotonic()
        with self.open_pool() as pool:
            while waiting or running:
                while waiting and len(running) < pool.capacity:
                    paper = waiting.popleft()
                    paper.attempts += 1
                    running[pool.submit(task(paper.submission), f"{paper.key}-{paper.attempts}")] = paper
                for job, result in pool.finished(list(running)):
                    paper = running.pop(job)
                    self._note(paper, result)
                    if self._again(paper, result):
                        waiting.append(paper)
                        continue
                    self._keep(paper, _fair(paper.result if paper.result and result["ours"] else result))
                    done += 1
                    left = (time.monotonic() - began) / done * (len(papers) - done)
                    self.report(done, len(papers), paper.student.id, result, left)

    def _again(self, paper: Paper, result: dict) -> bool:
        """Whether to grade it once more: our failures are, and a time limit on a machine that was busy."""
        if result["ours"]:
            return paper.attempts < OUR_ATTEMPTS
        if result.get("starved") and not paper.retried:
            paper.retried, paper.result = True, result
            return True
        return False

    def _keep(self, paper: Paper, result: dict) -> None:
        if not result["ours"]:
            write_atomically(self.results / f"{paper.key}.json", _json(result))
        self._import(paper, result)

    def _import(self, paper: Paper, result: dict) -> None:
        """Gradebook first, then the graded notebook: if we die in between, the next run sees that it is not there."""
        student, lab = paper.student, self.bundle.lab
        record = gradebook.imported(self.course.gradebook, lab).get(student.id)
        target = self.course.folder("autograded") / student.id / lab / f"{lab}.ipynb"
        key = f"failed {paper.key}" if result["ours"] else paper.key  # our failure is no result of this content
        if record is None or record[0] != key or result["ours"]:
            timestamp = paper.submission.timestamp
            gradebook.import_result(self.course.gradebook, student, self.bundle, key, result, timestamp)
        if "notebook" in result and (not target.is_file() or digest(target.read_bytes()) != digest(result["notebook"])):
            write_atomically(target, result["notebook"])

    def _row(self, paper: Paper, done: dict, scores: dict, flagged: set[str]) -> Row:
        student = paper.student.id
        if student not in done or done[student][0] not in (paper.key, f"failed {paper.key}"):
            return Row(student, "missing", reason="it was not graded: the run was stopped")
        _, notebook, status, reason = done[student]
        reason = "; ".join(filter(None, (reason, *paper.submission.notes)))
        if notebook is None or student not in scores:
            return Row(student, status, reason=reason)
        if status == "review" and student not in flagged:
            status = "graded"  # somebody has looked at it and taken the flag away
        score, maximum, _ = scores[student]
        return Row(student, status, score, maximum, reason)

    def _note(self, paper: Paper, result: dict) -> None:
        """One line in the history for each attempt, whatever became of it."""
        record = {k: v for k, v in result.items() if k not in ("notebook", "comments")}
        append_line(
            self.history,
            {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "lab": self.bundle.lab,
                "student": paper.student.id,
                "key": paper.key,
                "attempt": paper.attempts,
                **record,
            },
        )


def task(submission: Submission) -> dict:
    """What a worker needs to grade a submission, as plain data."""
    files = {name: base64.b64encode(data).decode() for name, data in submission.files.items()}
    return {"notebook": base64.b64encode(submission.notebook).decode(), "files": files}


BUSY = "stopped by a machine too busy to run it, twice: run it again when the machine is quiet"


def _fair(result: dict) -> dict:
    """What counts after the last try: a machine that gave a notebook no time takes no points, somebody has to look."""
    if not result.get("starved") or result["status"] != "graded":
        return result
    reason = "; ".join(filter(None, (BUSY, result["reason"])))
    return {**result, "status": "review", "reason": reason, "flags": [*result["flags"], BUSY]}


def _json(result: dict) -> str:
    return json.dumps(result, ensure_ascii=False, sort_keys=True)


ENGINE = ("nbgrader", "nbclient", "nbconvert", "nbformat", "jupyter_client", "ipykernel", "ipython", "numpy")


def environment(modules: tuple[str, ...]) -> str:
    """The versions that results depend on: of Python, of the engine, and of what the lab imports."""
    owners = packages_distributions()
    names = {*ENGINE, *(name for module in modules for name in owners.get(module.split(".")[0], ()))}
    return "; ".join([sys.version, *(f"{name} {version(name)}" for name in sorted(names))])


def default_jobs() -> int:
    """As many jobs as there are processors to use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
