"""The configuration of the book on small books: what must fail fails, and the Evidence page is never stale."""

import re

import pytest
from bs4 import BeautifulSoup

from .conftest import build, complaints

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tiny-book")]

HEAD = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
COVER = "# Cover\n\nText.\n\n```{bibliography}\n:all:\n```\n"
EVIDENCE = "# Evidence\n\n```{evidence}\n```\n"


def page(title, *cells, text=""):
    code = "".join(f"\n```{{code-cell}} ipython3\n{cell}\n```\n" for cell in cells)
    return f"{HEAD}# {title}\n\n{text}\n{code}"


def claim(identifier, value=1, source="author2001title"):
    return f'from coursekit import evidence\nevidence.check("{identifier} it is so", {value}, 1, source="{source}")'


def rows(folder):
    soup = BeautifulSoup((folder / "_build/html/book/evidence.html").read_text(encoding="utf-8"), "html.parser")
    return [[cell.get_text(" ", strip=True) for cell in row.find_all("td")] for row in soup.select("tbody tr")], soup


@pytest.mark.parametrize(("cell", "error"), [("1 / 0", "ZeroDivisionError"), (claim("B1.1", value=2), "EvidenceError")])
def test_a_failing_cell_fails_the_build(tiny, cell, error):
    result = build(tiny({"index": COVER, "one": page("One", cell)}))
    assert result.returncode != 0
    assert error in result.stdout + result.stderr


def test_each_fault_of_a_page_is_a_warning_and_warnings_fail_the_build(tiny):
    faults = {
        "stderr": (page("S", "import sys; print('careful', file=sys.stderr)"), "stderr"),
        "reference": (page("R", text="See {ref}`nowhere-at-all`."), "nowhere-at-all"),
        "citation": (page("C", text="See {cite:t}`nobody1900nothing`."), "nobody1900nothing"),
        "link": (page("L", text="See [there](missing_page.md)."), "missing_page.md"),
        "quiz": (page("Q", text="```{quiz}\n? No right answer?\n- [ ] a\n- [ ] b\n```"), "no right answer"),
        "source": (page("E", claim("B1.1", source="unknown1900")), "'unknown1900', which is not in the bibliography"),
        "first": (page("F", claim("B2.1")), "claim B2.1 is checked on"),
        "second": (page("G", claim("B2.1")), "claim B2.1 is checked on"),
    }
    pages = {name: text for name, (text, _) in faults.items()}
    result = build(tiny({"index": COVER, **pages, "evidence": EVIDENCE}))
    assert result.returncode != 0
    warnings = complaints(result)
    assert not [name for name, (_, complaint) in faults.items() if complaint not in warnings], warnings


def test_the_evidence_page_follows_the_pages(tiny):
    one, two = page("One", claim("B2.1")), page("Two", claim("B10.1"), claim("B2.2", source="derived"))
    folder = tiny({"index": COVER, "one": one, "two": two, "evidence": EVIDENCE})

    def ids(*options):
        result = build(folder, *options)
        assert result.returncode == 0, complaints(result)
        return [row[0] for row in rows(folder)[0]]

    assert ids() == ["B2.1", "B2.2", "B10.1"]
    table, soup = rows(folder)
    assert table[0] == ["B2.1", "it is so", "Author and Other (2001)", "= 1", "1", "✓ held"]
    assert table[1][2] == "derived on the page"
    links = [a["href"] for a in soup.select("tbody a")]
    assert links[0] == "one.html#claim-B2.1" and re.fullmatch(r"index\.html#\S+", links[1])
    assert (folder / "_build/html/book/one.html").read_text(encoding="utf-8").count('"claim-B2.1"') == 1

    assert ids("--all") == ["B2.1", "B2.2", "B10.1"], "all pages read anew, all cells from the cache"
    tiny({"index": COVER, "one": page("One", claim("B2.1"), text="New words."), "two": two, "evidence": EVIDENCE})
    assert ids() == ["B2.1", "B2.2", "B10.1"], "a page with new text and cells from the cache"
    tiny({"index": COVER, "one": page("One", claim("B2.3")), "two": two, "evidence": EVIDENCE})
    assert ids() == ["B2.2", "B2.3", "B10.1"], "a claim renamed"
    tiny({"index": COVER, "one": page("One", claim("B2.3")), "evidence": EVIDENCE})
    assert ids() == ["B2.3"], "a page removed"


def test_a_page_with_everything(tiny):
    text = """
```{prf:theorem} Small
:label: small
It holds that $x = x$.
```
```{prf:proof}
Look at it. See {prf:ref}`small` and {cite:t}`author2001title`.
```
```{quiz}
? Is $1 < 2$?
- [x] Yes, $1 < 2$. :: Count.
- [ ] 1. :: No list.

? Which are even?
- [x] 2
- [x] 4
- [ ] 3
```
"""
    figure = (
        "---\nmystnb:\n  figure: {caption: A line, name: fig-line}\n  image: {alt: A line that rises from 0 to 1}\n"
        "---\nimport matplotlib.pyplot as plt\nplt.plot([0, 1])\nplt.show()"
    )
    folder = tiny({"index": COVER, "one": page("One", figure, text=text)})
    result = build(folder)
    assert result.returncode == 0, complaints(result)
    soup = BeautifulSoup((folder / "_build/html/book/one.html").read_text(encoding="utf-8"), "html.parser")

    questions = soup.select(".quiz fieldset")
    assert [q.select_one("legend .math") is not None for q in questions] == [True, False]
    assert [{i["type"] for i in q.select("input")} for q in questions] == [{"radio"}, {"checkbox"}]
    for field in soup.select(".quiz input"):
        assert soup.select_one(f'label[for="{field["id"]}"]') and soup.find(id=field["aria-describedby"])
    assert [o["data-right"] for o in questions[0].select(".quiz-option")] == ["true", "false"]
    assert questions[0].select_one(".quiz-option .math") and not soup.select(".quiz ol")

    assert soup.select_one("figure img")["alt"] == "A line that rises from 0 to 1"
    assert soup.select_one(".proof-text").get_text().startswith("\nProof. Look at it.")
    notebook = (folder / "_build/html/_sources/book/one.ipynb").read_text(encoding="utf-8")
    assert "**Theorem (Small).**" in notebook and "Author and Other (2001)" in notebook and "[x]" not in notebook
    assert soup.select_one('a[href$="_sources/book/one.ipynb"]'), "the notebook can be downloaded"
    assert not soup.find_all(id="proof")
