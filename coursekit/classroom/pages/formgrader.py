"""The formgrader without a network: formulas as MathML, and keys that work.

nbgrader's page of a submission takes MathJax from another host. Where that cannot be reached its script stops before it
has set up its keys, so that no flag can be taken away. This filter stands in for the one of the same name:

    c.HTMLExporter.filters = {"markdown2html": "coursekit.classroom.pages.formgrader.markdown2html", ...}
"""

from jinja2 import pass_context

from . import html
from .mathml import render_formulas

#: What nbgrader's script asks of MathJax, for a page that has none: to be told when formulas are set.
STAND_IN = '<script>window.MathJax ||= {Hub: {Startup: {signal: {Interest: tell => tell("End")}}}}</script>'


@pass_context
def markdown2html(context, source: str) -> str:
    """A cell's markdown as HTML that does nothing (`html.markdown2html`), its formulas as MathML."""
    return STAND_IN + render_formulas(html.markdown2html(context, source))
