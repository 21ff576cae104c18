"""Other answers to the questions of a lab, wrong and right, and what its checks must say of each."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Variant:
    """Another answer to one question, and what its checks must say of it.

    question: grade_id of the solution cell that `source` replaces; name: a few words, unique within the question;
    kind: "wrong" (plausible, must be rejected) or "right" (written in another way, must be accepted);
    source: the whole text of the cell; loses: grade_ids of the test cells that must fail, and no others.
    """

    question: str
    name: str
    kind: Literal["wrong", "right"]
    source: str
    loses: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind not in ("wrong", "right"):
            raise ValueError(f"kind of variant {self.question}/{self.name} is {self.kind!r}; write 'wrong' or 'right'")
        if (self.kind == "wrong") != bool(self.loses):
            raise ValueError(
                f"variant {self.question}/{self.name} is {self.kind!r} and loses {self.loses}: "
                "a wrong answer names the test cells it loses, a right one loses none"
            )


def load_variants(path: Path) -> list[Variant]:
    """VARIANTS of the file `path` (solutions/<lab>/variants.py), with their questions and names checked."""
    spec = importlib.util.spec_from_file_location(f"variants_{path.parent.name}", path)
    if spec is None or not path.is_file():
        raise FileNotFoundError(f"no variants at {path}; write VARIANTS = [Variant(...), ...] there")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    variants = list(module.VARIANTS)
    keys = [(v.question, v.name) for v in variants]
    if len(set(keys)) != len(keys):
        twice = sorted({k for k in keys if keys.count(k) > 1})
        raise ValueError(f"{path}: two variants have the same question and name: {twice}")
    return variants
