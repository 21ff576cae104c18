"""Ids must be unique on a page: those that sphinx-proof and sphinx-exercise repeat become classes here."""

from docutils import nodes

REPEATED = {"proof-content", "exercise-content", "solution-content"}


def mark(app, doctree):
    """A proof says so in a word of its own, and carries a class."""
    for node in doctree.findall(lambda n: isinstance(n, nodes.Element) and n.get("ids") == ["proof"]):
        node["ids"] = []
        node["classes"] = ["proof-text"]
        text = next(node.findall(nodes.Text), None)
        if text is not None and text.startswith("Proof."):
            text.parent.replace(text, [nodes.inline("", "Proof.", classes=["proof-word"]), nodes.Text(text[6:])])


def unique(app, doctree, docname):
    """The inner boxes of theorems, exercises and solutions all have one name."""
    for node in doctree.findall(nodes.section):
        repeated = REPEATED.intersection(node["ids"])
        if repeated:
            node["ids"] = [name for name in node["ids"] if name not in repeated]
            node["classes"] += sorted(repeated)


def trim(app, doctree, docname):
    """The space before a link is no part of it: sphinx-exercise puts it inside, where it is underlined."""
    for link in list(doctree.findall(nodes.reference)):
        text = next(link.findall(nodes.Text), None)
        if text is not None and text.startswith(" "):
            text.parent.replace(text, nodes.Text(text.lstrip()))
            link.parent.insert(link.parent.index(link), nodes.Text(" "))


def setup(app):
    app.connect("doctree-read", mark)
    app.connect("doctree-resolved", unique, priority=900)
    app.connect("doctree-resolved", trim, priority=900)
