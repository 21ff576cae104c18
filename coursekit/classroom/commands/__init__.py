"""The commands of the grader; each module has `add_arguments(parser)` and `run(args) -> int`."""
