import json
import math

import pytest
import torch

from coursekit import evidence
from coursekit.evidence import MIME, EvidenceError, check


def test_a_claim_that_holds_records_itself():
    held = check("B5.1 variance of a line", torch.tensor([1.0, 2.0]), [1.0, 2.0 + 1e-9], atol=1e-8, source="bishop2006")
    bundle = held._repr_mimebundle_()
    (record,) = bundle[MIME]
    assert record["id"] == "B5.1"
    assert record["statement"] == "variance of a line"
    assert record["source"] == "bishop2006"
    assert record["holds"] is True
    assert json.loads(json.dumps(record)) == record
    assert "B5.1" in bundle["text/html"]
    assert "B5.1" in bundle["text/plain"]


def test_html_is_escaped():
    held = check("B1.1 a < b & c", 1, 1, source="derived")
    assert "a &lt; b &amp; c" in held._repr_mimebundle_()["text/html"]


def test_several_checks_show_as_one_output():
    shown = evidence.show(check("B1.1 one", 1, 1, source="derived"), check("B1.2 two", 2, at_most=3, source="derived"))
    assert [r["id"] for r in shown._repr_mimebundle_()[MIME]] == ["B1.1", "B1.2"]


@pytest.mark.parametrize(
    "measured, bound",
    [
        (1.01, {"expected": 1.0}),
        (1.01, {"expected": 1.0, "atol": 0.009}),
        (1.02, {"expected": 1.0, "rtol": 0.01}),
        (math.nan, {"expected": math.nan, "atol": 1.0}),
        (math.nan, {"at_most": 1.0}),
        ([0.5, 2.0], {"at_most": 1.0}),
        (0.5, {"at_least": 0.6}),
        ([], {"at_most": 1.0}),
        (-math.inf, {"at_least": 0.0}),
        (math.inf, {"expected": 1.0, "rtol": 0.5}),
    ],
)
def test_a_claim_that_fails_raises(measured, bound):
    with pytest.raises(EvidenceError, match="B9.9 claim: measured"):
        check("B9.9 claim", measured, **bound, source="derived")


@pytest.mark.parametrize(
    "measured, bound",
    [
        (1, {"expected": 1}),
        (True, {"expected": True}),
        (1.009, {"expected": 1.0, "atol": 0.01}),
        (-1.009, {"expected": -1.0, "rtol": 0.01}),
        (torch.arange(12.0), {"at_least": 0, "at_most": 11}),
        ([torch.tensor(1.0), 2], {"expected": [1, 2]}),
    ],
)
def test_a_claim_within_its_bound_holds(measured, bound):
    assert check("B9.9 claim", measured, **bound, source="derived").id == "B9.9"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: check("variance", 1, 1, source="derived"), "begin with the id"),
        (lambda: check("B1.1 no bound", 1, source="derived"), "needs a bound"),
        (lambda: check("B1.1 no source", 1, 1, source=""), "needs a source"),
        (lambda: check("B1.1 shapes", [1, 2], [1, 2, 3], source="derived"), "has shape"),
    ],
)
def test_misuse_says_so(call, message):
    with pytest.raises(ValueError, match=message):
        call()
