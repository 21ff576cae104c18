"""`coursekit sample`: write and grade a sample class, and compare the outcome with what has to come out."""

import argparse
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

SUBCONFIG = """# The sample class: the course's settings, with this folder's submissions and gradebook.
c = get_config()  # noqa: F821
load_subconfig("../nbgrader_config.py")  # noqa: F821
# The formgrader lists the labs that it finds in the source folder.
c.CourseDirectory.source_directory = "../solutions"
c.CourseDirectory.release_directory = "../labs"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `coursekit sample`."""
    parser.add_argument("lab", nargs="?", metavar="LAB", help="one lab (default: all of the kit)")
    parser.add_argument("--kit", type=Path, default=Path.cwd(), help="folder of the kit (default: this one)")
    parser.add_argument("--course", type=Path, help="folder of the sample class (default: sample_class/ of the kit)")
    parser.add_argument("--jobs", type=int, help="submissions at a time (default: one a processor)")
    parser.add_argument("--cell-seconds", type=int, default=15, help="time limit of a cell in the sample class")
    parser.add_argument("--allow-unsandboxed", action="store_true", help="grade even where nothing can be isolated")


def run(args: argparse.Namespace) -> int:
    """0 if every student of every sample class got what they had to get."""
    from ..labs import release
    from ..records.course import CourseError
    from ..records.files import Busy

    kit = args.kit.resolve()
    folder = (args.course or kit / "sample_class").resolve()
    names = [args.lab] if args.lab else release.find(kit)
    try:
        return max(_one(args, kit, folder, lab) for lab in names)
    except (CourseError, Busy, ValueError) as error:
        print(f"coursekit sample: {error}", file=sys.stderr)
        return 1


def _one(args: argparse.Namespace, kit: Path, folder: Path, lab: str) -> int:
    import nbformat

    from ..grade.local import Workshop
    from ..grade.run import Runner, default_jobs
    from ..labs import release, sample
    from ..labs.bundle import load
    from ..pages.feedback import write_feedback
    from ..records.course import Course
    from ..records.export import FORMATS, export_lab
    from ..records.files import digest, lock, write_atomically
    from ..records.grades import write_grades
    from .autograde import progress, sandbox

    began = time.monotonic()
    built = release.build(kit, lab)
    source = nbformat.reads(built[kit / "solutions" / lab / f"{lab}.ipynb"], as_version=4)
    student = nbformat.reads(built[kit / "labs" / lab / f"{lab}.ipynb"], as_version=4)
    variants = sample.read_variants(kit / "solutions" / lab / "variants.py")
    papers, expected = sample.make_class(source, student, variants, lab)
    sample.write_class(folder, papers, lab)
    if not (folder / "nbgrader_config.py").is_file() and folder.parent == kit:
        write_atomically(folder / "nbgrader_config.py", SUBCONFIG)
    course = Course.open(folder, kit)
    level = sandbox(args.allow_unsandboxed)
    limits = replace(course.limits, cell_seconds=args.cell_seconds)
    jobs = args.jobs or default_jobs()
    with lock(course.work / "lock", wait=60):
        bundle = load(course, lab)
        open_pool = partial(Workshop, bundle, limits, level, hidden=(str(folder), str(kit)), jobs=jobs)
        # a change of any line of the kit is a reason to look again
        code = digest(*(path.read_bytes() for path in sorted((kit / "coursekit").rglob("*.py"))))
        runner = Runner(course, bundle, limits, open_pool, context=(code,), report=progress())
        rows = runner.run(folder / "submitted")
        write_grades(folder / "grades" / f"{lab}.csv", rows)
        pages, _ = write_feedback(course, lab, jobs=jobs)
        for form in FORMATS:
            write_atomically(folder / "exports" / f"{lab}_{form}.csv", export_lab(course, lab, form))
    seconds = time.monotonic() - began
    print(f"\nSample class of {lab}, sandbox level {level.name}, {seconds:.0f} s, {pages} feedback pages")
    return _compare(rows, expected)


def _compare(rows, expected) -> int:
    from ..records.grades import number

    got = {row.student: row for row in rows}
    wrong = 0
    print(f"{'student':16} {'what they did':42} {'expected':>9} {'graded':>9}  reason")
    for want in expected:
        row = got[want.student]
        same = row.status == want.status and row.score == want.score and want.reason in row.reason
        same = same and bool(want.reason) == bool(row.reason)
        wrong += not same
        left, right = (number(want.score) or want.status), (number(row.score) or row.status)
        mark = "" if same else "   <-- WRONG"
        print(f"{want.student:16} {want.what[:42]:42} {left:>9} {right:>9}  {row.reason[:60]}{mark}")
    print("as it should be" if not wrong else f"{wrong} of {len(expected)} are not as they should be")
    return 1 if wrong else 0
