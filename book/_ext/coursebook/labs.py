"""Labs appear in the book as students get them, with a bar at the top: download, points, and their chapter."""

import json
import re

from docutils import nodes
from sphinx.util import logging

from .quiz import element

logger = logging.getLogger(__name__)


def inline_attachments(app, docname, source):
    """``![...](attachment:result.png)`` is an image of Jupyter's own; give its data instead."""
    if not app.env.doc2path(docname).endswith(".ipynb") or '"attachments"' not in source[0]:
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        for name, bundle in cell.pop("attachments", {}).items():
            mime, data = next(iter(bundle.items()))
            # An alternative text of several lines would lose the spaces between them.
            text = re.sub(rf"!\[[^\]]*\](?=\(attachment:{re.escape(name)})", lambda alt: " ".join(alt[0].split()), text)
            text = text.replace(f"attachment:{name}", f"data:{mime};base64,{''.join(data).replace(chr(10), '')}")
        cell["source"] = text
    source[0] = json.dumps(notebook)


def graded(notebook: dict) -> tuple[int, int]:
    """Points of a lab, and how many of them a person gives.

    >>> cells = [{"points": 2, "solution": False}, {"points": 1, "solution": True}]
    >>> graded({"cells": [{"metadata": {"nbgrader": cell}} for cell in cells]})
    (3, 1)
    """
    cells = [cell["metadata"].get("nbgrader", {}) for cell in notebook["cells"]]
    points = [(cell.get("points", 0), cell.get("solution", False)) for cell in cells]
    return sum(p for p, _ in points), sum(p for p, by_hand in points if by_hand)


def add_bar(app, doctree, docname):
    """What a student looks for first, below the title."""
    path = app.env.doc2path(docname)
    if app.builder.format != "html" or not (docname.startswith("labs/") and path.endswith(".ipynb")):
        return
    lab = docname.rpartition("/")[2]
    with open(path, encoding="utf-8") as file:
        points, by_hand = graded(json.load(file))
    source = "../" * docname.count("/") + f"_sources/{docname}.ipynb"
    button = element(
        "a", nodes.Text("Download the notebook"), class_="lab-download", href=source, download=f"{lab}.ipynb"
    )
    parts = [button, element("span", nodes.Text(f"{points:g} points, {by_hand:g} of them read by a person"))]
    chapter = app.config.coursebook_labs.get(lab)
    if chapter not in app.env.titles:
        logger.warning("lab %s: coursebook_labs in _config.yml names no chapter of this book for it", lab)
    else:
        title = app.env.titles[chapter].astext()
        parts.append(element("span", nodes.Text("goes with "), _link(app, docname, chapter, title)))
    parts.append(_link(app, docname, "book/labs", "how to work, how it is graded"))
    title = next(doctree.findall(nodes.title), None)
    if title is not None:
        title.parent.insert(title.parent.index(title) + 1, element("div", *parts, class_="lab-bar"))


def _link(app, docname, page, text):
    return element("a", nodes.Text(text), href=app.builder.get_relative_uri(docname, page))


def setup(app):
    app.add_config_value("coursebook_labs", {}, "env")
    app.connect("source-read", inline_attachments)
    app.connect("doctree-resolved", add_bar)
