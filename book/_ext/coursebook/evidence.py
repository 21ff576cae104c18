"""The ``evidence`` directive: every claim of the book, its bound and what was measured, in one table.

A chapter calls `coursekit.evidence.check`; the display of a check carries its record under the mime type below. When
Sphinx has read a page (executed now or taken from the cache), its records are put into the environment, which Sphinx
keeps between builds and cleans when a page changes or goes. The page with the table is written again whenever any
page was read, so it is never older than the book.
"""

import re
from collections import Counter
from pathlib import Path

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from pybtex.richtext import Text
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

MIME = "application/vnd.coursekit.evidence+json"
FIELDS = ("id", "statement", "source", "bound", "measured", "holds")
CARD = re.compile(r'<div (?=class="ck-evidence"(?:(?!</div>).)*?<strong>(?P<id>[^<]+)</strong>)', re.DOTALL)
logger = logging.getLogger(__name__)


class evidence_table(nodes.General, nodes.Element):
    """Stands where the table will be."""


class EvidenceDirective(SphinxDirective):
    """Takes no argument and no content."""

    def run(self):
        _pages(self.env).add(self.env.docname)
        return [evidence_table("")]


def _records(env) -> dict[str, list[dict]]:
    """Page -> its records."""
    if not hasattr(env, "coursebook_evidence"):
        env.coursebook_evidence = {}
    return env.coursebook_evidence


def _pages(env) -> set[str]:
    """The pages that show the table."""
    if not hasattr(env, "coursebook_evidence_pages"):
        env.coursebook_evidence_pages = set()
    return env.coursebook_evidence_pages


def records_of(notebook: dict) -> list[dict]:
    """The records in the outputs of an executed notebook, in their order.

    >>> output = {"data": {MIME: [{"id": "B0.1", "statement": "1 = 1"}]}}
    >>> records_of({"cells": [{"cell_type": "code", "outputs": [output]}]})
    [{'id': 'B0.1', 'statement': '1 = 1'}]
    """
    found = []
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            data = output.get("data", {}).get(MIME, [])
            found.extend(data if isinstance(data, list) else [data])
    return found


def anchored(html: str, seen: Counter) -> str:
    """The cards of an output, each with an anchor; ``seen`` counts the checks of each claim on the page.

    >>> anchored('<div class="ck-evidence"><strong>B0.1</strong></div>', Counter())
    '<div id="claim-B0.1" class="ck-evidence"><strong>B0.1</strong></div>'
    """
    return CARD.sub(lambda match: f'<div id="{_anchor(match["id"], seen)}" ', html)


def _anchor(identifier: str, seen: Counter) -> str:
    seen[identifier] += 1
    return f"claim-{identifier}" + (f"-{seen[identifier]}" if seen[identifier] > 1 else "")


