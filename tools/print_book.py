"""Print the built book, one PDF a page, with the installed Chromium: python tools/print_book.py [ch05_robust_bayes ...]

Formulas as on the site, folded code left out, solutions open, movable figures at their first frame, contents as PDF
bookmarks. Without names: all chapters and the pages a lecturer hands out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html" / "book"
OUT = ROOT / "_build" / "print"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None) or (str(MAC) if MAC.exists() else None)
    if found is None:
        raise SystemExit("printing needs Chromium or Chrome: apt install chromium")
    return found


def run(uri: str, *options: str) -> subprocess.CompletedProcess:
    """Load a page without a window; MathJax gets a minute of the browser's own clock, a few seconds of ours."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser(), "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--virtual-time-budget=60000",
            *options, uri,
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in most containers
            command.insert(1, "--no-sandbox")
        return subprocess.run(command, capture_output=True, text=True, timeout=300)


def render(page: Path, target: Path) -> None:
    """Write the PDF of one page."""
    target.unlink(missing_ok=True)
    result = run(page.as_uri(), "--no-pdf-header-footer", "--generate-pdf-document-outline", f"--print-to-pdf={target}")
    if not target.is_file():
        raise SystemExit(f"the browser printed nothing for {page.name}:\n{result.stderr[-2000:]}")


def main(names: list[str]) -> int:
    pages = [SITE / f"{name}.html" for name in names] or [
        *sorted(SITE.glob("ch*.html")), SITE / "notation.html", SITE / "glossary.html", SITE / "teaching.html"
    ]  # fmt: skip
    if missing := [page.stem for page in pages if not page.is_file()] or not SITE.is_dir():
        raise SystemExit(f"not in the built book: {missing}; make book builds it")
    OUT.mkdir(parents=True, exist_ok=True)
    for number, page in enumerate(pages, start=1):
        print(f"   {number:2}/{len(pages)} {page.stem}", end=" ", flush=True)
        target = OUT / f"{page.stem}.pdf"
        render(page, target)
        print(f"({target.stat().st_size / 1e6:.1f} MB)", flush=True)
    print(f"   {OUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
