"""Grade one submission: from bytes to plain data, in a process of its own that ends afterwards.

    {notebook, files} + bundle + limits --> {status, score, cells, flags, notebook, ...}

Runs in a child of the fork server. It reads the notebook, repairs it, and lets nbgrader sanitise, run and score it in a
scratch course with a copy of the gradebook that knows no student but this one.
"""

import base64
import os
import platform
import resource
import socket
import tempfile
import time
import warnings
from pathlib import Path

import nbformat
from nbgrader import preprocessors as nbgrader_steps
from nbgrader.api import Gradebook
from nbgrader.converters import Autograde
from traitlets.config import Config

from ..intake.notebook import Rejected, read_notebook
from ..intake.repair import repair
from ..judge.process import Judge
from ..labs.bundle import STUDENT, Bundle, scratch_course, start
from ..sandbox import forkserver
from ..sandbox.limits import Limits
from ..sandbox.provisioner import BoxProvisioner, Plan
from ..sandbox.remove import remove
from .execute import BoxExecute

CLIENT_MEMORY_MB = 2048  # of this process, which must survive whatever a kernel sends it


class State:
    """What the server has prepared for its children."""

    bundle: Bundle
    settings: dict


def prepare(settings: dict) -> None:
    """Load the lab once for all submissions, and do once what imports leave for later."""
    import jupyter_client.asynchronous  # noqa: F401
    import zmq.asyncio  # noqa: F401

    warnings.simplefilter("ignore")
    State.settings = settings
    State.bundle = Bundle.from_bytes(Path(settings["bundle"]).read_bytes())
    os.umask(0o077)


def finish() -> None:
    """Remove the scratch folder of the run, also when the runner was killed and cannot."""
    remove(State.settings["folder"])


def work(connection: socket.socket) -> None:
    """Grade the submission that the request holds and answer with its result."""
    os.setsid()
    task, _ = forkserver.receive(connection)
    forkserver.send(connection, {"pid": os.getpid()})
    mb = 1 << 20
    resource.setrlimit(resource.RLIMIT_DATA, (CLIENT_MEMORY_MB * mb, CLIENT_MEMORY_MB * mb))
    folder = tempfile.mkdtemp(prefix="g", dir=State.settings["folder"])
    try:
        result = grade(task, folder)
    except MemoryError:
        result = failure("the grader's own memory limit was reached while it read this notebook", ours=False)
    except Exception as error:
        result = failure(f"the grader failed: {type(error).__name__}: {error}", ours=True)
    finally:
        remove(folder)
    forkserver.send(connection, result)


def grade(task: dict, folder: str) -> dict:
    """The result of one submission."""
    bundle, settings = State.bundle, State.settings
    limits = Limits(**{**settings["limits"], **task.get("limits", {})})
    began = time.monotonic()
    basis = {"level": settings["label"], "host": platform.node(), "wall_s": 0.0}
    try:
        notebook, notes = repair(read_notebook(base64.b64decode(task["notebook"])), bundle, max_cells=limits.cells)
    except Rejected as rejected:
        return {**basis, "status": "rejected", "reason": str(rejected), "flags": [], "ours": False}
    _scratch(folder, bundle, notebook, {n: base64.b64decode(d) for n, d in task["files"].items()})
    BoxProvisioner.plan = Plan(
        settings["level"],
        settings["nursery"],
        folder,
        tuple(settings["readable"]),
        tuple(settings["hidden"]),
        limits.to_dict(),
        task["slot"],
    )
    judge = Judge(settings["judge"])
    try:
        seen = _autograde(folder, bundle.lab, limits, judge)
    finally:
        judge.close()
    cells, comments = _scores(folder, bundle.lab)
    for name, record in [*seen["cells"].items(), *seen["questions"].items()]:
        if name in cells:
            cells[name] |= record
    text = Path(folder, "autograded", STUDENT, bundle.lab, f"{bundle.lab}.ipynb").read_text(encoding="utf-8")
    flags = list(seen["flags"]) + (["the kernel died"] if seen["dead"] else [])
    reasons = list(dict.fromkeys([*flags, *seen["limits"]]))
    return {
        **basis,
        "status": "review" if flags else "graded",
        "reason": "; ".join(reasons),
        "flags": flags,
        "notes": notes,
        "starved": seen["starved"],
        "score": sum(c["auto"] or 0.0 for c in cells.values()),
        "max_score": sum(c["points"] for c in cells.values()),
        "cells": cells,
        "comments": comments,
        "kernel": seen["kernel"],
        "ours": False,
        "wall_s": round(time.monotonic() - began, 3),
        "cpu_s": round(time.process_time(), 3),
        "notebook": text,
    }


def failure(reason: str, *, ours: bool) -> dict:
    """The result of a submission that could not be graded, by our fault or by its own."""
    status = "review" if ours else "rejected"
    return {"status": status, "reason": reason, "flags": [reason] if ours else [], "ours": ours, "wall_s": 0.0}


def autograde_config() -> Config:
    """nbgrader's steps with ours in place of those that a submission can misuse."""
    steps = nbgrader_steps
    config = Config()
    before = [steps.OverwriteKernelspec, steps.OverwriteCells, steps.CheckCellMetadata]
    config.Autograde.sanitize_preprocessors = before
    after = [BoxExecute, steps.LimitOutput, steps.SaveAutoGrades, steps.CheckCellMetadata]
    config.Autograde.autograde_preprocessors = after
    config.OverwriteCells.add_missing_cells = True
    config.LimitOutput.max_lines = 2000
    return config


def _autograde(folder: str, lab: str, limits: Limits, judge: Judge) -> dict:
    seen: list[dict] = []

    class Watched(BoxExecute):
        def __init__(self, **kwargs):
            super().__init__(limits=limits, judge=judge, **kwargs)

        def preprocess(self, nb, resources, km=None):
            try:
                return super().preprocess(nb, resources, km)
            finally:
                seen.append(self.seen)

    config = autograde_config()
    config.Autograde.autograde_preprocessors[0] = Watched
    converter = Autograde(coursedir=scratch_course(folder, lab, config), config=config)
    start(converter)
    return seen[0]


def _scratch(folder: str, bundle: Bundle, notebook: dict, files: dict[str, bytes]) -> None:
    """A course with one lab and one student: nbgrader may do in it what it likes."""
    Path(folder, "gradebook.db").write_bytes(bundle.gradebook)
    source = Path(folder, "source", bundle.lab)
    submitted = Path(folder, "submitted", STUDENT, bundle.lab)
    for root, content in ((source, bundle.files), (submitted, files)):
        root.mkdir(parents=True)
        for name, data in content.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    nbformat.write(nbformat.from_dict(notebook), submitted / f"{bundle.lab}.ipynb")


def _scores(folder: str, lab: str) -> tuple[dict[str, dict], dict[str, str | None]]:
    """What nbgrader wrote into the scratch gradebook: scores by graded cell, comments by answer."""
    with Gradebook(f"sqlite:///{folder}/gradebook.db") as gradebook:
        notebook = gradebook.find_submission_notebook(lab, lab, STUDENT)
        grades = {g.name: {"points": g.max_score, "auto": g.auto_score} for g in notebook.grades}
        return grades, {c.name: c.auto_comment for c in notebook.comments}
