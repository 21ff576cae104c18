"""The `coursekit` command: a thin door to the modules that do the work, each imported only when it is called."""

import argparse
import sys
from importlib import import_module

from coursekit import __version__

#: command -> (module with ``add_arguments(parser)`` and ``run(args) -> int``, one line of help)
COMMANDS = {
    "doctor": ("coursekit.classroom.commands.doctor", "what this machine has: device, sandbox level, packages"),
    "release": (
        "coursekit.classroom.labs.release",
        "build the student notebooks labs/ from the sources in solutions/",
    ),
    "autograde": ("coursekit.classroom.commands.autograde", "grade a lab of a class, each submission in its own box"),
    "feedback": ("coursekit.classroom.commands.feedback", "write one feedback page a student"),
    "export": ("coursekit.classroom.commands.export", "write the grades as csv, or for Moodle or Canvas"),
    "report": ("coursekit.classroom.commands.report", "a page on how the class did, question by question"),
    "similar": ("coursekit.classroom.commands.similar", "pairs of answers that are worth a look"),
    "sample": ("coursekit.classroom.commands.sample", "grade a sample class and compare with what must come out"),
    "bench": ("coursekit.bench", "time our methods beside other libraries"),
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="coursekit",
        description="Mathematics of deep learning: release labs, grade them, measure the methods.",
        epilog="commands:\n" + "\n".join(f"  {name:12} {text}" for name, (_, text) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"coursekit {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="one of the commands below")
    args = parser.parse_args(argv[:1] or ["--help"])
    module_name, text = COMMANDS[args.command]
    module = import_module(module_name)
    command = argparse.ArgumentParser(prog=f"coursekit {args.command}", description=text)
    module.add_arguments(command)
    return module.run(command.parse_args(argv[1:])) or 0


if __name__ == "__main__":
    sys.exit(main())
