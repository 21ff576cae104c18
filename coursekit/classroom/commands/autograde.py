"""`coursekit autograde LAB`: grade a class, each submission in its own box."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `coursekit autograde`."""
    parser.add_argument("lab", metavar="LAB", help="name of the lab, e.g. lab1_bayesian_regression")
    parser.add_argument("--course", type=Path, default=Path.cwd(), help="folder of the class (default: this one)")
    parser.add_argument("--kit", type=Path, help="folder with solutions/ and nbgrader_config.py (default: the course)")
    parser.add_argument("--submitted", type=Path, help="folder of submissions (default: submitted/ of the course)")
    parser.add_argument("--roster", type=Path, help="CSV with a column 'student' (default: roster.csv)")
    parser.add_argument("--jobs", type=int, help="submissions at a time (default: one a processor)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="send the work to a Dask scheduler, e.g. tcp://host:8786")
    parser.add_argument(
        "--allow-unsandboxed", action="store_true",
        help="grade even where nothing can be isolated: submissions can then read and change your files",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0 if everybody is graded or rejected; 2 if somebody is in review, 3 if missing, 1 if nothing could be done."""
    from sqlalchemy.exc import OperationalError

    from ..grade.cluster import ClusterPool
    from ..grade.local import Workshop
    from ..grade.run import Runner, default_jobs
    from ..labs.bundle import load
    from ..records.course import Course, CourseError
    from ..records.files import Busy, lock
    from ..records.grades import exit_code, summary, write_grades

    began = time.monotonic()
    try:
        if args.jobs is not None and args.jobs < 1:
            raise CourseError(f"--jobs {args.jobs}: at least one submission has to be graded at a time")
        course = Course.open(args.course, args.kit)
        submitted = args.submitted or course.folder("submitted")
        if not submitted.is_dir():
            where = f"<student>/{args.lab}/{args.lab}.ipynb"
            raise CourseError(f"there is no folder {submitted}; put submissions there as {where}")
        level = None if args.cluster else sandbox(args.allow_unsandboxed)
        with lock(course.work / "lock"):
            bundle, limits = load(course, args.lab), course.limits
            if args.cluster:
                floor = "D" if args.allow_unsandboxed else "B"
                open_pool = partial(ClusterPool, args.cluster, bundle, limits, floor=floor)
                where = f"cluster {args.cluster}, sandbox level {floor} or better"
            else:
                hidden = (str(course.root), str(course.kit), str(submitted.resolve()))
                jobs = args.jobs or default_jobs()
                open_pool = partial(Workshop, bundle, limits, level, hidden=hidden, jobs=jobs)
                where = f"sandbox level {level.name}"
            runner = Runner(course, bundle, limits, open_pool, report=progress())
            rows = runner.run(submitted, args.roster)
            write_grades(course.root / "grades" / f"{args.lab}.csv", rows)
    except (CourseError, Busy, ValueError) as error:
        print(f"coursekit autograde: {error}", file=sys.stderr)
        return 1
    except OperationalError as error:
        print(f"coursekit autograde: gradebook.db cannot be used: {error.orig}; run it again to go on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ncoursekit autograde: stopped; what was graded is kept, run it again to go on", file=sys.stderr)
        return 130
    print(summary(rows))
    print(f"{where}, {time.monotonic() - began:.1f} s; grades/{args.lab}.csv")
    return exit_code(rows)


def sandbox(allow_unsandboxed: bool):
    """The sandbox level of this machine, said aloud; an error if there is none and that was not allowed."""
    from ..records.course import CourseError
    from ..sandbox import levels

    level = levels.probe()
    print(f"sandbox level {level.name}: {levels.MEANING[level.name]}", file=sys.stderr)
    if not level.sandboxed and not allow_unsandboxed:
        raise CourseError(
            f"this machine has no sandbox ({'; '.join(level.tried)}); `coursekit doctor` says how to get one, "
            "--allow-unsandboxed grades without"
        )
    return level


def progress():
    """A line for each submission with an estimate of the time left; on a terminal they take turns in one line."""
    terminal = sys.stderr.isatty()

    def report(done: int, total: int, student: str, result: dict, left: float) -> None:
        score = f"{result['score']:g}/{result['max_score']:g}" if "score" in result else ""
        minutes = f"{left / 60:.0f} min left" if left > 90 else f"{left:.0f} s left"
        line = f"[{done}/{total}] {student} {result['status']} {score} {result['wall_s']:.1f} s, {minutes}"
        end = "" if terminal and done < total else "\n"
        print(f"\r{line[:100]:100}" if terminal else line, end=end, file=sys.stderr, flush=True)

    return report
