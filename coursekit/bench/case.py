"""What a row is made of: our call, the calls of the peers, and how their outputs are compared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Agreement:
    """How far two outputs are apart, and how far they may be."""

    what: str
    error: float
    bound: float

    def require(self, peer: str) -> None:
        if not self.error <= self.bound:
            raise AssertionError(f"{peer} gives another answer: {self.what} {self.error:.2g} > {self.bound:.2g}")


@dataclass(frozen=True)
class Case:
    """A row, ready to run.

    Args:
        ours: the timed call.
        peers: name -> a function that imports the library, prepares it as its documentation says, and returns the
            timed call.
        compare: (peer, our output, its output) -> Agreement.
        bytes: memory that must move at least, where it can be counted.
        note: what a reader of the row must know.
    """

    ours: Callable[[], Any]
    peers: dict[str, Callable[[], Callable[[], Any]]]
    compare: Callable[[str, Any, Any], Agreement]
    bytes: int | None = None
    note: dict[str, str] = field(default_factory=dict)
