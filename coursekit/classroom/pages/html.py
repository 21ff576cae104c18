"""What students wrote, as HTML that can be read and do nothing else.

nbgrader's templates put a student's markdown into the page as it is, and a script in it would run in the browser of
whoever grades, or of whoever is given the page. These two functions stand in for the filters of the same name:

    c.HTMLExporter.filters = {f: f"coursekit.classroom.pages.html.{f}" for f in ("markdown2html", "clean_html")}
"""

import html
import re

from bleach.css_sanitizer import CSSSanitizer
from bleach.sanitizer import Cleaner
from jinja2 import pass_context
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

TAGS = [
    *("a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl", "dt", "em"),
    *("figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "mark", "ol", "p"),
    *("pre", "s", "samp", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th"),
    *("thead", "tr", "ul", "var"),
]
_LINK = re.compile(r"(https?://|mailto:|#)", re.IGNORECASE)
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*")  # nothing is fetched
_CLASS = re.compile(r"\s*highlight( hl-\w+)?|[a-z][a-z0-9]{0,2}")  # of highlighted code; those of a page are longer
_ATTRIBUTES = {
    "a": {"href": _LINK.match, "title": bool},
    "abbr": {"title": bool},
    "details": {"open": None},
    "div": {"class": _CLASS.fullmatch},
    "img": {"src": _IMAGE.fullmatch, "alt": None, "title": bool, "width": str.isdigit, "height": str.isdigit},
    "ol": {"start": str.isdigit},
    "span": {"class": _CLASS.fullmatch},
    "td": {"style": bool, "colspan": str.isdigit, "rowspan": str.isdigit},
    "th": {"style": bool, "colspan": str.isdigit, "rowspan": str.isdigit},
}
_HIDDEN = re.compile(r"<(style|script)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)


def _allowed(tag: str, name: str, value: str) -> bool:
    if name not in _ATTRIBUTES.get(tag, ()):
        return False
    holds = _ATTRIBUTES[tag][name]
    return holds is None or bool(holds(value))


_CLEANER = Cleaner(
    tags=TAGS,
    attributes=_allowed,
    protocols=("http", "https", "mailto", "data"),
    css_sanitizer=CSSSanitizer(allowed_css_properties=("text-align",)),
)


def clean_html(text: str | bytes) -> str:
    """The HTML with nothing in it but text, tables, images that are part of it, links and what folds.

    Other tags are shown as they were written, other attributes are dropped.

    >>> clean_html('<details open onclick="f()"><summary>Hint</summary>x</details><b onclick="f()">y</b><form>')
    '<details open><summary>Hint</summary>x</details><b>y</b>&lt;form&gt;'
    """
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return _CLEANER.clean(_HIDDEN.sub("", text))


@pass_context
def markdown2html(context, source: str) -> str:
    """Markdown as such HTML. What cannot be converted, because an image has gone for example, is shown as it is."""
    cell = context.get("cell", {})
    try:
        renderer = IPythonRenderer(
            escape=False, exclude_anchor_links=True, attachments=_Attachments(cell.get("attachments") or {})
        )
        return clean_html(MarkdownWithMath(renderer=renderer).render(source))
    except Exception:  # noqa: BLE001  (whatever a student wrote: one cell shall not cost the page)
        return f"<pre>{html.escape(source)}</pre>"


class _Attachments(dict):
    """The images in a cell; in the place of one that has gone, its description is shown."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> dict[str, str]:
        return {"image/none": ""}
