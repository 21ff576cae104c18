"""`coursekit bench`: our methods beside the libraries a teacher would otherwise take, in one run.

Each row runs in a process of its own, in the environment of the peers (``make peers``): first the outputs of both
sides are compared, then they are timed in turns on one thread. Without that environment, and on a GPU, our side
alone is timed, with the share of the device's measured limit that it reaches.
"""

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from coursekit.bench.tasks import TASKS

    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument("--device", default="cpu", help="cpu (default), or cuda: our side alone, and its limits")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help=f"only this row; may be repeated: {', '.join(TASKS)}"
    )
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="interleaved rounds of a row (default 7)")
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=Path(".venv-peers/bin/python"),
        metavar="PATH",
        help="python of the environment of the peers (default .venv-peers/bin/python)",
    )


def run(args: argparse.Namespace) -> int:
    from coursekit.bench import report
    from coursekit.bench.runner import run_row
    from coursekit.bench.tasks import TASKS

    names = args.only or list(TASKS)
    unknown = [name for name in names if name not in TASKS]
    if unknown or args.repeats < 1:
        problem = f"no row is called {unknown[0]!r}" if unknown else f"--repeats {args.repeats} is less than 1"
        print(f"coursekit bench: {problem}; rows: {', '.join(TASKS)}", file=sys.stderr)
        return 2
    python = args.peers_python if args.peers_python.exists() and args.device == "cpu" else None
    if python is None and args.device == "cpu":
        print(f"{args.peers_python} does not exist: our side alone (`make peers` installs the others)", file=sys.stderr)
    rows = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows.append(run_row(name, device=args.device, repeats=args.repeats, python=python))
    document = report.document(rows, args.device)
    print(json.dumps(document, indent=1) if args.json else report.table(document))
    return 0 if all(row.get("error") is None for row in rows) else 1
