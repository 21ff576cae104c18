"""Notebooks whose cells, metadata or files are not what they were."""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nbformat
from bench import ANY, CASES, FULL, GRADED, REJECTED, ZERO, Case, Lab, case, write
from nbformat.v4 import new_code_cell

from coursekit.classroom.labs.source import kind

# --- structure ------------------------------------------------------------------------------------------------------


def tests_of(notebook):
    return [c for c in notebook.cells if kind(c) == "test"]


@case(GRADED, FULL)
def pasted_test(lab, folder):
    notebook = lab.right()
    cell = tests_of(notebook)[0]
    notebook.cells.insert(0, copy.deepcopy(cell))
    return notebook


@case(GRADED, FULL)
def everything_twice(lab, folder):
    notebook = lab.right()
    notebook.cells += copy.deepcopy(notebook.cells)
    return notebook


@case(GRADED, ZERO)
def everything_twice_blank(lab, folder):
    notebook = lab.blank()
    notebook.cells += copy.deepcopy(notebook.cells)
    return notebook


@case(GRADED, FULL)
def all_tests_deleted(lab, folder):
    notebook = lab.right()
    notebook.cells = [c for c in notebook.cells if kind(c) != "test"]
    return notebook


@case(GRADED, ZERO)
def all_tests_deleted_blank(lab, folder):
    notebook = lab.blank()
    notebook.cells = [c for c in notebook.cells if kind(c) != "test"]
    return notebook


@case(GRADED, FULL)
def last_test_deleted(lab, folder):
    notebook = lab.right()
    notebook.cells.remove(tests_of(notebook)[-1])
    return notebook


@case(GRADED, ANY)
def last_answer_deleted(lab, folder):
    notebook = lab.right()
    notebook.cells.remove([c for c in notebook.cells if kind(c) == "solution"][-1])
    return notebook


@case(GRADED + REJECTED, FULL)
def metadata_gone(lab, folder):
    notebook = lab.right()
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


@case(REJECTED, None, "download the lab again")
def metadata_and_ids_gone(lab, folder):
    notebook = lab.right()
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell["id"] = {}, f"c{number}"
    return notebook


def with_metadata(name: str, change: Callable, score=FULL, blank=False):
    def make(folder: Path, lab: Lab) -> None:
        notebook = lab.blank() if blank else lab.right()
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader"):
                change(cell)
        write(folder, lab, notebook)

    CASES.append(Case(name, make, GRADED, score))


with_metadata("schema_1", lambda c: c.metadata.nbgrader.update(schema_version=1))
with_metadata("schema_99", lambda c: c.metadata.nbgrader.update(schema_version=99))
with_metadata("schema_three", lambda c: c.metadata.nbgrader.update(schema_version="three"))
with_metadata("points_1000", lambda c: c.metadata.nbgrader.update(points=1000))
with_metadata("points_1e999_blank", lambda c: c.metadata.nbgrader.update(points="1e999"), ZERO, True)
with_metadata("grade_off", lambda c: c.metadata.nbgrader.update(grade=False))
with_metadata("solution_on_blank", lambda c: c.metadata.nbgrader.update(solution=True, locked=False), ZERO, True)
with_metadata("task_on", lambda c: c.metadata.nbgrader.update(task=True))
with_metadata("wrong_types", lambda c: c.metadata.nbgrader.update(grade="yes", locked=[], cell_type=7, checksum={}))
with_metadata("skip_execution_blank", lambda c: c.metadata.update(tags=["skip-execution"]), ZERO, True)
with_metadata("skip_execution", lambda c: c.metadata.update(tags=["skip-execution"]))
with_metadata("raises_exception_blank", lambda c: c.metadata.update(tags=["raises-exception"]), ZERO, True)
with_metadata("tests_edited_blank", lambda c: c.update(source="pass") if kind(c) == "test" else None, ZERO, True)
with_metadata("tests_edited", lambda c: c.update(source="assert False") if kind(c) == "test" else None)


@case(GRADED, FULL)
def cells_of_another_type(lab, folder):
    notebook = lab.right()
    for cell in notebook.cells:
        if kind(cell) in ("test", "solution"):
            cell.cell_type = "markdown" if kind(cell) == "test" else "raw"
            cell.pop("outputs", None), cell.pop("execution_count", None)
    return notebook


@case(GRADED, FULL)
def tests_first(lab, folder):
    notebook = lab.right()
    tests = tests_of(notebook)
    notebook.cells = tests + [c for c in notebook.cells if c not in tests]
    return notebook


@case(GRADED, ZERO)
def extra_graded_cell_blank(lab, folder):
    notebook = lab.blank()
    cell = copy.deepcopy(tests_of(notebook)[0])
    cell.metadata["nbgrader"] |= {"grade_id": "bonus", "points": 100}
    cell.source = "pass"
    notebook.cells.append(cell)
    return notebook


@case(GRADED, FULL)
def unknown_kernel(lab, folder):
    notebook = lab.right()
    notebook.metadata["kernelspec"] = {"name": "sage", "display_name": "Sage", "language": "sage"}
    return notebook


@case(GRADED, FULL)
def no_cell_ids(lab, folder):
    notebook = lab.right()
    notebook["nbformat_minor"] = 4
    for cell in notebook.cells:
        cell.pop("id", None)
    return notebook


