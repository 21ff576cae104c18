"""Labs appear in the book as students get them; pictures attached to their cells become part of the page."""

import json


def inline_attachments(app, docname, source):
    """``![...](attachment:result.png)`` is an image of Jupyter's own; give its data instead."""
    if not app.env.doc2path(docname).endswith(".ipynb") or '"attachments"' not in source[0]:
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        for name, bundle in cell.pop("attachments", {}).items():
            mime, data = next(iter(bundle.items()))
            text = text.replace(f"attachment:{name}", f"data:{mime};base64,{''.join(data).replace(chr(10), '')}")
        cell["source"] = text
    source[0] = json.dumps(notebook)


def setup(app):
    app.connect("source-read", inline_attachments)
