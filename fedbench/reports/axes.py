"""Makes a plot of another library look like the report's own: sizes, labels, ticks, legends."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import fedbench.reports.style  # noqa: F401 - before Matplotlib, which it sets up

# isort: split
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as Ruler
    from matplotlib.figure import Figure as Drawing


def panels_of(found: Axes | np.ndarray[Any, Any]) -> list[Axes]:
    """The panels of a plot, however many it has."""
    return list(np.ravel(np.asarray(found, dtype=object)))


def sized(axes: Axes, width: float, height: float) -> Drawing:
    """The drawing of a panel, resized to inches, with a layout that crops nothing."""
    drawing: Drawing = axes.figure  # type: ignore[assignment]
    drawing.set_size_inches(width, height)
    if drawing.get_layout_engine() is None or len(drawing.axes) == 1:  # Optuna chose another one for those of one panel
        drawing.set_layout_engine("constrained")
    return drawing


def name_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Label the axes and remove the title, which the report shows above the figure."""
    for place in ("left", "center"):
        axes.set_title("", loc=place)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def tidy(ruler: Ruler, whole: Collection[str]) -> None:
    """Show choices by their names, numbers written out, and on a logarithmic axis as many ticks as fit.

    An axis whose label is in `whole` has ticks at whole numbers.
    """
    labels = [label.get_text() for label in ruler.get_ticklabels()]
    if any("|" in label for label in labels):
        ruler.set_ticks(ruler.get_ticklocs(), [label.strip("'").partition("|")[2] for label in labels])
    elif ruler.get_scale() == "log":
        low, high = sorted(ruler.get_view_interval())
        subs = range(1, 10) if high / low < 5 else (1, 2, 5) if high / low < 100 else (1,)
        ruler.set_major_locator(LogLocator(subs=subs))
        ruler.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ruler.set_minor_formatter(NullFormatter())
    elif ruler.get_label_text() in whole:
        ruler.set_major_locator(MaxNLocator(integer=True))


def legend(axes: Axes, names: dict[str, str]) -> None:
    """A legend that renames some of the labels."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles, [names.get(label, label) for label in labels], fontsize=7)


def without_legend(axes: Axes) -> None:
    """Remove the legend, if there is one."""
    if found := axes.get_legend():
        found.remove()
