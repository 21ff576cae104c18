"""The judge's process: it draws inputs, reads what comes back as plain data, and decides.

    {"name", "source", "dtype"}  -->  {"request", "seed", "hash"}    a question is drawn; the request is for the kernel
    {"reply"}                    -->  {"verdict": None | sentence}   what the kernel sent back
                                      {"fault": "..."}               instead of either: the question itself failed

A fork server (`coursekit.classroom.sandbox.forkserver`) with NumPy and SciPy runs this module and forks one child for
each submission. Expected values, tolerances and verdicts live here and nowhere else; nothing of a student is loaded.
"""

import contextlib
import resource
import secrets
import signal
import socket
from pathlib import Path

import numpy as np

from coursekit.question import Question, decode, encode, verdict  # noqa: I001  (as they cross the border)

from ..sandbox import forkserver

QUESTION_SECONDS = 30  # of the processor, to draw or to judge once
MEMORY_MB = 2048


class State:
    """What the server has prepared for its children."""

    files: Path


class Slow(Exception):
    """A question needed too long."""


class JudgeFailed(Exception):
    """The question itself failed, or the judge's process did: our fault."""


def prepare(settings: dict) -> None:
    """Import what judges use; `files` is the folder of the lab's files for judges."""
    import scipy.linalg
    import scipy.special
    import scipy.stats  # noqa: F401

    State.files = Path(settings["files"])


def finish() -> None:
    """Nothing is left behind."""


def work(connection: socket.socket) -> None:
    """Judge one submission: question after question until the grader goes away."""
    mb = 1 << 20
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MB * mb, MEMORY_MB * mb))
    question = parts = inputs = None
    while True:
        try:
            message, _ = forkserver.receive(connection)
        except (forkserver.Closed, OSError):
            return
        try:
            with _limited():
                if "reply" in message:
                    answer = {"verdict": verdict(question, parts, inputs, message["reply"])}
                else:
                    question = Question(message["name"], message["source"], message["dtype"])
                    parts = question.parts(State.files)
                    seed = message.get("seed")
                    seed = secrets.randbits(63) if seed is None else seed
                    inputs = decode(encode(parts["draw"](np.random.default_rng(seed))))
                    answer = {"request": question.request(inputs, seed), "seed": seed, "hash": question.hash}
        except Exception as error:
            answer = {"fault": f"{type(error).__name__}: {error}"[:500]}
        forkserver.send(connection, answer)


@contextlib.contextmanager
def _limited():
    def stop(*_):
        raise Slow(f"it took more than {QUESTION_SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, QUESTION_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Judge:
    """The grader's side: a judge's process of its own for one submission, at the fork server `address`."""

    def __init__(self, address: str):
        self.connection = forkserver.connect(address)

    def draw(self, question: Question, seed: int | None = None) -> dict:
        """`request`, `seed` and `hash` of one drawn question; a `seed` repeats what was asked before."""
        about = {"name": question.name, "source": question.source, "dtype": question.dtype, "seed": seed}
        return self._call(about)

    def verdict(self, reply: str) -> str | None:
        """None if the reply is right, else the sentence for the student."""
        return self._call({"reply": reply})["verdict"]

    def _call(self, message: dict) -> dict:
        try:
            forkserver.send(self.connection, message)
            answer, _ = forkserver.receive(self.connection)
        except (OSError, ValueError, forkserver.Closed):
            raise JudgeFailed("the judge's process has ended") from None
        if "fault" in answer:
            raise JudgeFailed(answer["fault"])
        return answer

    def close(self) -> None:
        """The judge's process ends."""
        self.connection.close()
