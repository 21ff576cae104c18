"""Proofs as sphinx-proof leaves them all carry the id "proof"; ids must be unique, so they become a class here."""

from docutils import nodes


def mark(app, doctree):
    for node in doctree.findall(lambda n: isinstance(n, nodes.Element) and n.get("ids") == ["proof"]):
        node["ids"] = []
        node["classes"] = ["proof-text"]
        text = next(node.findall(nodes.Text), None)
        if text is not None and text.startswith("Proof."):
            text.parent.replace(text, [nodes.inline("", "Proof.", classes=["proof-word"]), nodes.Text(text[6:])])


def setup(app):
    app.connect("doctree-read", mark)
