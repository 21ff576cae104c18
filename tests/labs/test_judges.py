"""A judge reads whatever comes in the declared form: it returns a sentence, and it never raises."""

import json

import harness
import numpy as np
import pytest

from coursekit._wire import decode, encode
from coursekit.classroom.labs import release
from coursekit.classroom.labs import source as labs
from coursekit.question import Question, verdict

EXTREMES = {
    "zeros": 0.0,
    "NaN": np.nan,
    "infinity": np.inf,
    "minus infinity": -np.inf,
    "huge": 1e308,
    "huge negative": -1e308,
    "tiny": 5e-324,
    "one half": 0.5,
    "complex": 0.5 + 0.5j,
    "complex NaN": complex(np.nan, np.inf),
}


def questions() -> list:
    found = []
    for lab in release.find(harness.ROOT):
        for cell in labs.parse(harness.source_path(lab)).cells:
            question = Question.of_cell(cell.source) if labs.kind(cell) == "test" else None
            if question is not None:
                found.append(pytest.param(lab, question, id=f"{lab.split('_')[0]}-{question.name}"))
    return found


def filled(form, value, length: int = 3, missing: bool = False):
    """Data of this form (see `coursekit.question.fit`) in which every number is `value`."""
    if form is None:
        return value
    if form is str:
        return str(value)
    if isinstance(form, dict):
        return {key: filled(part, value, length, missing) for key, part in form.items()}
    if isinstance(form, list):
        form = [form[0]] * length if form[1:] == [Ellipsis] else form
        return [filled(part, value, length, missing) for part in form]
    if form[:1] == ("maybe",):
        return None if missing else filled(form[1], value, length, missing)
    return np.full([length if n is None else n for n in form], value)


def mixed(data, rng):
    """The same data with some numbers replaced by NaN, infinities and others."""
    if isinstance(data, dict):
        return {key: mixed(part, rng) for key, part in data.items()}
    if isinstance(data, list):
        return [mixed(part, rng) for part in data]
    if isinstance(data, np.ndarray):
        return rng.choice([0.0, 1.0, -1.0, 0.5, np.nan, np.inf, -np.inf, 1e308, -1e-308], data.shape)
    return data


@pytest.mark.parametrize(("lab", "question"), questions())
def test_a_judge_answers_extreme_data_with_a_sentence(lab, question, monkeypatch):
    monkeypatch.chdir(harness.ROOT)
    parts = question.parts()
    for seed in range(2):
        inputs = decode(encode(parts["draw"](np.random.default_rng(seed))))
        form = parts["shapes"](inputs)
        tries = {name: filled(form, value) for name, value in EXTREMES.items()}
        tries |= {f"{name}, empty": filled(form, value, 0) for name, value in EXTREMES.items()}
        tries |= {f"{name}, nothing": filled(form, value, 1, True) for name, value in EXTREMES.items()}
        tries |= {f"mixed {k}": mixed(filled(form, 0.0), np.random.default_rng(k)) for k in range(3)}
        for name, data in tries.items():
            try:
                sentence = verdict(question, parts, inputs, json.dumps({"got": encode(data)}))
            except Exception as error:
                raise AssertionError(f"{name}: the judge raised {type(error).__name__}: {error}") from error
            assert sentence, f"{name}: accepted"
            assert len(sentence) < 2000, f"{name}: a sentence of {len(sentence)} characters"
