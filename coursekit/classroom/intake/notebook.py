"""From the bytes a student handed in to a notebook, or to one line that says why not and what to do."""

import json
import re


class Rejected(Exception):
    """The submission cannot be graded; the message is for the student."""


def read_notebook(data: bytes) -> dict:
    """The notebook in `data` in format 4, with ids; byte order marks, CRLF and format 3 are no obstacle.

    >>> read_notebook(b"")
    Traceback (most recent call last):
    coursekit.classroom.intake.notebook.Rejected: the notebook is empty (0 bytes); save it and hand it in again
    """
    if not data.strip():
        raise Rejected(f"the notebook is empty ({len(data)} bytes); save it and hand it in again")
    text = _decode(data)
    if re.search(r"^(<<<<<<< |>>>>>>> )", text, re.MULTILINE):
        raise Rejected("the notebook has merge conflict marks (<<<<<<<); resolve it, save and hand it in again")
    try:
        raw = json.loads(text)
    except RecursionError:
        raise Rejected("the notebook cannot be read: its JSON is nested too deeply") from None
    except ValueError as error:
        cut = "it breaks off" if text.lstrip()[:1] == "{" and text.rstrip()[-1:] != "}" else "it is not JSON"
        raise Rejected(
            f"the notebook is damaged: {cut} at line {getattr(error, 'lineno', '?')}; "
            "open it in JupyterLab, save it and hand it in again"
        ) from None
    if not isinstance(raw, dict):
        raise Rejected(f"the file is no notebook: it holds a JSON {type(raw).__name__}")
    return _clean(_to_format_4(raw, text))


def _decode(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:1] == b"\0" or data[1:2] == b"\0":
        raise Rejected("the file is UTF-16, not UTF-8; save the notebook from JupyterLab and hand it in again")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Rejected(
            f"the file is not UTF-8 (byte {error.start} is {data[error.start]:#04x}, as in Latin-1); "
            "save the notebook from JupyterLab and hand it in again"
        ) from None


def _to_format_4(raw: dict, text: str) -> dict:
    import nbformat

    version = raw.get("nbformat")
    if not isinstance(version, int) or isinstance(version, bool):
        raise Rejected(f"the file is no notebook: 'nbformat' is {str(version)[:40]!r}, expected 4")
    if version == 4:
        if not isinstance(raw.get("cells"), list):
            raise Rejected("the file is no notebook: it has no list of cells")
        return raw
    if version not in (2, 3):
        raise Rejected(
            f"the notebook is in format {version}, which is not known; save it in format 4, hand it in again"
        )
    try:
        return json.loads(json.dumps(nbformat.reads(text, as_version=4)))
    except Exception as error:
        raise Rejected(f"the notebook is in format {version} and cannot be converted: {error}") from None


def _clean(raw: dict) -> dict:
    """Cells with a type, a source and the metadata that identify them; nothing else of what came in."""
    cells = []
    for number, cell in enumerate(raw["cells"], start=1):
        if not isinstance(cell, dict):
            raise Rejected(f"the file is no notebook: cell {number} is a {type(cell).__name__}")
        source = cell.get("source", "")
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise Rejected(f"the file is no notebook: the source of cell {number} is a {type(source).__name__}")
        source = source.replace("\r\n", "\n").replace("\r", "\n")
        source = source.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be written again
        kind = cell.get("cell_type")
        kind = kind if kind in ("code", "markdown", "raw") else "raw"
        meta = cell.get("metadata")
        meta = meta.get("nbgrader") if isinstance(meta, dict) else None
        name = meta.get("grade_id") if isinstance(meta, dict) else None
        clean = {"cell_type": kind, "source": source, "grade_id": name if isinstance(name, str) else None}
        clean["cell_id"] = cell.get("id") if isinstance(cell.get("id"), str) else None
        images = cell.get("attachments")
        clean["attachments"] = images if kind == "markdown" and isinstance(images, dict) else None
        cells.append(clean)
    return {"cells": cells}
