r"""Each executable page gives its notebook: code without outputs, and text that plain Jupyter can show.

MyST directives become Markdown that any notebook interface renders: a theorem is a quotation with a bold head, a quiz
a list, a cross-reference the words it points to. The macros of the book stand in the first cell.
"""

import json
import re
from pathlib import Path

import nbformat

OPEN = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}\s*(?P<argument>.*)$")
OPTION = re.compile(r"^:[\w-]+:.*$")
TITLES = {"exercise": "Exercise", "solution": "Solution", "admonition": ""}
DROPPED = {"bibliography", "evidence", "toctree"}
# {role}`text <target>` or {role}`target`
ROLE = re.compile(r"\{(?P<role>[\w:]+)\}`(?:(?P<text>[^`<]+?)\s*<(?P<with>[^`>]+)>|(?P<target>[^`]+))`")


def plain(text: str, *, name_of) -> str:
    """MyST -> Markdown; ``name_of(role, target)`` gives the words for a reference.

    >>> text = "See {term}`evidence`.\\n\\n```{prf:lemma} Small\\n:label: a\\nIt holds.\\n```"
    >>> print(plain(text, name_of=lambda role, target: target))
    See evidence.
    <BLANKLINE>
    > **Lemma (Small).**
    >
    > It holds.
    """
    # "Figure %s <label>" waits for a number that only the book knows.
    words = {True: lambda m: m["text"], False: lambda m: name_of(m["role"], m["target"] or m["with"])}
    text = ROLE.sub(lambda m: words[bool(m["text"]) and "%s" not in m["text"]](m), text)
    lines, out = text.split("\n"), []
    stack: list[tuple[str, str]] = []
    for line in lines:
        match = OPEN.match(line.strip())
        if match:
            stack.append((match["fence"], match["name"]))
            if not _dropped(stack):
                out.append(_quoted(_head(match["name"], match["argument"]), len(stack)))
                out.append(_quoted("", len(stack)))
            continue
        if stack and line.strip() == stack[-1][0]:
            stack.pop()
            continue
        if _dropped(stack) or (stack and OPTION.match(line.strip())):
            continue
        if re.fullmatch(r"\([\w-]+\)=", line.strip()):
            continue
        if stack and stack[-1][1] == "quiz":
            line = _quiz_line(line)
        quoted = _quoted(line, len(stack))
        if stack and not line.strip() and out and out[-1] == quoted:
            continue
        out.append(quoted)
    return "\n".join(out).strip()


def _dropped(stack) -> bool:
    return any(name in DROPPED for _, name in stack)


def _head(name: str, argument: str) -> str:
    kind = name.removeprefix("prf:")
    if name == "quiz":
        return "**Quiz** (the page of the book checks your answers)"
    if name in ("note", "tip", "warning", "seealso", "important", "hint"):
        return f"**{kind.capitalize()}.** {argument}"
    if kind in ("proof", "solution"):
        return f"*{kind.capitalize()}.*"
    if name == "admonition":
        return f"**{argument}**"
    return f"**{kind.capitalize()} ({argument}).**" if argument else f"**{kind.capitalize()}.**"


def _quoted(line: str, depth: int) -> str:
    return ("> " * depth + line).rstrip()


def _quiz_line(line: str) -> str:
    if line.startswith("? "):
        return f"**{line[2:].strip()}**"
    return re.sub(r"^- \[[ xX]\]\s*", "- ", line).partition(" :: ")[0]


def preamble(macros: dict) -> str:
    r"""The macros of the book as one line of TeX.

    >>> preamble({"R": "\\mathbb{R}", "norm": ["|#1|", 1]})
    '$\\newcommand{\\R}{\\mathbb{R}}\\newcommand{\\norm}[1]{|#1|}$'
    """
    lines = []
    for name, value in macros.items():
        body, count = (value[0], f"[{value[1]}]") if isinstance(value, list) else (value, "")
        # \P and \S exist already in TeX; \newcommand would stop there.
        lines.append(rf"\{'renew' if name in ('P', 'S') else 'new'}command{{\{name}}}{count}{{{body}}}")
    return "$" + "".join(lines) + "$"


def offer(app, pagename, templatename, context, doctree):
    """Write the notebook of an executed page beside its source, and let the theme show the button."""
    if doctree is None or not app.env.doc2path(pagename).endswith(".md"):
        return
    path = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if not path.exists():
        return
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    if not any(cell.cell_type == "code" for cell in notebook.cells):
        return

    def name_of(role, target):
        titles = getattr(app.env, "proof_list", {}) | getattr(app.env, "sphinx_exercise_registry", {})
        if role in ("prf:ref", "ref", "numref") and target in titles:
            title = titles[target].get("title") or ""
            return f"“{title}”" if isinstance(title, str) and title else "the statement above"
        if role.startswith("cite"):
            return ", ".join(_citation(app, key.strip()) for key in target.split(","))
        return {"numref": "the figure", "eq": "the equation"}.get(role, target)

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("mystnb", None)
        else:
            cell.source = plain(cell.source, name_of=name_of)
    macros = (app.config.mathjax3_config or {}).get("tex", {}).get("macros", {})
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(preamble(macros), id="macros"))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    context["ipynb_source"] = f"{pagename}.ipynb"


def _citation(app, key: str) -> str:
    from .evidence import author_year

    for citation in app.env.get_domain("cite").citations:
        if citation.key == key:
            return author_year(citation.entry)
    return key


def setup(app):
    # Before the theme collects its buttons.
    app.connect("html-page-context", offer, priority=100)
