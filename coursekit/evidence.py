"""A claim, its measured value, its bound: checked where it is made, shown, and collected by the book."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIME = "application/vnd.coursekit.evidence+json"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NAME = re.compile(r"(?P<id>[A-Z]\d+(?:\.\d+)?[a-z]?)\s+(?P<statement>\S.*)", re.DOTALL)


class EvidenceError(AssertionError):
    """A claim does not hold: the measured value is outside its bound."""


@dataclass(frozen=True)
class Check:
    """A claim that held, with what was measured; the last line of a notebook cell shows it."""

    id: str
    statement: str
    measured: str
    bound: str
    source: str

    def record(self) -> dict:
        """The row of the Evidence page."""
        return {
            "id": self.id,
            "statement": self.statement,
            "measured": self.measured,
            "bound": self.bound,
            "source": self.source,
            "holds": True,
        }

    def __str__(self) -> str:
        return f"✓ {self.id} {self.statement}: measured {self.measured}, required {self.bound}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return Checks((self,))._repr_mimebundle_()


@dataclass(frozen=True)
class Checks:
    """Several checks of one cell, shown together."""

    checks: tuple[Check, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        rows = "".join(
            '<div class="ck-evidence" style="border-left:4px solid #009E73;padding:.3em .8em;margin:.4em 0">'
            f'<span style="color:#009E73;font-weight:700">✓</span> <strong>{html.escape(c.id)}</strong> '
            f"{html.escape(c.statement)}<br><small>measured <strong>{html.escape(c.measured)}</strong>, "
            f"required {html.escape(c.bound)}</small></div>"
            for c in self.checks
        )
        return {
            "text/plain": str(self),
            "text/html": rows,
            MIME: json.loads(json.dumps([c.record() for c in self.checks])),
        }


def show(*checks: Check) -> Checks:
    """Show several checks as the output of one cell."""
    return Checks(tuple(checks))


def check(
    name: str,
    measured,
    expected=None,
    *,
    rtol: float = 0,
    atol: float = 0,
    at_most: float | None = None,
    at_least: float | None = None,
    source: str,
) -> Check:
    r"""Check a claim against a bound known beforehand; raise if it does not hold.

    The claim holds if :math:`|m - e| \le \text{atol} + \text{rtol}\,|e|` for each entry (equality if both are 0), and
    if ``at_least`` <= m <= ``at_most`` for each entry. NaN never holds.

    Args:
        name: the claim, its id first: ``"B5.1 predictive variance of a line"``.
        measured: a number, a bool, or an array or tensor of them.
        expected: the value it must have, of the same shape or a scalar.
        source: key of the book's bibliography (or ``"derived"`` for a proof given on the page).

    Raises:
        ValueError: a name without id, no bound at all, or shapes that differ.
        EvidenceError: the claim does not hold; the message has the measured value and the bound.

    >>> print(check("B0.1 one third of three", 3 * (1 / 3), 1.0, atol=1e-15, source="derived"))
    ✓ B0.1 one third of three: measured 1, required 1 ± 10⁻¹⁵
    >>> print(check("B0.1b ten thirds", 10 * (1 / 3), 10 / 3, rtol=1e-10, source="derived"))
    ✓ B0.1b ten thirds: measured 3.33333, required 3.33333 (relative tolerance 10⁻¹⁰)
    >>> check("B0.2 pi is three", 3.14159, 3, source="derived")
    Traceback (most recent call last):
    ...
    coursekit.evidence.EvidenceError: B0.2 pi is three: measured 3.14159, required = 3
    """
    match = _NAME.fullmatch(name.strip())
    if match is None:
        raise ValueError(f"name {name!r} must begin with the id of its claim, as in 'B5.1 predictive variance'")
    if expected is None and at_most is None and at_least is None:
        raise ValueError(f"{name}: a check needs a bound: expected, at_most or at_least")
    if not source:
        raise ValueError(f"{name}: a check needs a source: a key of the bibliography, or 'derived'")
    value = _array(measured)
    holds = bool(value.size) and not np.isnan(value).any()
    bounds = []
    if expected is not None:
        target = _array(expected)
        if target.shape not in ((), value.shape):
            raise ValueError(f"{name}: measured has shape {value.shape}, expected has {target.shape}")
        error = np.where(value == target, 0.0, np.abs(value - target))
        holds &= bool((error <= atol + rtol * np.abs(target)).all())
        tolerance = "".join([f" ± {_number(atol)}"] * (atol > 0) + [_relative(rtol)] * (rtol > 0))
        bounds.append(f"{_text(target)}{tolerance}" if tolerance else f"= {_text(target)}")
    if at_least is not None:
        holds &= bool((value >= at_least).all())
        bounds.append(f"≥ {_number(at_least)}")
    if at_most is not None:
        holds &= bool((value <= at_most).all())
        bounds.append(f"≤ {_number(at_most)}")
    result = Check(match["id"], match["statement"].strip(), _text(value), " and ".join(bounds), source)
    if not holds:
        raise EvidenceError(f"{result.id} {result.statement}: measured {result.measured}, required {result.bound}")
    return result


def _array(value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        value = [_array(v) for v in value]
    return np.asarray(value, dtype=float)


def _text(value: np.ndarray) -> str:
    """A number, or a few; of many the range."""
    flat = value.ravel()
    if flat.size <= 8:
        return ", ".join(map(_number, flat))
    return f"{flat.size} values in [{_number(flat.min(), 4)}, {_number(flat.max(), 4)}]"


def _relative(rtol: float) -> str:
    """A share in per cent as long as one can read it, a power of ten below."""
    return f" ± {100 * rtol:.3g} %" if rtol >= 1e-4 else f" (relative tolerance {_number(rtol)})"


def _number(value: float, digits: int = 6) -> str:
    """A number as it is written on paper; of rounding errors three digits are enough.

    >>> [_number(v) for v in (0.0407329, 1e-10, -1e-3, 2.498e-15, 3e-05, 1.5e8)]
    ['0.0407329', '10⁻¹⁰', '-0.001', '2.5·10⁻¹⁵', '3·10⁻⁵', '1.5·10⁸']
    """
    mantissa, _, exponent = f"{value:.{digits if abs(value) >= 1e-4 else 3}g}".partition("e")
    if not exponent:
        return mantissa
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return {"1": power, "-1": f"-{power}"}.get(mantissa, f"{mantissa}·{power}")
