"""What the grader's pages have in common: they follow the reader's light or dark mode, and fetch nothing."""

import html
from functools import cache
from pathlib import Path

from pygments.formatters import HtmlFormatter

PAGES = Path(__file__).parent


def head(title: str, *styles: str) -> str:
    """The inside of <head>: a policy under which no script runs and nothing is fetched, the title and the styles."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>\n{_style(styles)}</style>"
    )


@cache
def _style(names: tuple[str, ...]) -> str:
    parts = [(PAGES / name).read_text(encoding="utf-8") for name in ("page.css", *names)]
    if names:
        parts.append(HtmlFormatter(style="default").get_style_defs(".highlight"))
        dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
        parts.append(f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n.highlight {{ background: none; }}\n")
    return "\n".join(parts)
