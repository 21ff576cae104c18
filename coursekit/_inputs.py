"""What is asked of every input, said once: what came, what was expected, what to do."""

import math
from numbers import Integral

import numpy as np
import torch
from torch import Tensor, nn


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """One of the named choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


def check_positive(name: str, value: float) -> float:
    """A finite number > 0, as a float."""
    try:
        value = float(value + 0)  # text has a float too, and no sum
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}={value!r}: expected a number > 0") from error
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value}: expected a finite number > 0")
    return value


def check_count(name: str, value: int) -> int:
    """An integer >= 1, also one of NumPy's; as an int."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r}: expected an integer >= 1")
    return int(value)


def refuse_idle(*, why: str, **options: object) -> None:
    """An option that was given and has no effect is an error: its author expects one."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} was given, but {why}: leave it out")


def refuse_half(name: str, value: Tensor) -> None:
    """Factorisations need more than the 8 or 11 bits of half precision."""
    if value.dtype in (torch.float16, torch.bfloat16):
        kind = str(value.dtype).removeprefix("torch.")
        raise TypeError(f"{name} is {kind}: matrices are factorised in float32 or float64; convert with .float()")


def all_finite(x: Tensor) -> bool:
    """No NaN and no infinity in x; one pass, a second only where the sum overflows."""
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())


def check_module(name: str, model: nn.Module) -> None:
    """A network, not the class of one, and not what it returns."""
    if isinstance(model, type):
        raise TypeError(f"{name} is the class {model.__name__}: build a network with {model.__name__}(...)")
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} must be a torch module, got {describe(model)}")


def check_generator(generator: torch.Generator | None) -> None:
    """A generator, or None; a seed is none yet."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, got {describe(generator)}; of a seed make one with "
            "coursekit.device.generator(seed)"
        )


def describe(value: object) -> str:
    """'a float32 tensor of shape (2, 3)', 'a NumPy array', or the name of the type."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return "a NumPy array: convert it with torch.as_tensor(...)"
    return type(value).__name__


def check_input(model: nn.Module, x: Tensor) -> None:
    """x is a non-empty, finite tensor on the device and in the dtype of the model."""
    check_module("model", model)
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor (N, ...), got {describe(x)}")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"x must hold at least one input, got shape {tuple(x.shape)}")
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    if parameter is not None:
        if parameter.device != x.device:
            raise ValueError(f"x is on {x.device}, the model on {parameter.device}: move one with .to(...)")
        if parameter.dtype != x.dtype:
            raise TypeError(f"x is {x.dtype}, the model {parameter.dtype}: convert one with .to(...)")
    if not all_finite(x):
        raise ValueError("x holds NaN or infinity: clean the inputs first")
