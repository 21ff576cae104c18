"""Put back what a student's notebook lost, so that nbgrader grades what the student meant.

Only two things are taken from a student's graded cell: which cell it is, and, in an answer cell, its text. Everything
else comes from the lab. Copied cells, deleted tests, changed points, tags and schema versions then mean nothing.
"""

import copy

from ..labs.bundle import Bundle, Cell
from .notebook import Rejected

MISSING = "# This cell was missing and was put back by the grader.\n"


def repair(notebook: dict, bundle: Bundle, *, max_cells: int) -> tuple[dict, list[str]]:
    """The notebook in nbgrader's format, with every cell of the lab exactly once, and notes on what was put right."""
    cells = notebook["cells"]
    if len(cells) > max_cells:
        raise Rejected(f"the notebook has {len(cells)} cells; the limit is {max_cells}")
    notes: list[str] = []
    claimed = _claim(cells, bundle, notes)
    answers = [c for c in bundle.cells if c.kind in ("solution", "manual")]
    lost = [c for c in answers if c.grade_id not in claimed.values()]
    if answers and len(lost) == len(answers):
        raise Rejected(
            "no answer cell of the lab is left in the notebook (was it made anew?); "
            "download the lab again, copy your answers into its cells and hand that in"
        )
    by_name = {c.grade_id: c for c in bundle.cells}
    order = [(_finished(cell, by_name.get(claimed.get(i))), claimed.get(i)) for i, cell in enumerate(cells)]
    order = _with_missing(order, bundle, notes)
    order = _tests_after_answers(order, bundle, notes)
    ids: set[str] = set()
    for number, (cell, name) in enumerate(order):
        wanted = by_name[name].cell_id if name else f"cell-{number}"
        cell["id"] = wanted if wanted not in ids else f"copy-{number}"
        ids.add(cell["id"])
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": [cell for cell, _ in order]}, notes


def _claim(cells: list[dict], bundle: Bundle, notes: list[str]) -> dict[int, str]:
    """Index of a student's cell -> the cell of the lab it is, each at most once.

    Of several copies of an answer the last that was changed counts. A cell without nbgrader's metadata is known by its
    id, and a test also by its text.
    """
    candidates: dict[str, list[int]] = {c.grade_id: [] for c in bundle.cells}
    by_id = {c.cell_id: c for c in bundle.cells}
    by_text = {c.stub.strip(): c for c in bundle.cells if c.kind in ("test", "locked")}
    nameless = []
    for index, cell in enumerate(cells):
        if cell["grade_id"] in candidates:
            candidates[cell["grade_id"]].append(index)
        else:
            nameless.append(index)
    for index in nameless:
        known = by_id.get(cells[index]["cell_id"]) or by_text.get(cells[index]["source"].strip())
        if known and not candidates[known.grade_id]:
            candidates[known.grade_id].append(index)
            notes.append(f"{known.grade_id}: the metadata was missing")
    claimed = {}
    for cell in bundle.cells:
        found = candidates[cell.grade_id]
        if len(found) > 1:
            notes.append(f"{cell.grade_id}: {len(found)} copies, one graded")
        changed = [i for i in found if cells[i]["source"].strip() != cell.stub.strip()]
        if found:
            answer = cell.kind in ("solution", "manual")
            claimed[(changed or found)[-1] if answer else found[0]] = cell.grade_id
    return claimed


def _finished(cell: dict, known: Cell | None) -> dict:
    """A cell in nbgrader's format; what the lab knows about it is taken from the lab."""
    kind = known.cell_type if known else cell["cell_type"]
    source = known.source if known and known.kind in ("test", "locked") else cell["source"]
    done = {"cell_type": kind, "source": source, "metadata": {}}
    if known:
        done["metadata"]["nbgrader"] = copy.deepcopy(known.metadata)
    if kind == "code":
        done |= {"outputs": [], "execution_count": None}
    if kind == "markdown" and cell.get("attachments"):
        done["attachments"] = cell["attachments"]
    return done


def _with_missing(order: list, bundle: Bundle, notes: list[str]) -> list:
    """Missing cells of the lab go behind the cell that comes before them in the lab.

    A missing answer in code is left empty: the stub would hide an answer that the student wrote in another cell.
    """
    for position, cell in enumerate(bundle.cells):
        names = [name for _, name in order]
        if cell.grade_id in names:
            continue
        notes.append(f"{cell.grade_id}: the cell was missing")
        before = [names.index(c.grade_id) for c in bundle.cells[:position]]
        text = cell.stub if cell.kind == "manual" else MISSING
        given = {"cell_type": cell.cell_type, "source": text, "attachments": None}
        where = before[-1] + 1 if before else 0
        order = [*order[:where], (_finished(given, cell), cell.grade_id), *order[where:]]
    return order


def _tests_after_answers(order: list, bundle: Bundle, notes: list[str]) -> list:
    """Tests that stand before an answer that precedes them in the lab move behind it."""
    earlier: set[str] = set()
    for cell in bundle.cells:
        if cell.kind != "test":
            earlier.add(cell.grade_id)
            continue
        names = [name for _, name in order]
        here = names.index(cell.grade_id)
        last = max((names.index(name) for name in earlier), default=-1)
        if here < last:
            notes.append(f"{cell.grade_id}: the cells were in another order")
            entry = order[here]
            order = [*order[:here], *order[here + 1 : last + 1], entry, *order[last + 1 :]]
        earlier.add(cell.grade_id)
    return order
