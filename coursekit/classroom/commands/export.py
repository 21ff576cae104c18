"""`coursekit export LAB --format csv|moodle|canvas`, and `coursekit export --final --exam exam.csv`."""

import argparse
import sys
from pathlib import Path

from ..records.export import FORMATS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `coursekit export`."""
    parser.add_argument("lab", nargs="?", metavar="LAB", help="name of the lab")
    parser.add_argument("--format", choices=FORMATS, default="csv", help="what the file is for (default: csv)")
    parser.add_argument("--final", action="store_true", help="the grade of the course: labs and exam")
    parser.add_argument("--exam", type=Path, help="with --final: CSV with columns student, exam, and perhaps exam_max")
    parser.add_argument("--missing-as-zero", action="store_true", help="with --final: a missing mark counts as 0")
    parser.add_argument("--output", "-o", type=Path, help="file to write (default: the terminal)")
    parser.add_argument("--course", type=Path, default=Path.cwd(), help="folder of the class (default: this one)")
    parser.add_argument("--kit", type=Path, help="folder with nbgrader_config.py (default: the course)")


def run(args: argparse.Namespace) -> int:
    """0 if all went well; 2 if a course grade lacks a mark, 1 if nothing was written."""
    from ..records.course import Course, CourseError
    from ..records.export import export_lab, final_grades, final_table
    from ..records.files import write_atomically

    incomplete = []
    try:
        course = Course.open(args.course, args.kit)
        if args.final:
            if args.exam is None:
                raise CourseError("--final needs the marks of the exam: --exam exam.csv with columns student and exam")
            finals = final_grades(course, args.exam, missing_as_zero=args.missing_as_zero)
            incomplete = [f for f in finals if f.missing]
            text = final_table(course, finals)
        elif args.lab is None:
            raise CourseError("name a lab, or ask for the grade of the course with --final --exam exam.csv")
        else:
            text = export_lab(course, args.lab, args.format)
    except (CourseError, ValueError) as error:
        print(f"coursekit export: {error}", file=sys.stderr)
        return 1
    if args.output:
        write_atomically(args.output, text)
        print(f"wrote {args.output}")
    else:
        sys.stdout.write(text)
    for final in incomplete:
        print(f"{final.student} lacks {', '.join(final.missing)}", file=sys.stderr)
    return 2 if incomplete and not args.missing_as_zero else 0