@case(GRADED, FULL)
def same_cell_ids(lab, folder):
    notebook = lab.right()
    for cell in notebook.cells:
        cell["id"] = "same"
    return notebook


@case(GRADED, FULL)
def minor_format_99(lab, folder):
    notebook = lab.right()
    notebook["nbformat_minor"] = 99
    return notebook


@case(GRADED, FULL)
def format_3(lab, folder):
    return nbformat.writes(nbformat.convert(lab.right(), 3), version=3)


# --- the file -------------------------------------------------------------------------------------------------------


@case(GRADED, FULL)
def byte_order_mark(lab, folder):
    return b"\xef\xbb\xbf" + json.dumps(lab.right()).encode()


@case(GRADED, FULL)
def crlf(lab, folder):
    notebook = lab.right()
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")
    return json.dumps(notebook, indent=1).replace("\n", "\r\n").encode()


@case(GRADED, FULL)
def lone_surrogate(lab, folder):
    return json.dumps(lab.right()).replace("# A", "# \\ud800 A").encode()


@case(GRADED, FULL)
def huge_outputs(lab, folder):
    notebook = lab.right()
    notebook.cells.append(new_code_cell("1"))
    notebook.cells[-1]["outputs"] = [nbformat.v4.new_output("stream", text="x" * (20 << 20))]
    return notebook


@case(REJECTED, None, "breaks off")
def truncated(lab, folder):
    return json.dumps(lab.right()).encode()[:-200]


@case(REJECTED, None, "empty")
def empty_file(lab, folder):
    return b""


@case(REJECTED, None, "not JSON")
def not_json(lab, folder):
    return b"<html>please log in</html>"


@case(REJECTED, None, "merge conflict")
def merge_conflict(lab, folder):
    text = json.dumps(lab.right(), indent=1)
    return text.replace("\n", "\n<<<<<<< HEAD\n", 1).replace("}", "=======\n>>>>>>> theirs\n}", 1)


@case(REJECTED, None, "UTF-8")
def latin_1(lab, folder):
    return '{"cells": [], "nbformat": 4, "x": "é"}'.encode("latin-1")


@case(REJECTED, None, "UTF-16")
def utf_16(lab, folder):
    return json.dumps(lab.right()).encode("utf-16")


@case(REJECTED, None, "format 9")
def format_9(lab, folder):
    notebook = lab.right()
    notebook["nbformat"] = 9
    return notebook


@case(REJECTED, None, "list")
def a_list(lab, folder):
    return b"[1, 2, 3]"


@case(REJECTED, None, "nested")
def nested_100000(lab, folder):
    return b"[" * 100000 + b"]" * 100000


@case(REJECTED, None, "no list of cells")
def no_cells(lab, folder):
    return b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}'


@case(REJECTED, None, "rename it")
def wrong_name(lab, folder):
    (folder / f"{lab.name} (1).ipynb").write_text(json.dumps(lab.right()))


@case(REJECTED, None, "no notebook")
def no_notebook(lab, folder):
    (folder / "answers.docx").write_bytes(b"PK")


@case(REJECTED, None, "empty")
def empty_folder(lab, folder):
    return None


@case(GRADED, FULL, "timestamp.txt cannot be read")
def garbage_timestamp(lab, folder):
    (folder / "timestamp.txt").write_text("yesterday-ish")
    return lab.right()


@case(GRADED, FULL, "which cannot be")
def forged_timestamp(lab, folder):
    (folder / "timestamp.txt").write_text("1970-01-01 00:00:00 UTC")
    return lab.right()


@case(GRADED, FULL)
def extra_notebook(lab, folder):
    (folder / "other.ipynb").write_text("nonsense")
    return lab.right()


for number, student in enumerate(("Zoë d'Été", "with spaces", "plus+at@sign.org")):
    CASES.append(Case(f"id_{number}", lambda f, lab: write(f, lab, lab.right()), GRADED, FULL, student=student))
for number, student in enumerate(("glob*", "[ab]", "que?stion", "-rf;{x}")):
    rejected = Case(f"bad_id_{number}", lambda f, lab: write(f, lab, lab.right()), REJECTED, None, "student id")
    CASES.append(replace(rejected, student=student))


@case(REJECTED, None, "symbolic link")
def link_to_solution(lab, folder):
    target = lab.kit / "solutions" / lab.name / f"{lab.name}.ipynb"
    (folder / f"{lab.name}.ipynb").symlink_to(target)


@case(REJECTED, None, "symbolic link")
def link_to_gradebook(lab, folder):
    (folder / "data.csv").symlink_to("../../../gradebook.db")
    return lab.right()


@case(REJECTED, None, "symbolic link")
def dangling_link(lab, folder):
    (folder / "data.csv").symlink_to("nowhere")
    return lab.right()


@case(REJECTED, None, "named pipe")
def named_pipe(lab, folder):
    os.mkfifo(folder / f"{lab.name}.ipynb")


def linked_folder(folder: Path, lab: Lab) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(lab.kit / "solutions" / lab.name)


CASES.append(Case("linked_folder", linked_folder, REJECTED, None, "symbolic link"))
