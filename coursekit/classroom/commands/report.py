"""`coursekit report LAB`: the class at a glance, as one HTML file."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `coursekit report`."""
    parser.add_argument("lab", metavar="LAB", help="name of the lab")
    parser.add_argument("--course", type=Path, default=Path.cwd(), help="folder of the class (default: this one)")
    parser.add_argument("--kit", type=Path, help="folder with nbgrader_config.py (default: the course)")
    parser.add_argument("--output", "-o", type=Path, help="file to write (default: grades/<lab>.html)")


def run(args: argparse.Namespace) -> int:
    """0 if the report was written."""
    from ..pages.report import write_report
    from ..records.course import Course, CourseError
    from ..records.files import write_atomically

    try:
        course = Course.open(args.course, args.kit)
        output = args.output or course.root / "grades" / f"{args.lab}.html"
        write_atomically(output, write_report(course, args.lab))
    except CourseError as error:
        print(f"coursekit report: {error}", file=sys.stderr)
        return 1
    print(f"wrote {output}")
    return 0
