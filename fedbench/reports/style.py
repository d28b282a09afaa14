"""What all figures share: Matplotlib set up for no screen, a style, panels. Import it before Matplotlib."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedbench.stats import CONFIDENCE

# Before Matplotlib is imported: else it leaves its list of fonts in the home folder.
_font_cache = tempfile.TemporaryDirectory(
    prefix="fedbench-fonts-", ignore_cleanup_errors=True
)  # lives as long as we do
os.environ.setdefault("MPLCONFIGDIR", _font_cache.name)

import matplotlib as mpl  # noqa: E402
from cycler import cycler  # noqa: E402

mpl.use("agg")  # before pyplot: a report is made without a screen
import matplotlib.pyplot as plt  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PERCENT = (-1.0, 101.0)  # possible accuracies, with room for a line's width
NATS = (0.0, math.inf)  # possible losses
MAX_PANELS = 9  # in one figure
PANEL_INCHES = (4.2, 3.2)
BAND = f"{CONFIDENCE:.0%} interval of the mean over seeds"
STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.prop_cycle": cycler(  # Okabe and Ito's colours, which the colour-blind tell apart
        color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
    ),
}


@dataclass(frozen=True)
class Figure:
    """A figure as a PNG file's content, and the words that go with it."""

    name: str
    title: str
    caption: str
    png: bytes


Drawn = tuple["Drawing", str] | None


def new_panels(count: int, height: float = PANEL_INCHES[1]) -> tuple[Drawing, list[Axes]]:
    """A figure with so many panels, at most three beside each other, and the panels."""
    columns = min(count, 3)
    rows = -(-count // columns)
    drawing, axes = plt.subplots(rows, columns, figsize=(PANEL_INCHES[0] * columns, height * rows), squeeze=False)
    for unused in axes.flat[count:]:
        unused.set_visible(False)
    drawing.set_layout_engine("constrained")
    return drawing, list(axes.flat[:count])


def write(axes: Axes, column: float, row: float, text: str, **style: Any) -> None:
    """Write into a panel; the layout need not be worked out around that."""
    axes.text(column, row, text, ha="center", va="center", **style).set_in_layout(False)


def same_scale(all_axes: Sequence[Axes], possible: tuple[float, float]) -> None:
    """Give panels that are compared one vertical scale, not beyond what is `possible`: an interval may go beyond it."""
    limits = [axes.get_ylim() for axes in all_axes]
    lowest, highest = min(low for low, _ in limits), max(high for _, high in limits)
    for axes in all_axes:
        axes.set_ylim(max(lowest, possible[0]), min(highest, possible[1]))


def left_out(count: int, shown: Sequence[object], what: str) -> str:
    """What a caption says where not all is shown."""
    return f"The first {len(shown)} of {count} {what} are shown." if count > len(shown) else ""
