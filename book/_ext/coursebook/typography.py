"""A full stop stays on the line of the formula that it ends: browsers may break a line on both sides of a formula."""

import re

from docutils import nodes

CLOSING = re.compile(r"[.,;:!?)\]’”%]+|-\w+")


def keep_together(app, doctree, docname):
    """Put each inline formula and the punctuation after it into one unbreakable span."""
    if app.builder.format != "html":
        return
    for formula in list(doctree.findall(nodes.math)):
        parent = formula.parent
        place = parent.index(formula)
        follower = parent[place + 1] if place + 1 < len(parent) else None
        if not isinstance(follower, nodes.Text) or not (match := CLOSING.match(follower)):
            continue
        parent[place + 1] = nodes.Text(follower[match.end() :])
        parent.remove(formula)
        parent.insert(place, nodes.inline("", "", formula, nodes.Text(match[0]), classes=["unbroken"]))


def setup(app):
    app.connect("doctree-resolved", keep_together, priority=950)
