"""A figure of the report as data: one table, and which of its columns are drawn in what way."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fedbench.reports.measure import Measure
from fedbench.stats import CONFIDENCE, Spread

BAND = f"{100 * CONFIDENCE:.0f} % interval of the mean"
LOW, HIGH, VALUES = "low", "high", "values"  # columns: the ends of an interval, and the seeds' own values
FAILED = "failed"  # a column: a point for which it is not None gets a cross
DIGITS = 6  # of a number on the page

Value = float | str | list[float | None] | None
Row = Mapping[str, Value]  # by the titles of the columns


class Kind(StrEnum):
    """How a table is drawn.

    ``lines``: y over x, which are numbers or names in their order, a line for each series with a band from `LOW` to
    `HIGH`. ``points``: a point at each x and y. ``dots``: y at each x, which are names, with a bar from `LOW` to `HIGH`
    and dots for `VALUES`.
    ``matrix``: a field for each y (row) and x (column), coloured by `value`.
    """

    LINES = "lines"
    POINTS = "points"
    DOTS = "dots"
    MATRIX = "matrix"


@dataclass(frozen=True)
class Figure:
    """A figure of the report. `charts.js` or `page.js` draws it; the table is also shown, and saved as CSV.

    Attributes
    ----------
    part
        The title of the part of the page that it belongs to.
    rows
        The table, with the same columns in each row, by their titles; none if the caption says it all. Text comes from
        a store: it may be anything.
    x, y, series, line, value, text
        Columns. There is a panel for each value of the first column, a colour for each of `series`, a line for each of
        `line` or else of `series`. `text` is how a number is written in a matrix's fields.
    possible
        The smallest and the largest possible value, which an interval may exceed; None if there is none. A matrix's
        colours are between these, or else between the smallest and largest there are.
    levels
        Lines across a panel: its title, the value and the label, which may be empty.
    is_log
        Whether y is on a logarithmic scale. For x of points that follows from the numbers.
    prefix
        What tells its name from those of figures with the same title.

    Raises
    ------
    ValueError
        If the rows differ in their columns, or lack one that is drawn.
    """

    part: str
    title: str
    caption: str
    kind: Kind
    rows: Sequence[Row]
    x: str
    y: str
    series: str = ""
    line: str = ""
    value: str = ""
    text: str = ""
    possible: tuple[float | None, float | None] = (None, None)
    levels: Sequence[tuple[str, float, str]] = ()
    is_log: bool = False
    prefix: str = ""

    def __post_init__(self) -> None:
        drawn = {self.x, self.y, self.series, self.line, self.value, self.text} - {""}
        columns = list(self.rows[0]) if self.rows else list(drawn)
        if not drawn <= set(columns) or any(list(row) != columns for row in self.rows):
            raise ValueError(f"figure {self.title}: its rows lack columns of {', '.join(sorted(drawn))}")

    @property
    def name(self) -> str:
        """Its id on the page, and the name of its files."""
        return re.sub("[^a-z0-9]+", "-", f"{self.prefix} {self.title}".strip().lower())


def measured(over: Spread, measure: Measure) -> dict[str, Value]:
    """The columns of a number over seeds: its mean, the ends of its interval, the number of seeds, and their values."""
    low, high = over.interval or (None, None)
    values = [number(value, measure.scale) for value in over.values]
    return {
        measure.column: number(over.mean, measure.scale),
        LOW: number(low, measure.scale),
        HIGH: number(high, measure.scale),
        "seeds": len(values),
        VALUES: values,
    }


def number(value: float | None, scale: float = 1) -> float | None:
    """A number as the page has it: scaled, rounded, None if it is not finite."""
    return float(f"{scale * value:.{DIGITS}g}") if value is not None and math.isfinite(value) else None


def figure_json(figure: Figure) -> dict[str, Any]:
    """The figure for `charts.js` and `page.js`."""
    columns = list(figure.rows[0]) if figure.rows else []
    rows = [list(row.values()) for row in figure.rows]
    return vars(figure) | {"name": figure.name, "columns": columns, "rows": rows}
