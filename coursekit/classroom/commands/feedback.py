"""`coursekit feedback LAB`: one HTML page a student, without a line of hidden tests."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `coursekit feedback`."""
    parser.add_argument("lab", metavar="LAB", help="name of the lab")
    parser.add_argument("--jobs", type=int, help="pages at a time (default: one a processor)")
    parser.add_argument("--course", type=Path, default=Path.cwd(), help="folder of the class (default: this one)")
    parser.add_argument("--kit", type=Path, help="folder with nbgrader_config.py (default: the course)")


def run(args: argparse.Namespace) -> int:
    """0 if everybody who handed something in has a page."""
    from ..grade.run import default_jobs
    from ..pages.feedback import write_feedback
    from ..records.course import Course, CourseError
    from ..records.files import Busy, lock

    try:
        course = Course.open(args.course, args.kit)
        with lock(course.work / "lock"):
            count, made = write_feedback(course, args.lab, jobs=args.jobs or default_jobs(), report=_report)
    except (CourseError, Busy) as error:
        print(f"coursekit feedback: {error}", file=sys.stderr)
        return 1
    print(f"{count} pages in {course.folder('feedback').name}/<student>/{args.lab}/, {made} of them made anew")
    return 0


def _report(done: int, total: int, student: str) -> None:
    print(f"[{done}/{total}] {student}", file=sys.stderr)
