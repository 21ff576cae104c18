"""Plain data as text and back: numbers, strings, lists, dicts with string keys, and arrays with shape and dtype.

What crosses the border between a student's kernel and the judge is this and nothing else: no pickle, no code.
An array is ``{"array": [dtype, shape, base64]}``, a dict ``{"dict": [[key, value], ...]}``.
"""

import base64
import json
import math
import numbers
import sys
from collections.abc import Mapping

import numpy as np

MAX_BYTES = 8 << 20  # of the text
MAX_DEPTH = 4  # of lists and dicts in one another
DTYPES = {np.dtype(t).str for t in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")}


class NotPlain(ValueError):
    """A value, or a text, that is no plain data; the message says what came."""


def plain(value, *, depth: int = 0):
    """The value with tensors as arrays, tuples as lists and NumPy's numbers as Python's; `NotPlain` for anything else.

    >>> plain((np.float32(0.5), {"n": 3}, "text", None))
    [0.5, {'n': 3}, 'text', None]
    >>> plain(object())
    Traceback (most recent call last):
    ...
    coursekit._wire.NotPlain: a object came, expected numbers, arrays or tensors, strings, lists or dicts of them
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().to_dense() if value.is_sparse else value.detach()
        value = value.float() if value.dtype == torch.bfloat16 else value
        value = value.cpu().resolve_conj().resolve_neg().numpy()
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, np.ndarray):
        array = np.array(value, subok=False)
        array = array.astype(array.dtype.newbyteorder("="))
        if array.dtype.str not in DTYPES:
            raise NotPlain(f"an array of {array.dtype} came, expected an array of numbers")
        return array
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float | complex):
        kind = next(kind for kind in (bool, int, float, complex) if isinstance(value, kind))
        return kind(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            raise NotPlain(f"lists or dicts came that are nested deeper than {MAX_DEPTH}")
        if isinstance(value, Mapping):
            return {str(key): plain(entry, depth=depth + 1) for key, entry in value.items()}
        return [plain(entry, depth=depth + 1) for entry in value]
    expected = "numbers, arrays or tensors, strings, lists or dicts of them"
    raise NotPlain(f"a {type(value).__name__} came, expected {expected}")


def encode(value) -> str:
    """The text of a plain value (of `plain(value)` if it is none); `NotPlain` if it is too large or too deep.

    >>> decode(encode({"a": np.arange(3)}))
    {'a': array([0, 1, 2])}
    """
    text = json.dumps(_pack(plain(value)), ensure_ascii=True)
    if len(text) > MAX_BYTES:
        raise NotPlain(f"{len(text) >> 20} MB of data came, at most {MAX_BYTES >> 20} MB are read")
    return text


def decode(text: str):
    """The value that `encode` wrote; whatever else it holds is refused with `NotPlain`, and nothing of it is run."""
    if not isinstance(text, str) or len(text) > MAX_BYTES:
        raise NotPlain(f"more than {MAX_BYTES >> 20} MB of data, or no text, came")
    try:
        return _unpack(json.loads(text), 0)
    except RecursionError:
        raise NotPlain("data came that are nested too deep") from None
    except NotPlain:
        raise
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise NotPlain(f"the data cannot be read ({type(error).__name__})") from None


def _pack(value):
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        return {"array": [value.dtype.str, list(value.shape), data]}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(entry)] for key, entry in value.items()]}
    if isinstance(value, list):
        return [_pack(entry) for entry in value]
    if isinstance(value, complex):
        return _pack(np.array(value))
    return value


def _unpack(value, depth: int):
    if isinstance(value, list):
        return [_unpack(entry, _deeper(depth)) for entry in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"array"}:
        return _array(value["array"])
    if set(value) != {"dict"} or not isinstance(value["dict"], list):
        raise NotPlain(f"data of an unknown form came: {str(sorted(value))[:80]}")
    found = {}
    for pair in value["dict"]:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str) or pair[0] in found:
            raise NotPlain("a dict came whose keys are no different strings")
        found[pair[0]] = _unpack(pair[1], _deeper(depth))
    return found


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise NotPlain(f"lists or dicts came that are nested deeper than {MAX_DEPTH}")
    return depth + 1


def _array(parts) -> np.ndarray:
    if not isinstance(parts, list) or len(parts) != 3 or parts[0] not in DTYPES or not isinstance(parts[2], str):
        raise NotPlain("an array came that is none")
    dtype, shape = np.dtype(parts[0]), parts[1]
    sizes = isinstance(shape, list) and len(shape) <= 16 and all(type(n) is int and 0 <= n <= MAX_BYTES for n in shape)
    data = base64.b64decode(parts[2], validate=True)
    if not sizes or math.prod(shape) * dtype.itemsize != len(data):
        raise NotPlain("an array came whose shape does not fit its data")
    return np.frombuffer(data, dtype).reshape(shape).copy()
