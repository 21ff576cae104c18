"""The one look of the course: colour-blind safe, readable on a light page and as a card on a dark one."""

import matplotlib as mpl
from cycler import cycler

#: Okabe and Ito's palette: distinct under the common forms of colour blindness, in the order of use.
COLORS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "amber": "#E69F00",
    "sky": "#56B4E9",
    "black": "#222222",
    "grey": "#777777",
}

#: Sequential and diverging colour maps: equal steps look equal, also in grey.
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"


def use() -> None:
    """Set matplotlib's defaults for a chapter or a lab."""
    mpl.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=[c for name, c in COLORS.items() if name not in ("black", "grey")]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "grid.color": "#E4E4E4",
            "grid.linewidth": 0.8,
            "figure.facecolor": "white",  # a dark page shows the figure as a white card
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "figure.figsize": figsize(),
            "font.size": 10,
            "image.cmap": SEQUENTIAL,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.facecolor": "white",
            "text.color": COLORS["black"],
            "axes.labelcolor": COLORS["black"],
            "axes.edgecolor": COLORS["grey"],
        }
    )


def figsize(width: float = 1.0, height: float | None = None) -> tuple[float, float]:
    """Inches of a figure of ``width`` columns of text (1 = full width); height 0.45 of the width unless given.

    >>> figsize(0.5, 3)
    (3.75, 3)
    """
    inches = 7.5 * width
    return inches, height if height is not None else round(0.45 * inches, 3)
