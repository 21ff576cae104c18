"""`coursekit release [LAB]`: from the text source of a lab to nbgrader's source and to what students get.

    solutions/<lab>/<lab>.py --> solutions/<lab>/<lab>.ipynb   nbgrader's source (ignored by git)
                             `-> labs/<lab>/<lab>.ipynb        the student's notebook (committed)

The student's notebook is made by nbgrader's own preprocessors, configured by nbgrader_config.py, so it is what
`nbgrader generate_assignment` would write, byte for byte the same on each run. Nothing is written if anything is wrong.
"""

import argparse
import base64
import os
import re
import sys
import tempfile
from pathlib import Path

from . import source as labs
from .lint import lint

LOCAL_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<file>[\w./-]+\.(?:png|jpe?g|svg))\)")
IMAGE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `coursekit release`."""
    parser.add_argument("lab", nargs="?", metavar="LAB", help="one lab, e.g. lab1_bayesian_regression (default: all)")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="folder of the course (default: this one)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if labs/ is not up to date")


def run(args: argparse.Namespace) -> int:
    """Release the labs named by `args`; 0 if all went well, 1 otherwise, with every fault on stderr."""
    try:
        names = [args.lab] if args.lab else find(args.root)
        built = {name: build(args.root, name) for name in names}
    except labs.LabError as error:
        print(error, file=sys.stderr)
        return 1
    stale = []
    for name, files in built.items():
        changed = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
        committed = [path for path in changed if path.suffix != ".ipynb" or path.parent.parent.name == "labs"]
        if args.check:
            stale += committed
            print(f"{name}: {'STALE' if committed else 'up to date'}")
            continue
        for path in changed:
            write_atomically(path, files[path])
        worth = labs.points(labs.parse(args.root / "solutions" / name / f"{name}.py"))
        verdict = "released" if changed else "unchanged"
        print(f"{name}: {len(worth)} graded cells, {sum(worth.values()):g} points, {verdict}")
    if stale:
        listed = "\n".join(f"  {path.relative_to(args.root)}" for path in stale)
        print(f"not what the sources say; run `coursekit release` and commit:\n{listed}", file=sys.stderr)
    return 1 if stale else 0


def find(root: Path) -> list[str]:
    """Names of all labs under root/solutions, sorted."""
    names = sorted(path.parent.name for path in root.glob("solutions/*/*.py") if path.stem == path.parent.name)
    if not names:
        raise labs.LabError(f"no lab in {root / 'solutions'}; run this in the folder of the course or give --root")
    return names


def build(root: Path, lab: str) -> dict[Path, str]:
    """Path -> text of everything a release of `lab` consists of; LabError if the source has a fault."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", lab):
        raise labs.LabError(f"{lab!r} is no name of a lab; there are: {', '.join(find(root))}")
    folder = root / "solutions" / lab
    notebook = labs.parse(folder / f"{lab}.py")
    lock, now = folder / "grade_ids.lock", _grade_ids(notebook)
    faults = lint(notebook) + _lock_faults(lock, now) + _embed_images(notebook, folder)
    if faults:
        raise labs.LabError(f"{lab} is not released:\n" + "\n".join(f"  {fault}" for fault in faults))
    source = _normalise(notebook)
    student = _student_version(source, root, lab)
    leaks = find_leaks(source, student)
    if leaks:
        raise labs.LabError(f"{lab} is not released, it would leak:\n" + "\n".join(f"  {line}" for line in leaks))
    return {
        folder / f"{lab}.ipynb": _text(source),
        root / "labs" / lab / f"{lab}.ipynb": _text(student),
        lock: "".join(f"{line}\n" for line in now),
    }


def find_leaks(source, student) -> list[str]:
    """Lines of solutions and hidden tests in `source` that the student's notebook still holds.

    A line counts if it occurs nowhere outside those blocks in the source and is no mere bracket or keyword.
    """
    secret, public = set(), set()
    for cell in source.cells:
        inside = [line for marker in labs.MARKERS for b in labs.blocks(cell.source, marker) for line in b.split("\n")]
        rest = labs.without(labs.without(cell.source, "SOLUTION"), "HIDDEN TESTS")
        secret |= {line.strip() for line in inside}
        public |= {line.strip() for line in rest.split("\n")}
    shown = {line.strip() for cell in student.cells for line in cell.source.split("\n")}
    return sorted(line for line in (secret - public) & shown if len(line) > 6)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to a file beside `path`, then move it there: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files only their owner can read
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _text(notebook) -> str:
    import nbformat

    return nbformat.writes(notebook, version=4) + "\n"


