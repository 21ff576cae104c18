"""Formulas of a finished page as MathML: every browser shows it, and the page needs no script and no network."""

import html
import re
from xml.etree import ElementTree

# What is left as it is: scripts, styles, code, and the inside of any tag.
_KEEP = re.compile(r"<(script|style|pre|code|textarea)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)
_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>[^$]+?)\$\$|(?<![\\$])\$(?P<inline>[^$\s](?:[^$]*?[^$\s\\])?)\$(?![\d$])"
)
_ENVIRONMENT = re.compile(r"\\begin\{(equation|align|gather)(\*?)\}(?P<body>.*?)\\end\{\1\2\}", re.DOTALL)

_TAG = re.compile(r"math|m[a-z]+")
_ATTRIBUTES = {"xmlns", "display", "displaystyle", "scriptlevel", "mathvariant", "stretchy", "fence", "form", "accent"}
_ATTRIBUTES |= {
    "accentunder",
    "movablelimits",
    "separator",
    "symmetric",
    "largeop",
    "linethickness",
    "lspace",
    "rspace",
}
_ATTRIBUTES |= {"minsize", "maxsize", "width", "height", "depth", "notation", "columnalign", "columnlines", "rowlines"}
_ATTRIBUTES |= {"columnspacing", "rowspacing", "mathcolor", "mathsize"}


def render_formulas(page: str) -> str:
    r"""Replace $...$ and $$...$$ in the text of an HTML page by MathML; what cannot be converted stays as it is.

    Code, scripts and attributes are not touched. The text of a formula cannot smuggle in a tag.

    >>> render_formulas("<p>cost <code>$5$</code></p>")
    '<p>cost <code>$5$</code></p>'
    >>> "<mi>x</mi>" in render_formulas("<p>let $x$ be</p>")
    True
    """
    parts, last = [], 0
    for kept in _KEEP.finditer(page):
        parts += [_text(page[last : kept.start()]), kept.group()]
        last = kept.end()
    return "".join([*parts, _text(page[last:])])


def _text(text: str) -> str:
    return _FORMULA.sub(_convert, text) if "$" in text else text


def _convert(match: re.Match) -> str:
    from latex2mathml.converter import convert_to_element

    display = match["display"] is not None
    latex = html.unescape(match["display"] if display else match["inline"]).strip()
    latex = _ENVIRONMENT.sub(lambda m: rf"\begin{{aligned}}{m['body']}\end{{aligned}}", latex)
    try:
        formula = convert_to_element(latex, display="block" if display else "inline")
        return _serialize(formula)
    except Exception:  # noqa: BLE001  (whatever a student wrote between dollar signs: shown as text)
        return match.group()


def _serialize(formula: ElementTree.Element) -> str:
    """The element as text, escaped: the converter's own text takes what is in \\text{...} for markup."""
    for element in formula.iter():
        if not _TAG.fullmatch(element.tag):
            raise ValueError(f"{element.tag} is no element of MathML")
        for name in [n for n in element.attrib if n not in _ATTRIBUTES]:
            del element.attrib[name]
        element.text = html.unescape(element.text) if element.text else element.text
    return ElementTree.tostring(formula, encoding="unicode")
