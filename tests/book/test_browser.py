"""The built site in a real browser, from the disk: formulas are set, the search finds, a chapter prints."""

import re
import sys

import pytest
from bs4 import BeautifulSoup

from .conftest import ROOT, chapters

sys.path.insert(0, str(ROOT / "tools"))
import print_book  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]


def dom(uri: str) -> BeautifulSoup:
    """The page after its scripts have run."""
    result = print_book.run(uri, "--dump-dom")
    assert result.returncode == 0, result.stderr[-2000:]
    return BeautifulSoup(result.stdout, "html.parser")


@pytest.mark.parametrize("name", [path.stem for path in chapters()])
def test_every_formula_of_a_chapter_is_set(site, name):
    page = dom((site / "book" / f"{name}.html").as_uri())
    formulas = page.select("article .math")
    assert len(formulas) > 50
    assert not [f.get_text()[:60] for f in formulas if not f.select_one("mjx-container")]
    assert not [error.get_text() for error in page.select("mjx-merror, [data-mjx-error]")]


def test_the_search_finds_without_a_server(site):
    page = dom((site / "search.html").as_uri() + "?q=calibration")
    found = {link["href"].partition("?")[0] for link in page.select("#search-results li a")}
    assert "book/ch07_robust_uncertainty.html" in found, found
    assert "book/glossary.html" in found, found


def test_a_chapter_prints(site, tmp_path):
    target = tmp_path / "chapter.pdf"
    print_book.render(site / "book" / "ch05_robust_bayes.html", target)
    data = target.read_bytes()
    assert data.startswith(b"%PDF") and b"/Outlines" in data
    assert "5. Robust".encode("utf-16-be").hex().upper().encode() in data, "the title has lost the chapter's number"
    assert 10 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 60
