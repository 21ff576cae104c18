"""Build one page, or a few, of the book while writing: python book/preview.py book/ch05_robust_bayes.md

The pages of reference are built with them, in a folder and with a cache of their own, so that previews of several
authors do not meet. References to pages that are left out appear as warnings; the whole book must build without any.
"""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ("evidence", "notation", "glossary", "bibliography")


def main(pages: list[str]) -> int:
    if not pages or not all((ROOT / page).with_suffix(".md").is_file() for page in pages):
        print(__doc__)
        return 2
    names = [Path(page).with_suffix("").as_posix() for page in pages]
    out = ROOT / "_build" / "preview" / Path(names[0]).name
    out.mkdir(parents=True, exist_ok=True)
    toc = {
        "format": "jb-book",
        "root": "book/index",
        "parts": [
            {"caption": "Preview", "numbered": True, "chapters": [{"file": name} for name in names]},
            {"caption": "Reference", "chapters": [{"file": f"book/{name}"} for name in REFERENCE]},
        ],
    }
    (out / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    options = ["--toc", str(out / "_toc.yml"), "--path-output", str(out), "-n"]
    code = subprocess.run([*jupyter_book, "build", str(ROOT), *options], cwd=ROOT).returncode
    for name in names:
        print(f"\nfile://{out / '_build' / 'html' / name}.html")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
