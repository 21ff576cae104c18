"""Results -> matplotlib Axes, one look for the whole course.

Modules: :mod:`style`, :mod:`frames`, :mod:`regression`, :mod:`classification`, :mod:`calibration`, :mod:`detection`,
:mod:`images`, :mod:`landscape`; imported on first use, as in ``plots.regression.predictive_band(...)``.
"""

from importlib import import_module

_MODULES = ("style", "frames", "regression", "classification", "calibration", "detection", "images", "landscape")


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its modules are {', '.join(_MODULES)}")


def __dir__():
    return sorted([*globals(), *_MODULES])
