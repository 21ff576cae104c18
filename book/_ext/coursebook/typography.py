"""A full stop or a bracket stays on the line of its formula: browsers may break a line on both sides of a formula."""

import re

from docutils import nodes

OPENING = re.compile(r"[(\[‘“]+$")
CLOSING = re.compile(r"[.,;:!?)\]’”%]+|-\w+")


def keep_together(app, doctree, docname):
    """Put each inline formula, the brackets before it and the punctuation after it into one unbreakable span."""
    if app.builder.format != "html":
        return
    for formula in list(doctree.findall(nodes.math)):
        parent = formula.parent
        place = parent.index(formula)
        before = parent[place - 1] if place > 0 else None
        after = parent[place + 1] if place + 1 < len(parent) else None
        opening = OPENING.search(before) if isinstance(before, nodes.Text) else None
        closing = CLOSING.match(after) if isinstance(after, nodes.Text) else None
        if not opening and not closing:
            continue
        span = nodes.inline(classes=["unbroken"])
        if opening:
            parent[place - 1] = nodes.Text(before[: opening.start()])
            span += nodes.Text(opening[0])
        if closing:
            parent[place + 1] = nodes.Text(after[closing.end() :])
        parent[place] = span
        span += formula
        if closing:
            span += nodes.Text(closing[0])


def setup(app):
    app.connect("doctree-resolved", keep_together, priority=950)
