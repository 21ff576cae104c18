"""`coursekit similar LAB`: pairs of answers that are worth a look."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `coursekit similar`."""
    parser.add_argument("lab", metavar="LAB", help="name of the lab")
    parser.add_argument("--course", type=Path, default=Path.cwd(), help="folder of the class (default: this one)")
    parser.add_argument("--kit", type=Path, help="folder with solutions/ (default: the course)")
    parser.add_argument("--at-least", type=float, default=0.8, help="likeness from 0 to 1 (default: 0.8)")
    parser.add_argument("--limit", type=int, default=50, help="pairs to show (default: 50)")


def run(args: argparse.Namespace) -> int:
    """0, whatever was found: a pair is a question to look into, no verdict."""
    from ..labs.bundle import load
    from ..records.course import Course, CourseError
    from ..similarity import compare, read_answers

    try:
        course = Course.open(args.course, args.kit)
        stubs = {cell.grade_id: cell.stub for cell in load(course, args.lab).cells}
        answers = read_answers(course.folder("autograded"), args.lab)
        if not answers:
            raise CourseError(f"nothing of {args.lab} is graded yet; run `coursekit autograde {args.lab}` first")
    except CourseError as error:
        print(f"coursekit similar: {error}", file=sys.stderr)
        return 1
    pairs = compare(answers, stubs, at_least=args.at_least)
    print(f"{len(pairs)} pairs of answers with a likeness of {args.at_least:g} or more; look at them before you judge")
    for pair in pairs[: args.limit]:
        who = f"{pair.first} and {pair.second}"
        print(f"  {pair.likeness:4.0%}  {pair.question:14} {who} ({pair.tokens} tokens in common)")
    return 0
