"""The visible checks accept every sensible way to write a right answer and speak when it is wrong."""

import numpy as np
import pytest
import torch

from coursekit.checks import as_array, matches

RIGHT = {
    "list": [1.0, 2.0],
    "tuple of tensors": (torch.tensor(1.0), torch.tensor(2.0)),
    "array": np.array([1, 2]),
    "single precision": torch.tensor([1.0, 2.0]),
    "with a gradient": torch.tensor([1.0, 2.0], requires_grad=True),
    "integers": torch.tensor([1, 2]),
}


@pytest.mark.parametrize("answer", RIGHT.values(), ids=RIGHT)
def test_right_answers_of_any_kind(answer, capsys, recwarn):
    assert matches("f(x)", answer, torch.tensor([1.0, 2.0], dtype=torch.float64)) is True
    assert capsys.readouterr().out == "✓ f(x)\n"
    assert not recwarn.list


@pytest.mark.parametrize("answer", [3, 3.0, np.float32(3), torch.tensor([3.0]), [[3.0]]])
def test_a_number_may_be_wrapped(answer):
    assert matches("f()", answer, 3.0)


class Anything:
    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0.0

    __rsub__ = __sub__


class Sly(float):
    """Equal to everything, smaller than everything, but still the number it is."""

    def __eq__(self, other):
        return True

    def __le__(self, other):
        return True

    __lt__ = __ge__ = __gt__ = __le__
    __hash__ = float.__hash__


WRONG = [
    (None, "return"),
    ([1.0, 2.5], "largest error is 0.5, at index"),
    ([1.0, 2.0, 3.0], r"shape \(3,\)"),
    ([[1.0, 2.0]], r"shape \(1, 2\)"),
    ([1.0, float("nan")], "NaN"),
    ([1.0, float("inf")], "infinity"),
    ("12", "not numbers|shape"),
    (Anything(), "not numbers"),
    ([Sly(1.0), Sly(7.0)], "largest error is 5"),
    ({}, "not numbers"),
    (lambda x: x, "not numbers"),
]


@pytest.mark.parametrize(("answer", "message"), WRONG)
def test_wrong_answers_are_told_why(answer, message):
    with pytest.raises(AssertionError, match=message) as caught:
        matches("f(x)", answer, [1.0, 2.0], hint="Look there.")
    assert "f(x) is not right yet" in str(caught.value) and "hint: Look there." in str(caught.value)


def test_long_answers_are_shown_in_part():
    with pytest.raises(AssertionError) as caught:
        matches("f(x)", np.arange(1000.0), np.zeros(1000))
    assert len(str(caught.value)) < 400 and "1000 entries" in str(caught.value)


def test_as_array_is_a_copy():
    x = torch.ones(2)
    as_array(x)[0] = 5
    assert x.tolist() == [1, 1]