def sort_key(record: dict) -> tuple:
    """Claims in the order of the course: B2.1 before B10.1.

    >>> sorted(["B10.1", "B2.10", "B2.9", "A1"], key=lambda i: sort_key({"id": i}))
    ['A1', 'B2.9', 'B2.10', 'B10.1']
    """
    return tuple(
        (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.findall(r"\d+|\D+", record["id"])
    )


def executed(app, docname) -> dict:
    """The notebook of a page with its outputs; without cells if the page is none."""
    # MyST-NB writes each notebook here just before `doctree-read`, but without outputs if they came from its cache.
    path = Path(app.outdir).parent / "jupyter_execute" / f"{docname}.ipynb"
    if not path.exists() or not app.env.doc2path(docname).endswith((".md", ".ipynb")):
        return {"cells": []}
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    if any(cell.get("outputs") for cell in notebook.cells) or app.config.nb_execution_mode != "cache":
        return notebook
    cache = get_cache(app.env.mystnb_config.execution_cache_path)
    try:
        return cache.get_cache_bundle(cache.match_cache_notebook(notebook).pk).nb
    except KeyError:  # a page without code, or one that is not run
        return notebook


def collect(app, doctree):
    """After a page was read: take the records out of its executed notebook."""
    env = app.env
    _records(env).pop(env.docname, None)
    complete = []
    for record in records_of(executed(app, env.docname)):
        if missing := [name for name in FIELDS if name not in record]:
            logger.warning("evidence record of %s lacks %s", env.docname, missing, type="coursebook")
        else:
            complete.append(record)
    if complete:
        _records(env)[env.docname] = complete
        seen: Counter = Counter()
        for output in doctree.findall(nodes.raw):
            if "ck-evidence" in output.astext():
                output[:] = [nodes.Text(anchored(output.astext(), seen))]


def purge(app, env, docname):
    _records(env).pop(docname, None)
    _pages(env).discard(docname)


def merge(app, env, docnames, other):
    for docname in docnames:
        if docname in _records(other):
            _records(env)[docname] = _records(other)[docname]
    _pages(env).update(_pages(other) & set(docnames))


def rewrite(app, env):
    """Pages were read, or went: write the pages with the table again."""
    return sorted(_pages(env))


def check_ids(app, env):
    """An id names one claim; within a page it may be checked in several parts."""
    seen: dict[str, str] = {}
    for docname, records in sorted(_records(env).items()):
        for identifier in {record["id"] for record in records}:
            if seen.setdefault(identifier, docname) != docname:
                logger.warning(
                    "claim %s is checked on %s and on %s: ids are unique", identifier, seen[identifier], docname,
                    type="coursebook",
                )  # fmt: skip


def resolve(app, doctree, docname):
    """Fill the table."""
    for node in list(doctree.findall(evidence_table)):
        node.replace_self(build_table(app, docname))


def build_table(app, docname) -> list[nodes.Node]:
    rows = [(page, record) for page, records in _records(app.env).items() for record in records]
    rows.sort(key=lambda row: sort_key(row[1]))
    if not rows:
        return [nodes.paragraph("", "No claim has been checked in this build.")]
    held = sum(bool(record["holds"]) for _, record in rows)
    claims = len({record["id"] for _, record in rows})
    chapters = len({page for page, _ in rows})
    summary = nodes.paragraph("", "", classes=["evidence-summary"])
    summary += nodes.Text(
        f"{claims} claim{'s' * (claims > 1)} in {len(rows)} check{'s' * (len(rows) > 1)} "
        f"on {chapters} page{'s' * (chapters > 1)}; {held} of {len(rows)} held when this site was built."
    )
    table = nodes.table("", classes=["evidence-table"])
    group = nodes.tgroup("", cols=6)
    table += group
    for width in (7, 38, 17, 13, 16, 9):
        group += nodes.colspec("", colwidth=width)
    head = nodes.row("")
    for title in ("Claim", "Statement", "Source", "Required", "Measured", "Verdict"):
        head += nodes.entry("", nodes.paragraph("", title))
    group += nodes.thead("", head)
    body = nodes.tbody("")
    group += body
    seen: Counter = Counter()  # an id belongs to one page, and sorting has kept the order of its checks
    for page, record in rows:
        verdict = "held" if record["holds"] else "failed"
        cells = (
            _link(app, docname, page, record["id"], "#" + _anchor(record["id"], seen)),
            nodes.Text(str(record["statement"])),
            _source(app, docname, page, str(record["source"])),
            _value(record["bound"]),
            _value(record["measured"]),
            nodes.inline("", ("✓ " if record["holds"] else "✗ ") + verdict, classes=[f"verdict-{verdict}"]),
        )
        row = nodes.row("")
        for cell in cells:
            row += nodes.entry("", nodes.paragraph("", "", cell))
        body += row
    return [summary, nodes.container("", table, classes=["evidence-scroll"])]


def _value(value) -> nodes.Node:
    """Short values stay on one line."""
    text = str(value).replace("± ", "±\N{NO-BREAK SPACE}")
    return nodes.inline("", text, classes=["evidence-short"] if len(text) <= 18 else [])


def _link(app, docname, page, text, anchor="") -> nodes.Node:
    uri = app.builder.get_relative_uri(docname, page) + anchor
    return nodes.reference("", text, refuri=uri, internal=True)


def _source(app, docname, page, key) -> nodes.Node:
    """A link to the entry of the bibliography, or to the page itself for what is derived there."""
    if key == "derived":
        return _link(app, docname, page, "derived on the page")
    citations = [c for c in app.env.get_domain("cite").citations if c.key == key]
    if not citations:
        logger.warning("evidence on %s cites %r, which is not in the bibliography", page, key, type="coursebook")
        return nodes.Text(key)
    # The page that lists all of the bibliography comes first, a chapter's own list after it.
    citation = min(citations, key=lambda c: (c.bibliography_key.docname == page, c.bibliography_key.docname))
    uri = app.builder.get_relative_uri(docname, citation.bibliography_key.docname) + f"#{citation.citation_id}"
    return nodes.reference("", author_year(citation.entry), refuri=uri, internal=True)


def author_year(entry) -> str:
    """'Koh and Liang (2017)', 'Saxe et al. (2014)'."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [str(Text.from_latex(" ".join([*p.prelast_names, *p.last_names]))) for p in people]
    if len(names) > 2:
        who = f"{names[0]} et al."
    else:
        who = " and ".join(names) or entry.fields.get("title", entry.key)
    return f"{who} ({entry.fields.get('year', 'n.d.')})"


def setup(app):
    app.add_node(evidence_table)
    app.add_directive("evidence", EvidenceDirective)
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", rewrite)
    app.connect("env-check-consistency", check_ids)
    app.connect("doctree-resolved", resolve)
