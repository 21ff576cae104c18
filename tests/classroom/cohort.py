"""A whole class of strangers, one in ten hostile, graded by the command an instructor types, with its peak memory.

    python tests/classroom/cohort.py lab1_bayesian_regression --count 500

Nine in ten hand in the papers of the sample class (see coursekit/classroom/labs/sample.py), the others go through the cases of
the bench. Every student has to have one row, and the row that their paper deserves.
"""

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench
import psutil
from bench import Lab, Outcome, all_cases

from coursekit.classroom.labs.sample import make_class, read_variants
from coursekit.classroom.records.course import Course
from coursekit.classroom.records.grades import Row

SLOW = ("too_slow",)  # runs into the time limit of the course twice: minutes for each student
# every_cell_slow is over the limits of the bench, and within those of a course: it is graded, as it should be
HARMLESS = ("a_honest", "every_cell_slow")


def memory(pid: int) -> tuple[int, int]:
    """Bytes of a process and its children: shared pages counted once (PSS), and counted for each (RSS)."""
    proportional = resident = 0
    try:
        whole = psutil.Process(pid)
        family = [whole, *whole.children(recursive=True)]
    except psutil.Error:
        return 0, 0
    for process in family:
        try:
            info = process.memory_full_info()
        except (psutil.Error, OSError):
            continue
        proportional, resident = proportional + info.pss, resident + info.rss
    return proportional, resident


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab")
    parser.add_argument("--kit", type=Path, default=Path.cwd())
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--questions", type=int, help="end the lab after so many questions")
    args = parser.parse_args()
    kit = args.kit.resolve()
    folder = Path(tempfile.mkdtemp(prefix="cohort-"))
    if args.questions:
        kit = bench.shorten(kit, args.lab, args.questions, folder / "kit")
    lab = Lab.load(kit, args.lab)
    course = Course.open(folder, kit)
    variants = read_variants(Path(__file__).parents[2] / "solutions" / args.lab / "variants.py")
    papers, expected = make_class(lab.source, lab.blank(), variants, args.lab)
    honest = [one for one in expected if one.student not in SLOW]
    hostile = [one for one in all_cases() if one.name not in HARMLESS and one.student == one.name]

    deserved: dict[str, object] = {}
    for number in range(args.count):
        kind = hostile[number // 10 % len(hostile)] if number % 10 == 9 else honest[number % len(honest)]
        student = f"s{number:03}_{kind.student}"
        deserved[student] = kind
        place = folder / "submitted" / student / args.lab
        if number % 10 == 9:
            kind.make(place, lab)
        else:
            place.mkdir(parents=True)
            (place / f"{args.lab}.ipynb").write_text(papers[kind.student], encoding="utf-8")
    (folder / "roster.csv").write_text("student\n" + "".join(f"{name}\n" for name in deserved), encoding="utf-8")

    command = [sys.executable, "-m", "coursekit.cli", "autograde", args.lab, "--course", str(folder)]
    command += ["--kit", str(kit), "--jobs", str(args.jobs)]
    began, peak = time.monotonic(), (0, 0)
    with subprocess.Popen(command) as grading:
        while grading.poll() is None:
            peak = tuple(map(max, peak, memory(grading.pid)))
            time.sleep(0.5)
    took = time.monotonic() - began

    with (folder / "grades" / f"{args.lab}.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    problems = (
        [] if [r["student"] for r in table] == sorted(deserved) else ["the table does not have each student once"]
    )
    rows = {
        r["student"]: Row(r["student"], r["status"], float(r["score"]) if r["score"] else None, lab.full, r["reason"])
        for r in table
    }
    for student, kind in deserved.items():
        row = rows.get(student)
        if isinstance(kind, bench.Case):
            path = course.folder("autograded") / student / args.lab / f"{args.lab}.ipynb"
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            seen = Outcome({kind.student: row} if row else {}, {kind.student: text}, {}, {})
            problem = bench.verdict(kind, lab, seen)
        else:
            got = row and (row.status, row.score)
            right = got == (kind.status, kind.score) and kind.reason in row.reason
            problem = "" if right else f"expected {kind.status} {kind.score} {kind.reason!r}, got {row}"
        problems += [f"{student}: {problem}"] if problem else []
    problems += bench.leftovers()
    print("\n".join(problems) or "every student has the row their paper deserves")
    print(f"{args.count} students, {len(problems)} problems, {took:.0f} s, exit code {grading.returncode}")
    print(
        f"peak memory {peak[0] / 2**30:.2f} GiB (shared pages once), {peak[1] / 2**30:.2f} GiB (resident, summed); {folder}"
    )
    if not problems:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
