"""What all figures share: Matplotlib without a screen, a style, panels. Import it before Matplotlib."""

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
import numpy as np  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from numpy.typing import NDArray

PERCENT = (-1.0, 101.0)  # possible accuracies, with room for a line's width
NATS = (0.0, math.inf)  # possible losses
MAX_PANELS = 9  # in one figure
PANEL_INCHES = (4.2, 3.2)
BAND = f"{100 * CONFIDENCE:.0f} % interval of the mean"
STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 9,
    "text.parse_math": False,  # a name may have a "$"
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
    """A figure: the content of a PNG file, its title and its caption."""

    name: str
    title: str
    caption: str
    png: bytes


Drawn = tuple["Drawing", str] | None


def new_panels(count: int, height: float = PANEL_INCHES[1]) -> tuple[Drawing, list[Axes]]:
    """A figure with so many panels, at most three in a row, and the panels."""
    columns = min(count, 3)
    rows = -(-count // columns)
    size = (PANEL_INCHES[0] * columns, height * rows)
    drawing, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for unused in axes.flat[count:]:
        unused.set_visible(False)
    return drawing, list(axes.flat[:count])


def draw_matrix(
    axes: Axes,
    image: NDArray[np.float64],
    names: tuple[Sequence[str], Sequence[str]],
    colours: str,
    limits: tuple[float, float],
    texts: NDArray[np.object_] | None = None,
    fontsize: int = 8,
) -> None:
    """Draw an (R, C) matrix in colours, with the names of its rows and columns, and a text in each field."""
    axes.imshow(image, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1])
    if texts is not None:
        for (row, column), text in np.ndenumerate(texts):
            colour = "white" if image[row, column] < sum(limits) / 2 else "black"
            written = axes.text(column, row, text, ha="center", va="center", fontsize=fontsize, color=colour)
            written.set_in_layout(False)  # else the layout takes seconds
    axes.set_yticks(range(len(names[0])), names[0])
    axes.set_xticks(range(len(names[1])), names[1])
    axes.grid(visible=False)


def same_scale(all_axes: Sequence[Axes], possible: tuple[float, float]) -> None:
    """Give panels that are compared one vertical scale, cut at what is `possible`, which an interval may exceed."""
    limits = [axes.get_ylim() for axes in all_axes]
    lowest, highest = min(low for low, _ in limits), max(high for _, high in limits)
    for axes in all_axes:
        axes.set_ylim(max(lowest, possible[0]), min(highest, possible[1]))


def left_out(count: int, shown: Sequence[object], what: str) -> str:
    """What a caption says if not everything is shown."""
    return f"The first {len(shown)} of {count} {what} are shown." if count > len(shown) else ""