def _grade_ids(notebook) -> list[str]:
    return [f"{labs.grade_id(cell)} {labs.kind(cell)}" for cell in notebook.cells if labs.grade_id(cell)]


def _lock_faults(lock: Path, now: list[str]) -> list[str]:
    """A grade_id that was released may not vanish or change its kind: answers already written would be orphaned."""
    if not lock.is_file():
        return []
    gone = [line for line in lock.read_text("utf-8").splitlines() if line.strip() and line not in now]
    return [
        f"{line!r} was released and is gone: answers given under it would be lost; put it back, or delete its line "
        f"in {lock.name} if no student has the lab yet"
        for line in gone
    ]


def _embed_images(notebook, folder: Path) -> list[str]:
    """Put local images into the notebook, so that one file is the whole lab."""
    faults = []
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "markdown":
            continue
        for match in list(LOCAL_IMAGE.finditer(cell.source)):
            path = folder / match["file"]
            if not match["alt"].strip():
                faults.append(f"cell {number}: the image {match['file']} needs an alternative text")
            if not path.is_file():
                faults.append(f"cell {number}: there is no image {match['file']} in {folder.name}/")
                continue
            if labs.kind(cell) != "plain":
                faults.append(f"cell {number}: images belong in plain cells; nbgrader does not keep their attachments")
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            cell.setdefault("attachments", {})[path.name] = {IMAGE_TYPES[path.suffix.lower()]: data}
            cell.source = cell.source.replace(match[0], f"![{match['alt']}](attachment:{path.name})")
    return faults


def _normalise(notebook):
    """The notebook with ids that depend on the source alone and no metadata but what is needed."""
    import nbformat

    clean = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})
    anchor, since = "top", 0
    for cell in notebook.cells:
        since += 1
        if labs.grade_id(cell):
            anchor, since = labs.grade_id(cell), 0
        new = nbformat.from_dict({"cell_type": cell.cell_type, "source": cell.source, "metadata": {}})
        # counted from the last graded cell, so that a new cell renames only its neighbours
        new.id = anchor if since == 0 else f"after-{anchor[:50]}-{since}"
        for key in ("nbgrader", "tags"):
            if key in cell.metadata:
                new.metadata[key] = cell.metadata[key]
        if "attachments" in cell:
            new.attachments = cell.attachments
        if cell.cell_type == "code":
            new.update(outputs=[], execution_count=None)
        clean.cells.append(new)
    nbformat.validate(clean)
    return clean


def _student_version(source, root: Path, lab: str):
    """nbgrader's own conversion of the source, without its database."""
    import nbformat
    from nbgrader import preprocessors as step

    # GenerateAssignment's chain in its order, less the steps that need a course around them: IncludeHeaderFooter
    # (files), InstantiateTests (a kernel) and SaveCells (a gradebook). A test compares with nbgrader's own command.
    chain = [
        step.LockCells,
        step.ClearSolutions,
        step.ClearOutput,
        step.CheckCellMetadata,
        step.ComputeChecksums,
        step.ClearHiddenTests,
        step.ClearMarkScheme,
        step.ComputeChecksums,
        step.CheckCellMetadata,
    ]
    config = nbgrader_config(root)
    student = nbformat.reads(_text(source), as_version=4)
    for preprocessor in chain:
        student, _ = preprocessor(config=config).preprocess(student, {})
    nbformat.validate(student)
    return student


def nbgrader_config(root: Path):
    """The settings of root/nbgrader_config.py as traitlets Config; empty if there is no such file."""
    from traitlets.config import Config, PyFileConfigLoader

    if not (root / "nbgrader_config.py").is_file():
        return Config()
    return PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
