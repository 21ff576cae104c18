"""Does a test cell that seems to pass really pass? Two questions to the kernel, each with a secret of its own.

The mark: one more statement at the end of the test, an assertion that must fail with a fresh secret. A test passed if,
and only if, that very failure comes back; a cell that is skipped, cut short, rewritten without its assertions, or
reported as a success by someone else does not reach it. The canary: after a test has passed, comparisons that must
fail. Both run in the student's process. They catch the known tricks, not a program written to answer them.
"""

import secrets
from textwrap import dedent

BLANK = "\n" * 12  # keeps the mark out of the lines around an error that tracebacks show


def fresh_secret() -> str:
    """A string that no output can hold by accident."""
    return "end-" + secrets.token_hex(16)


def marked(source: str, secret: str) -> str:
    """The test with its mark."""
    return f"{source}{BLANK}assert False, {secret!r}"


CANARY = dedent("""
    def _canary():
        import builtins, math, sys
        lies = []

        def fails(name, function, *values):
            try:
                function(*values)
            except AssertionError:
                return
            except BaseException as error:
                lies.append(f"{name} raises {type(error).__name__}")
                return
            lies.append(f"{name} accepts what is wrong")

        def false(name, function, *values):
            try:
                answer = bool(function(*values))
            except BaseException as error:
                answer = f"raises {type(error).__name__}"
            if answer is not False:
                lies.append(f"{name} says {answer}")

        def asserts():
            assert 1 == 2

        fails("assert", asserts)
        false("isinstance", isinstance, 1, str)
        false("issubclass", issubclass, int, str)
        false("all", all, [False])
        false("any", any, [False])
        false("callable", callable, 1)
        false("hasattr", hasattr, 1, "nothing")
        false("math.isclose", math.isclose, 0.0, 1.0)
        for name, value, function, *given in (
            ("abs", 2, abs, -2), ("len", 2, len, [1, 2]), ("max", 3, max, [1, 3]), ("min", 1, min, [1, 3]),
            ("sum", 3, sum, [1, 2]), ("float", 2.5, float, "2.5"), ("int", 2, int, 2.5), ("round", 2, round, 2.2),
            ("bool", False, bool, 0), ("str", "1", str, 1), ("list", [1], list, (1,)), ("type", int, type, 1),
        ):
            try:
                answer = function(*given)
            except BaseException as error:
                answer = error
            if type(answer) is not type(value) or answer != value:
                lies.append(f"{name} is not Python's")
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        checks = sys.modules.get("coursekit.checks")
        if numpy is not None:
            testing = sys.modules.get("numpy.testing", getattr(numpy, "testing", None))
            for name in ("assert_allclose", "assert_array_equal", "assert_equal", "assert_almost_equal",
                         "assert_array_almost_equal", "assert_array_less"):
                fails(f"numpy.testing.{name}", getattr(testing, name, None), numpy.ones(2), numpy.zeros(2))
                fails(f"np.testing.{name}", getattr(numpy.testing, name, None), numpy.ones(2), numpy.zeros(2))
            for name in ("allclose", "array_equal", "isclose", "all", "any", "isfinite"):
                given = {"isfinite": (numpy.nan,), "all": ([0],), "any": ([0],), "isclose": (0.0, 1.0)}
                false(f"numpy.{name}", getattr(numpy, name), *given.get(name, ([0.0], [1.0])))
        if torch is not None:
            one, two = torch.ones(2), torch.zeros(2)
            fails("torch.testing.assert_close", torch.testing.assert_close, one, two)
            false("torch.allclose", torch.allclose, one, two)
            false("torch.equal", torch.equal, one, two)
        if checks is not None:
            fails("coursekit.checks.matches", checks.matches, "canary", 0.0, 1.0)
        shell = get_ipython()
        kernel = getattr(shell, "kernel", None)
        manager = shell.input_transformer_manager
        for name, there in (
            ("an AST transformer", shell.ast_transformers),
            ("an input transformer", shell.input_transformers_post),
            ("a changed shell", [k for k in vars(shell) if k in ("run_cell", "run_cell_async", "run_ast_nodes",
                                 "run_code", "transform_cell")]),
            ("a changed kernel", [k for k in vars(kernel) if k in ("do_execute", "execute_request")]),
            ("changed line transforms", manager.line_transforms[len(type(manager)().line_transforms):]),
        ):
            if there:
                lies.append(f"{name} is installed")
        for kind, names in ((type(shell), ("run_cell", "run_cell_async", "run_ast_nodes", "run_code")),
                            (type(kernel), ("do_execute", "execute_request"))):
            for name in names:
                function = getattr(kind, name, None)
                if not str(getattr(function, "__module__", "")).startswith(("IPython.", "ipykernel.")):
                    lies.append(f"{kind.__name__}.{name} is replaced")
        if type(builtins) is not type(sys) or builtins.__name__ != "builtins":
            lies.append("builtins is replaced")
        return lies

    assert False, SECRET + "".join("; " + str(lie) for lie in _canary())
""")


def canary(secret: str) -> str:
    """A cell that must fail with `secret`, followed by what it found to be tampered with."""
    return CANARY.replace("SECRET", repr(secret))


def found(message: str, secret: str) -> list[str] | None:
    """What the canary found, from its error message; None if the message is not the canary's."""
    if not message.startswith(secret):
        return None
    return [lie[:100] for lie in message.removeprefix(secret).split("; ") if lie][:8]
