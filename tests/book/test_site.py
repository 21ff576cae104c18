"""The built site: pictures described, links that lead somewhere, nothing loaded from elsewhere, evidence complete."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

from .conftest import ROOT, chapters

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]

CODE_CELL = re.compile(r"^```\{code-cell\}.*?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="session")
def pages(site) -> list[Path]:
    """Every page that this build wrote: the ones its inventory of the search knows."""
    names = re.search(r'"docnames":\s*\[(.*?)\]', (site / "searchindex.js").read_text(encoding="utf-8"))[1]
    return [site / f"{name}.html" for name in re.findall(r'"([^"]+)"', names)]


def test_every_image_says_what_it_shows(pages):
    bad = []
    for page in pages:
        for image in soup(page).select("article img"):
            alt = image.get("alt", "").strip()
            if len(alt) < 30 or " " not in alt or re.search(r"\.(png|svg|jpe?g)$|_build|^data:", alt):
                bad.append((page.name, alt))
    assert not bad


def test_links_inside_resolve(site, pages):
    bad = []
    for page in pages:
        for tag, attribute in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
            for node in soup(page).find_all(tag, **{attribute: True}):
                parts = urlsplit(node[attribute])
                if parts.scheme or parts.netloc:
                    continue
                target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
                if not target.exists():
                    bad.append((page.name, node[attribute], "no such file"))
                elif parts.fragment and target.suffix == ".html" and not soup(target).find(id=unquote(parts.fragment)):
                    bad.append((page.name, node[attribute], "no such place"))
    assert not bad, bad[:20]


def test_ids_are_unique_on_a_page(pages):
    bad = {}
    for page in pages:
        ids = [node["id"] for node in soup(page).select("article [id]")]
        if twice := {i for i in ids if ids.count(i) > 1}:
            bad[page.name] = twice
    assert not bad


def test_nothing_is_loaded_from_another_host(site, pages):
    foreign = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
    tags = ("script", "img", "iframe", "source", "video", "audio", "embed")
    loads = [*((tag, "src") for tag in tags), ("img", "srcset"), ("object", "data"), ("link", "href")]
    bad = []
    for page in [*pages, site / "search.html", site / "genindex.html"]:
        for tag, attribute in loads:
            for node in soup(page).find_all(tag, **{attribute: True}):
                if foreign.match(node[attribute]) and "canonical" not in node.get("rel", []):
                    bad.append((page.name, str(node)[:120]))
        for style in soup(page).find_all("style"):
            bad.extend(
                (page.name, hit) for hit in re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]+", str(style))
            )
        for script in soup(page).find_all("script", src=False):
            bad.extend(
                (page.name, hit) for hit in re.findall(r"(?:unpkg|jsdelivr|cdnjs|googleapis)[^\"']*", str(script))
            )
    for sheet in (site / "_static").rglob("*.css"):
        text = sheet.read_text(encoding="utf-8", errors="replace")
        bad.extend((sheet.name, hit) for hit in re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]+", text))
    assert not bad


def test_formulas_are_set_by_the_local_mathjax(site, pages):
    for page in pages:
        if soup(page).select(".math"):
            sources = [node["src"] for node in soup(page).find_all("script", src=True)]
            assert any("_static/mathjax/tex-chtml-full.js" in source for source in sources), page.name
    script = (site / "_static/mathjax/tex-chtml-full.js").read_text(encoding="utf-8")
    assert '"3.2.2"' in script
    assert len(list((site / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))) >= 20


def test_one_search_field_and_the_contents_of_the_page(site):
    path = site / "book" / f"{chapters()[0].stem}.html"
    page = soup(path)
    assert path.read_text(encoding="utf-8").count("search-button-field") == 1  # a script of the theme writes it
    assert len(page.select(".bd-sidebar-secondary nav.page-toc a, .bd-sidebar-secondary .toc-item a")) >= 5


def test_the_evidence_page_lists_every_claim(site):
    page = soup(site / "book" / "evidence.html")
    listed: dict[str, set[str]] = {}
    for row in page.select("table.evidence-table tbody tr"):
        cells = row.find_all("td")
        link = cells[0].find("a")
        listed.setdefault(Path(urlsplit(link["href"]).path).stem, set()).add(link.get_text())
        assert cells[2].find("a"), f"{link.get_text()} has no source that one can follow"
        assert cells[5].get_text(strip=True) == "✓ held"
        assert all(cell.get_text(strip=True) for cell in cells)
    for chapter in chapters():
        code = "\n".join(cell["body"] for cell in CODE_CELL.finditer(chapter.read_text(encoding="utf-8")))
        claimed = set(re.findall(r"check\(\s*[rf]*[\"']([A-Z]\d+(?:\.\d+)?[a-z]?) ", code))
        assert claimed and listed.get(chapter.stem) == claimed, chapter.stem


def test_each_chapter_gives_its_notebook(site):
    for chapter in chapters():
        path = site / "_sources" / "book" / f"{chapter.stem}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert soup(site / "book" / f"{chapter.stem}.html").select_one(f'a[href$="_sources/book/{chapter.stem}.ipynb"]')
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert not cell.outputs
                compile(cell.source, str(path), "exec")
            else:
                assert not re.search(
                    r"^\s*(```|:::)\{|\{(cite|prf|ref|numref|term)[:\w]*\}`", cell.source, re.MULTILINE
                )


def test_each_lab_has_a_page_with_its_notebook(site):
    """What the button gives is the student notebook, byte for byte; lab and chapter lead to each other."""
    notebooks = sorted((ROOT / "labs").glob("*/*.ipynb"))
    assert len(notebooks) >= 3
    for path in notebooks:
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        bar = soup(site / f"{name}.html").select_one("article .lab-bar")
        button = bar.select_one("a.lab-download[download]")
        assert (site / name).parent.joinpath(button["href"]).resolve().read_bytes() == path.read_bytes()
        points = sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in nbformat.read(path, 4).cells)
        assert f"{points:g} points" in bar.get_text()
        [chapter] = [link["href"] for link in bar.find_all("a") if "/ch" in link["href"]]
        back = soup((site / name).parent.joinpath(chapter).resolve()).select(f'article a[href$="{path.stem}.html"]')
        assert back, f"{chapter} does not lead to {path.stem}"
        assert soup(site / "book" / "labs.html").select(f'article a[href$="{path.stem}.html"]')


def test_a_full_stop_or_a_bracket_stays_with_its_formula(pages):
    loose, opened = re.compile(r"^[.,;:]"), re.compile(r"[(\[]$")
    bad = []
    for page in pages:
        for formula in soup(page).select("article span.math"):
            before, after = formula.previous_sibling, formula.next_sibling
            apart = (isinstance(after, str) and loose.match(after)) or (
                isinstance(before, str) and opened.search(before)
            )
            if apart and "unbroken" not in formula.parent.get("class", []):
                bad.append((page.name, formula.get_text()[:40]))
    assert not bad, bad[:10]


def test_formulas_use_only_known_macros(pages):
    """MathJax shows an unknown macro in red; here those of the configuration and of plain LaTeX are known."""
    used: dict[str, str] = {}
    for page in pages:
        for node in soup(page).select(".math"):
            for name in re.findall(r"\\([A-Za-z]+)", node.get_text()):
                used.setdefault(name, page.name)
    script = (ROOT / "book/_static/mathjax/tex-chtml-full.js").read_text(encoding="utf-8")
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    known = set(re.findall(r"[{,]\"?\\{0,2}([A-Za-z]+)\"?:", script)) | set(
        re.findall(r"^ {10}(\w+):", config, re.MULTILINE)
    )
    assert not {name: page for name, page in used.items() if name not in known}


def test_no_formula_is_left_as_text(pages):
    """A line of a formula that begins like a list ends the formula: its source then stands on the page."""
    left, bad = re.compile(r"\$|\\[a-zA-Z]{2,}|\\[()\[\]]"), []
    for page in pages:
        article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select_one("article")
        for node in article.select(".math, pre, code, script, style"):
            node.decompose()
        bad += [(page.name, text.strip()[:60]) for text in article.find_all(string=left)]
    assert not bad, bad[:10]
