"""The table at the end of `make course`: what was made and where to open it. Fails if anything is not there."""

import csv
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "sample_class"


def labs() -> tuple[str, Path]:
    notebooks = sorted((ROOT / "labs").glob("*/*.ipynb"))
    sources = sorted(p for p in (ROOT / "solutions").glob("*/*.py") if p.stem == p.parent.name)
    missing = {p.stem for p in sources} - {p.stem for p in notebooks}
    if missing or not notebooks:
        raise FileNotFoundError(f"no student notebook for {', '.join(sorted(missing)) or 'any lab'}: make release")
    questions = sum(
        bool(cell["metadata"].get("nbgrader", {}).get("points"))
        for notebook in notebooks
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    )
    return f"{len(notebooks)} student notebooks, {questions} graded cells", ROOT / "labs"


def grades() -> tuple[str, Path]:
    tables = sorted((SAMPLE / "grades").glob("*.csv"))
    if not tables:
        raise FileNotFoundError("no grades of the sample class: make sample")
    counts: dict[str, int] = {}
    for table in tables:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                counts[row["status"]] = counts.get(row["status"], 0) + 1
    text = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    return f"{sum(counts.values())} submissions: {text}", tables[0] if len(tables) == 1 else SAMPLE / "grades"


def feedback() -> tuple[str, Path]:
    pages = sorted((SAMPLE / "feedback").rglob("*.html"))
    if not pages:
        raise FileNotFoundError("no feedback for the sample class: make sample")
    return f"{len(pages)} feedback pages", SAMPLE / "feedback"


def book() -> tuple[str, Path]:
    html = ROOT / "_build" / "html"
    chapters = sorted((html / "book").glob("ch*.html"))
    evidence = html / "book" / "evidence.html"
    if not chapters or not evidence.is_file():
        raise FileNotFoundError("the book is not built: make book")
    counted = re.search(r"(\d+ claims in \d+ checks)", evidence.read_text(encoding="utf-8"))
    if counted is None:
        raise FileNotFoundError("the page Evidence counts no claims: make book")
    return f"{len(chapters)} chapters, {counted[1]}", html / "index.html"


def main() -> int:
    rows, missing = [], []
    for name, look in (("labs", labs), ("sample class", grades), ("feedback", feedback), ("book", book)):
        try:
            text, place = look()
        except FileNotFoundError as error:
            missing.append(f"{name}: {error}")
        else:
            rows.append((name, text, str(place.relative_to(ROOT))))
    widths = [max(len(row[k]) for row in [*rows, ("what", "made", "open")]) for k in range(3)]
    print()
    for row in [("what", "made", "open"), *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print("\nmake lab opens the labs in JupyterLab; book/instructors.md says how to run a real class.")
    for line in missing:
        print("MISSING", line, file=sys.stderr)
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
