import inspect
import json
import time
from importlib import import_module

import pytest
import torch

from coursekit.bench import report, timing, worker
from coursekit.bench.case import Agreement, Case
from coursekit.bench.runner import run_row
from coursekit.bench.tasks import TASKS, Task
from coursekit.cli import main


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture
def row(monkeypatch):
    """A row whose peer is a library that answers as we do; ``build`` may be replaced."""

    def build(device, dtype):
        x = torch.ones(64, 64, device=device, dtype=dtype)
        return Case(
            lambda: x @ x,
            {"peer": lambda: lambda: x @ x + 1e-7, "other": lambda: lambda: x @ x},
            lambda peer, ours, theirs: Agreement("entries differ by", float((ours - theirs).abs().max()), 1e-3),
            bytes=2 * x.numel() * x.element_size(),
            note={"peer": "adds a little"},
        )

    monkeypatch.setitem(TASKS, "toy", Task("a product", "toy:build", {"peer": 1e-9}))
    monkeypatch.setattr(worker, "_build", lambda task, device, dtype: build(torch.device(device), dtype))
    return worker.measure("toy", device="cpu", repeats=3, peers=True)


def test_calls_are_timed_in_turns():
    order = []
    calls = {name: lambda name=name: (order.append(name), spin(0.06)) for name in ("a", "b")}
    times = timing.interleave(calls, repeats=3)
    assert order == ["a", "b"] * 4  # one call each to learn how long they take
    assert all(len(times[name][clock]) == 3 for name in "ab" for clock in ("cpu", "wall"))
    assert all(t >= 0.06 for t in times["a"]["cpu"])


def test_short_calls_are_repeated_until_a_clock_can_see_them():
    count = 0

    def call():
        nonlocal count
        count += 1

    timing.interleave({"call": call}, repeats=1)
    assert count > 100


def test_summary_is_the_median_and_the_quartiles():
    assert timing.summary([5.0, 1.0, 3.0, 2.0, 4.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert timing.summary([2.0]) == {"median": 2.0, "low": 2.0, "high": 2.0}


def test_operations_are_counted():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert timing.count_flops(lambda: a @ b) == 2 * 3 * 5 * 7


def test_other_answers_are_refused():
    Agreement("x differs by", 1e-9, 1e-8).require("peer")
    for error in (1e-7, float("nan")):
        with pytest.raises(AssertionError, match="peer gives another answer: x differs by"):
            Agreement("x differs by", error, 1e-8).require("peer")


def test_a_row_compares_in_both_precisions_and_then_times(row):
    assert set(row["peers"]) == {"peer", "other"}
    agreement = row["peers"]["peer"]["agreement"]
    assert agreement["float64"]["error"] == pytest.approx(1e-7, rel=1e-3)
    assert set(agreement) == {"float32", "float64"}
    assert row["limits"]["arithmetic"] > 0 and row["limits"]["memory"] > 0
    assert row["limits"]["flops"] == 2 * 64**3
    json.dumps(row)


def test_document_and_table_say_whether_promises_hold(row):
    document = report.document([row, {"name": "bad", "title": "", "error": "ValueError: no"}], "cpu")
    assert [(p["peer"], p["holds"]) for p in document["promises"]] == [("peer", True)]
    text = report.table(document)
    assert "1e-09 yes" in text and "ValueError: no" in text and "toy, peer: adds a little" in text
    row["peers"]["peer"]["target"] = 1e9
    assert "1e+09 NO" in report.table(report.document([row], "cpu"))


def test_our_side_alone_runs_without_any_peer():
    result = run_row("laplace-diag-fit", device="cpu", repeats=1, python=None)
    assert result.get("error") is None, result
    assert result["peers"] == {} and result["ours"]["cpu"]["median"] > 0
    assert "of the arithmetic limit" in report.table(report.document([result], "cpu"))


def test_every_row_names_a_function():
    for name, task in TASKS.items():
        module, function = task.build.split(":")
        build = getattr(import_module(f"coursekit.bench.cases.{module}"), function)
        assert list(inspect.signature(build).parameters) == ["device", "dtype"], name


def test_the_rows_promised():
    """The ratios of the project's plan; a row may promise more, never less."""
    plan = {
        "laplace-last-fit": [5],
        "laplace-last-predict": [15],
        "laplace-kfac-predict": [100],
        "laplace-diag-fit": [100],
        "dropout-lenet": [15],
        "dropout-mlp": [1.5],
        "eigenvalues": [3.5, 5, 1.5],
        "plane": [4],
        "odin": [1.3],
        "ece": [2, 5],
        "detection": [1.2],
        "ensemble": [1.0],
    }
    for name, ratios in plan.items():
        assert all(a >= b for a, b in zip(TASKS[name].targets.values(), ratios, strict=True)), name


def test_bad_arguments_are_named(capsys):
    assert main(["bench", "--only", "nothing"]) == 2
    assert "no row is called 'nothing'" in capsys.readouterr().err
    assert main(["bench", "--repeats", "0"]) == 2
