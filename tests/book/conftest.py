"""The real book, built once for all tests that read it; and small books with the real configuration."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
sys.path.insert(0, str(BOOK / "_ext"))  # the extension `coursebook` is no installed package

JUPYTER_BOOK = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]


def build(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """`jupyter-book build` as `make book` calls it: warnings are errors, all of them are shown."""
    return subprocess.run(
        [*JUPYTER_BOOK, "build", str(folder), "-W", "-n", "--keep-going", *options],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg"},  # as `make` sets it; the pages must show their figures all the same
        capture_output=True,
        text=True,
    )


def complaints(result: subprocess.CompletedProcess) -> str:
    """What a failed build says, without its progress."""
    text = result.stdout + result.stderr
    return "\n".join(line for line in text.splitlines() if re.search(r"WARNING|ERROR|rror:|Exception", line))[-6000:]


def chapters() -> list[Path]:
    """The chapters that the book lists, in its order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [ROOT / f"{name}.md" for name in files if re.fullmatch(r"book/ch\d\d_\w+", name)]


@pytest.fixture(scope="session")
def site() -> Path:
    """_build/html, every page read anew; cells that did not change come from the cache of executed pages."""
    (ROOT / "_build").mkdir(exist_ok=True)
    with open(ROOT / "_build" / ".test-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = build(ROOT, "--all")
    assert result.returncode == 0, f"the book does not build without warnings:\n{complaints(result)}"
    return ROOT / "_build" / "html"


@pytest.fixture
def tiny(tmp_path):
    """tiny({name: MyST text}) -> a book of these pages with the real configuration, extension and style."""

    def make(pages: dict[str, str]) -> Path:
        book = tmp_path / "book"
        book.mkdir(exist_ok=True)
        for name in ("_ext", "_static"):
            if not (book / name).exists():
                (book / name).symlink_to(BOOK / name)
        shutil.copy(ROOT / "_config.yml", tmp_path)
        (book / "references.bib").write_text(
            "@book{author2001title,\n  title = {A Title},\n  author = {Author, Ann and Other, Olga},\n"
            "  publisher = {Press},\n  year = {2001}\n}\n"
        )
        for old in book.glob("*.md"):
            if old.stem not in pages:
                old.unlink()
        for name, text in pages.items():
            path = book / f"{name}.md"
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
        names = [f"book/{name}" for name in pages]
        toc = {"format": "jb-book", "root": names[0], "chapters": [{"file": name} for name in names[1:]]}
        (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
        return tmp_path

    return make
