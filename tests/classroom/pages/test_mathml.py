import re
from xml.etree import ElementTree

import pytest

from coursekit.classroom.pages.mathml import render_formulas


@pytest.mark.parametrize(
    "latex",
    [
        r"\Sigma^{-1} = \alpha I + \beta\,\Phi^\top\Phi",
        r"w \sim \mathcal N(0, \tfrac1\alpha I)",
        r"\begin{pmatrix} 1 &amp; \bar x \\ \bar x &amp; \overline{x^2} \end{pmatrix}",
        r"\displaystyle \sigma^2(x) = \frac1\beta\Bigl(1 + \frac1N\Bigr)",
        r"\{x : \|x\| &lt; 1\}",
    ],
)
@pytest.mark.parametrize("mark", ["$", "$$"])
def test_a_formula_becomes_well_formed_mathml(latex, mark):
    page = render_formulas(f"<p>so {mark}{latex}{mark} holds</p>")
    assert "$" not in page
    root = ElementTree.fromstring(page)
    (math,) = root
    assert math.tag.endswith("math")
    assert math.get("display") == ("block" if mark == "$$" else "inline")
    assert math.tail == " holds"


@pytest.mark.parametrize(
    "page",
    [
        "<p>it costs $5 and then $6</p>",
        "<pre>echo $HOME and $PATH$</pre>",
        '<a title="$x$">x</a>',
        "<script>let a = `$b$`</script>",
        "<p>a lone $ sign</p>",
        r"<p>escaped \$x\$</p>",
        "<p>no formula at all</p>",
    ],
)
def test_what_is_no_formula_stays(page):
    assert render_formulas(page) == page


def test_nothing_a_student_writes_becomes_a_tag():
    page = render_formulas(r"<p>$\text{&lt;script&gt;alert(1)&lt;/script&gt;} &lt;img src=x onerror=alert(1)&gt;$</p>")
    assert not re.search(r"<(script|img)", page)
    for latex in (r"\href{javascript:alert(1)}{x}", r"\style{x:y}{z}", r"\text{&amp;lt;script&gt;}", r"\class{a}{b}"):
        page = render_formulas(f"<p>${latex}$</p>")
        assert not re.search(r"<script|href=|style=|class=", page)


def test_a_formula_that_cannot_be_read_stays_as_text():
    for latex in (r"\frac{1", r"\left( x", r"\begin{nothing} x", "{" * 50):
        page = render_formulas(f"<p>${latex}$</p>")
        assert "<p>" in page
        assert latex in page or "<math" in page
