r"""The ``quiz`` directive: questions that a reader answers on the static page, without a kernel.

    ```{quiz}
    ? Question text with $math$.
    - [x] A right answer. :: What the reader sees after choosing it.
    - [ ] A wrong answer. :: Why it is wrong.

    ? The next question; two right answers make it one with several boxes to tick.
    - [x] ...
    ```

Question, answers and feedback are parsed as MyST. A line that starts with none of the marks continues the one before.
Without JavaScript, and in print, the answers stand under the questions.
"""

import re
from dataclasses import dataclass, field

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

OPTION = re.compile(r"-\s+\[(?P<mark>[ xX])\]\s*(?P<text>.*)", re.DOTALL)


@dataclass
class Option:
    """One answer."""

    text: str
    right: bool
    feedback: str
    line: int


@dataclass
class Question:
    """One question with its answers."""

    text: str
    line: int
    options: list[Option] = field(default_factory=list)

    @property
    def several(self) -> bool:
        return sum(option.right for option in self.options) > 1


class QuizError(ValueError):
    """The text of a quiz is not in the form that the directive expects."""


def parse(lines: list[str]) -> list[Question]:
    """The questions of a quiz.

    >>> [question] = parse(["? Is $1 < 2$?", "- [x] Yes. :: Right.", "- [ ] No."])
    >>> question.text, question.several, [(o.text, o.right, o.feedback) for o in question.options]
    ('Is $1 < 2$?', False, [('Yes.', True, 'Right.'), ('No.', False, '')])
    """
    blocks: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        text = line.strip()
        if text.startswith("? ") or OPTION.match(text):
            blocks.append((number, text))
        elif text and not blocks:
            raise QuizError(f"line {number + 1}: a quiz begins with '? question', got {text!r}")
        elif text:
            start, before = blocks[-1]
            blocks[-1] = (start, f"{before}\n{text}")
    questions: list[Question] = []
    for number, text in blocks:
        if text.startswith("? "):
            questions.append(Question(text[2:].strip(), number))
            continue
        if not questions:
            raise QuizError(f"line {number + 1}: an answer stands before the first '? question'")
        match = OPTION.match(text)
        answer, _, feedback = match["text"].partition(" :: ")
        if not answer.strip():
            raise QuizError(f"line {number + 1}: the answer is empty")
        right = match["mark"] in "xX"
        questions[-1].options.append(Option(answer.strip(), right, feedback.strip(), number))
    if not questions:
        raise QuizError("a quiz needs at least one '? question'")
    for question in questions:
        where = f"question {question.text!r} (line {question.line + 1})"
        if len(question.options) < 2:
            raise QuizError(f"{where} needs at least two answers '- [ ] ...'")
        if not any(option.right for option in question.options):
            raise QuizError(f"{where} has no right answer; mark it '- [x]'")
    return questions


class html_element(nodes.General, nodes.Element):
    """An HTML element with given attributes; other builders keep its children only."""


def element(tag: str, *children, **attributes) -> html_element:
    """A node that becomes <tag ...>; class_ and for_ stand for the reserved words, True for an empty attribute."""
    return html_element("", *children, tag=tag, html=attributes)


class QuizDirective(SphinxDirective):
    """See the head of this file."""

    has_content = True

    def run(self):
        try:
            questions = parse(list(self.content))
        except QuizError as error:
            raise self.error(f"quiz: {error}") from error
        serial = self.env.new_serialno("quiz") + 1
        parts = [
            self._question(question, f"quiz-{serial}-{number}") for number, question in enumerate(questions, start=1)
        ]
        score = element("p", class_="quiz-score", role="status", **{"aria-live": "polite"})
        return [element("div", *parts, score, class_="quiz", **{"data-quiz": str(len(parts))})]

    def _inline(self, text: str, line: int) -> list[nodes.Node]:
        """Parse MyST inline; "1." is an answer here and no list."""
        content, messages = self.state.inline_text(" ".join(text.split("\n")), self.lineno + line)
        return [*content, *messages]

    def _question(self, question: Question, name: str) -> html_element:
        kind = "checkbox" if question.several else "radio"
        legend = element("legend", *self._inline(question.text, question.line))
        if question.several:
            legend += element("span", nodes.Text(" (choose all that are right)"), class_="quiz-hint")
        rows = []
        for number, option in enumerate(question.options, start=1):
            id_ = f"{name}-{number}"
            right = "true" if option.right else "false"
            field = element(
                "input", type=kind, name=name, id=id_, autocomplete="off", **{"aria-describedby": f"{id_}-note"}
            )
            label = element("label", *self._inline(option.text, option.line), for_=id_)
            note = element(
                "div",
                element("strong", nodes.Text("Right. " if option.right else "Wrong. ")),
                *(self._inline(option.feedback, option.line) if option.feedback else []),
                class_="quiz-note",
                id=f"{id_}-note",
            )
            rows.append(element("div", field, label, note, class_="quiz-option", **{"data-right": right}))
        bar = element(
            "div",
            element("button", nodes.Text("Check"), type="button", class_="quiz-check"),
            element("span", class_="quiz-verdict", role="status", **{"aria-live": "polite"}),
            class_="quiz-bar",
        )
        return element("fieldset", legend, *rows, bar, class_="quiz-question")


def visit_html(self, node):
    attributes = []
    for key, value in node["html"].items():
        name = key.rstrip("_")
        attributes.append(f' {name}="{self.attval(str(value))}"')
    self.body.append(f"<{node['tag']}{''.join(attributes)}>")


def depart_html(self, node):
    if node["tag"] != "input":
        self.body.append(f"</{node['tag']}>")


def setup(app):
    keep_children = (lambda self, node: None, lambda self, node: None)
    app.add_node(html_element, html=(visit_html, depart_html), latex=keep_children, text=keep_children)
    app.add_directive("quiz", QuizDirective)
    app.add_css_file("quiz.css")
    app.add_js_file("quiz.js", loading_method="defer")
