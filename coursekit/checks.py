"""The visible checks of the labs: they say what was expected, what came, and where to look.

Hidden tests do not use this module: an answer that tampers with it gains nothing.
"""

import numpy as np
import torch


def matches(name: str, answer, expected, *, rtol: float = 1e-6, atol: float = 1e-8, hint: str = "") -> bool:
    r"""True if every entry obeys :math:`|a - e| \le \text{atol} + \text{rtol}\,|e|`, else an error that speaks.

    Args:
        name: what is checked, as the student wrote it, e.g. ``"phi_linear(x)"``.
        answer: the student's value: a number, a (nested) list, an array or a tensor on any device.
        expected: the value it should have.
        hint: where to look if it does not.

    Raises:
        AssertionError: the answer is None, is no array of numbers, has another shape, holds NaN, or is wrong.

    >>> matches("f(2)", [1.0, 4.0], torch.tensor([1.0, 4.0]))
    ✓ f(2)
    True
    >>> matches("f(2)", [1.0, 4.5], [1.0, 4.0], hint="Is the square there?")
    Traceback (most recent call last):
    ...
    AssertionError: f(2) is not right yet.
      expected: [1, 4]
      got:      [1, 4.5]
      the largest error is 0.5, at index [1]
      hint: Is the square there?
    """
    want = as_array(expected)

    def wrong(*lines: str) -> AssertionError:
        return AssertionError("\n  ".join([f"{name} is not right yet.", *lines, *([f"hint: {hint}"] * bool(hint))]))

    if answer is None:
        raise wrong("expected: " + _describe(want), "got:      None (does the function end with `return`?)")
    try:
        got = as_array(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        found = f"got:      {type(answer).__name__}, not numbers ({error})"
        raise wrong("expected: " + _describe(want), found) from None
    if not want.shape and got.size == 1:
        got = got.reshape(())  # a number, however it is wrapped
    if got.shape != want.shape:
        raise wrong(f"expected: shape {want.shape}", f"got:      shape {got.shape}")
    if not np.isfinite(got).all():
        raise wrong("expected: " + _describe(want), "got:      NaN or infinity in " + _describe(got))
    error = np.abs(got - want)
    excess = error - (atol + rtol * np.abs(want))
    if excess.size and excess.max() > 0:
        worst = np.unravel_index(int(excess.argmax()), error.shape)
        place = f", at index {[int(i) for i in worst]}" if worst else ""
        lines = ["expected: " + _describe(want), "got:      " + _describe(got)]
        raise wrong(*lines, f"the largest error is {error[worst]:.3g}{place}")
    print(f"✓ {name}")
    return True


def as_array(value) -> np.ndarray:
    """A float64 copy of a number, list, array or tensor (also on a GPU or with a gradient); plain numpy, no subclass.

    >>> as_array([torch.tensor(1.0, requires_grad=True), torch.tensor(2.0)])
    array([1., 2.])
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    elif isinstance(value, list | tuple):
        value = [as_array(entry) for entry in value]
    return np.array(value, dtype=np.float64)


def _describe(array: np.ndarray) -> str:
    """All of a small array, else its first entries and its shape."""
    with np.printoptions(precision=6, suppress=True, linewidth=100, threshold=20, formatter={"float": "{:.6g}".format}):
        if array.size <= 12:
            return np.array2string(array, separator=", ").replace("\n", "\n            ")
        first = np.array2string(array.ravel()[:6], separator=", ")
        return f"{first[:-1]}, ...] (the first of {array.size} entries, shape {array.shape})"
