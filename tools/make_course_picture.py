"""Make book/_static/course.png, the picture of the README: a chapter, a lab in JupyterLab and a page of feedback.

    make book sample && pip install playwright && python tools/make_course_picture.py

A tool of maintainers: it drives the installed Chromium through playwright, which the kit itself does not need.
"""

import io
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright
from print_book import browser

ROOT = Path(__file__).resolve().parents[1]
LAB = "lab1_bayesian_regression"
TARGET = ROOT / "book" / "_static" / "course.png"
VIEW = {"width": 760, "height": 960}
PANEL, GAP = (524, 662), 14
MARKS = re.compile(r"^.*(### (BEGIN|END) (SOLUTION|HIDDEN TESTS)).*\n?", re.MULTILINE)


def lab_at_work(folder: Path) -> None:
    """Question 1.3 of the lab, answered and run, as a student has it on the screen."""
    notebook = jupytext.read(ROOT / "solutions" / LAB / f"{LAB}.py")
    identifiers = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    first = identifiers.index("q1_3")
    notebook.cells = notebook.cells[: first + 4]  # the answer, its check, a sentence, the figure
    for cell in notebook.cells:
        cell.source = re.sub(r"### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS\n?", "", cell.source, flags=re.DOTALL)
        cell.source = MARKS.sub("", cell.source).rstrip()
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    notebook.cells = notebook.cells[first - 1 :]
    for cell in notebook.cells:
        cell.metadata = {}
    for cell in notebook.cells[2:]:  # fold the code of the check and of the figure
        cell.metadata = {"jupyter": {"source_hidden": True}} if cell.cell_type == "code" else {}
    nbformat.write(notebook, folder / f"{LAB}.ipynb")


def serve(folder: Path) -> tuple[subprocess.Popen, str]:
    """JupyterLab on a free local port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
         f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}", "--LabApp.news_url=None",
         "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=2)
            return process, f"http://127.0.0.1:{port}/doc/tree/{LAB}.ipynb?token={token}"
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    process.kill()
    raise SystemExit("JupyterLab did not start")


def shot(context, url: str, *, top: str | None = None, wait: str | None = None, style: str = "") -> Image.Image:
    """What a reader sees with the element ``top`` at the upper edge."""
    page = context.new_page()
    page.goto(url, wait_until="load", timeout=120_000)
    if wait:
        page.wait_for_selector(wait, timeout=120_000)
    page.add_style_tag(content=f"html {{ scroll-behavior: auto !important; }} {style}")
    page.evaluate("() => window.MathJax?.startup?.promise?.then(() => true)")
    page.wait_for_timeout(3000)
    if top:
        page.locator(top).first.evaluate("(e) => scrollBy(0, e.getBoundingClientRect().top - 8)")
        page.wait_for_timeout(500)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    return image


def main() -> int:
    chapter = ROOT / "_build" / "html" / "book" / "ch01_introduction.html"
    feedback = ROOT / "sample_class" / "feedback" / "wrong_q1_3" / LAB / f"{LAB}.html"
    for path, target in ((chapter, "book"), (feedback, "sample")):
        if not path.is_file():
            raise SystemExit(f"{path.relative_to(ROOT)} is not there: make {target}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        lab_at_work(Path(folder))
        server, lab = serve(Path(folder))
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        context = chromium.new_context(viewport=VIEW, color_scheme="light")
        try:
            images = [
                shot(context, chapter.as_uri(), top="#ch01-thm-minnorm", style=".bd-header-article { display: none; }"),
                shot(context, lab, wait=".jp-OutputArea-output img", style=".Toastify { display: none; }"),
                shot(context, feedback.as_uri(), top="h3:has-text('Question 1.3')"),
            ]
        finally:
            chromium.close()
            server.terminate()
            server.wait()
    width, height = PANEL
    sheet = Image.new("RGB", (3 * width + 4 * GAP, height + 2 * GAP), "#e9ecef")
    frame = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        x = GAP + number * (width + GAP)
        sheet.paste(image.resize(PANEL, Image.Resampling.LANCZOS), (x, GAP))
        frame.rectangle((x - 1, GAP - 1, x + width, GAP + height), outline="#adb5bd")
    sheet.quantize(128, dither=Image.Dither.NONE).save(TARGET, optimize=True)
    print(f"{TARGET.relative_to(ROOT)}: {sheet.width} x {sheet.height}, {TARGET.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
