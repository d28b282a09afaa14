"""Compares a suite's results with published ones: which are reproduced, and which are not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.measures import ROUNDS_TO_TARGET
from fedbench.reports.fitted import Column, Fitted
from fedbench.reports.layout import bounds_text, mean_std, number, reached, spread_json
from fedbench.stats import Spread, spread_if_all
from fedbench.suites.conformance import Measure, Reference
from fedbench.suites.schema import Cell, Suite
from fedbench.tracking.records import INTERPOLATION, STEPS_PER_THETA, StoredCell, StoredSuite

UNITS = {
    Measure.ROUNDS_TO_TARGET: "Rounds until the test accuracy reaches the target.",
    Measure.INTERPOLATION_GAIN: "Nats by which the average's loss is below that of the better of the two models.",
}


class Conformance(StrEnum):
    """Where a result lies relative to its band."""

    WITHIN = "within"
    BELOW = "below"
    ABOVE = "above"
    NO_BAND = "no band"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


OUTSIDE = (Conformance.BELOW, Conformance.ABOVE)
STYLES = {Conformance.WITHIN: "green", Conformance.BELOW: "red", Conformance.ABOVE: "red"}


@dataclass(frozen=True)
class ConformanceRow:
    """A published result and ours.

    Attributes
    ----------
    values
        The result of each finished seed; None if it did not reach its target.
    budget
        The number of rounds within which a target was to be reached.
    paper_speedup, speedup
        Rounds of the scenario in `speedup_over` divided by this one's: the paper's, and by our means.
    speedup_std
        Of the ratio of one seed's rounds each, propagated from both standard deviations; None where one is not known.
    """

    reference: Reference
    values: tuple[float | None, ...]
    budget: int
    paper_speedup: float | None = None
    speedup: float | None = None
    speedup_std: float | None = None

    @property
    def ours(self) -> Spread | None:
        """The values over seeds; None if there are none or a seed did not reach its target."""
        return spread_if_all(self.values)

    @property
    def verdict(self) -> Conformance:
        """Where the mean lies relative to the band.

        A seed that did not reach its target would have needed more rounds than the budget. So the mean is above the
        band if it is with the budget in that seed's place; otherwise it is undecided.
        """
        if not self.values:
            return Conformance.NOT_RUN
        if self.reference.band is None:
            return Conformance.NO_BAND
        low, high = self.reference.band
        mean = sum(self.budget if value is None else value for value in self.values) / len(self.values)
        if high is not None and mean > high:
            return Conformance.ABOVE
        if None in self.values:
            return Conformance.UNDECIDED
        return Conformance.BELOW if low is not None and mean < low else Conformance.WITHIN


def conformance(suite: Suite, stored: StoredSuite) -> list[ConformanceRow]:
    """Each row of the suite file's `conformance` with our results.

    A cell counts if it was run with exactly the fields that the file gives it.
    """
    cells = {scenario.name: scenario.cells[0] for scenario in suite.scenarios}
    rows: dict[str, ConformanceRow] = {}
    for reference in suite.conformance:
        cell = cells[reference.scenario]
        values = _values(reference.measure, stored, _stored_cell(cell, stored))
        rows[reference.scenario] = ConformanceRow(reference, values, cell.spec.rounds)
    return [_with_speedup(row, rows) for row in rows.values()]


def _stored_cell(cell: Cell, stored: StoredSuite) -> StoredCell | None:
    wanted = (cell.scenario, cell.spec.values)
    return next((each for each in stored.cells if (each.scenario, each.spec.values) == wanted), None)


def _values(measure: Measure, stored: StoredSuite, cell: StoredCell | None) -> tuple[float | None, ...]:
    if cell is None:
        return ()
    runs = cell.finished.values()
    if measure is Measure.ROUNDS_TO_TARGET:
        return tuple(run.metrics.get(ROUNDS_TO_TARGET) for run in runs)
    losses = (stored.source.history(run.run_id, f"{INTERPOLATION}loss") for run in runs)
    return tuple(interpolation_gain({step / STEPS_PER_THETA: loss for step, loss in each.items()}) for each in losses)


def interpolation_gain(losses: Mapping[float, float]) -> float:
    """How far the loss of the average is below that of the better of the two models, in nats.

    `losses` are those of the models θ·w + (1 − θ)·w′ by θ: at 0 and 1 are the two models, at ½ is their average.
    """
    return min(losses[0.0], losses[1.0]) - losses[0.5]


def _with_speedup(row: ConformanceRow, rows: Mapping[str, ConformanceRow]) -> ConformanceRow:
    base = rows.get(row.reference.speedup_over or "")
    if base is None:
        return row
    papers = (base.reference.paper, row.reference.paper)
    paper = papers[0] / papers[1] if isinstance(papers[0], int | float) and isinstance(papers[1], int | float) else None
    ours, std = _ratio(base.ours, row.ours) if base.ours and row.ours else (None, None)
    return replace(row, paper_speedup=paper, speedup=ours, speedup_std=std)


def _ratio(first: Spread, second: Spread) -> tuple[float, float | None]:
    """The ratio of two means and its standard deviation, to first order."""
    ratio = first.mean / second.mean
    if first.std is None or second.std is None:
        return ratio, None
    return ratio, ratio * math.hypot(first.std / first.mean, second.std / second.mean)


def conformance_table(suite: Suite, rows: Sequence[ConformanceRow]) -> RenderableType:
    """The rows as a table, and how many are reproduced."""
    speedups = [Column("speed-up paper, ours", [_speedups(row) for row in rows], drop=2)]
    has_speedups = any(row.reference.speedup_over for row in rows)
    table = Fitted(
        Column("row", [row.reference.scenario for row in rows], is_text=True),
        Column("paper", [_paper(row.reference.paper) for row in rows]),
        Column("ours", [_ours(row) for row in rows]),
        Column("seeds", [str(len(row.values) or "") for row in rows], drop=1),
        Column("band", [_band(row) for row in rows]),
        *(speedups if has_speedups else ()),
        Column("verdict", [Text(row.verdict, STYLES.get(row.verdict, "")) for row in rows], is_text=True),
        title=suite.name,
    )
    measures = dict.fromkeys(row.reference.measure for row in rows)
    about = (
        "Ours: mean ± standard deviation over seeds, and the interval of the mean; the verdict is on the mean alone."
    )
    if has_speedups:
        about += " Speed-up: the ratio of the means, ± as far as one seed scatters."
    return Group(table, "", suite.question, *(UNITS[each] for each in measures), about, summary(rows))


def summary(rows: Sequence[ConformanceRow]) -> str:
    """How many rows are reproduced."""
    counts = Counter(row.verdict for row in rows)
    decided = counts[Conformance.WITHIN] + sum(counts[each] for each in OUTSIDE)
    rest = [each for each in Conformance if each not in (Conformance.WITHIN, *OUTSIDE) and counts[each]]
    left = f"; {', '.join(f'{counts[each]} {each}' for each in rest)}" if rest else ""
    return f"{counts[Conformance.WITHIN]} of {decided} rows are within their bands{left}."


def _paper(value: float | str | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:g}"


def _ours(row: ConformanceRow) -> str:
    """The mean above its interval."""
    if row.ours is None:
        return reached(row.values, row.budget) if row.values else ""
    digits = 0 if row.reference.measure is Measure.ROUNDS_TO_TARGET else 3
    return f"{mean_std(row.ours, digits)}\n{bounds_text(row.ours.interval, f'.{digits}f')}".rstrip()


def _speedups(row: ConformanceRow) -> str:
    ratios = (row.paper_speedup, row.speedup)
    if ratios == (None, None):
        return ""
    both = ", ".join("–" if each is None else f"{each:.1f}x" for each in ratios)
    return both if row.speedup_std is None else f"{both}\n± {row.speedup_std:.1f}"


def _band(row: ConformanceRow) -> str:
    low, high = row.reference.band or (None, None)
    if low is None:
        return "" if high is None else f"up to {high:g}"
    return f"from {low:g}" if high is None else f"{low:g} to {high:g}"


def conformance_json(suite: Suite, rows: Sequence[ConformanceRow]) -> dict[str, Any]:
    """The rows for machines; what is not known is null."""
    return {
        "suite": suite.name,
        "rows": [
            {
                "scenario": row.reference.scenario,
                "measure": str(row.reference.measure),
                "paper": row.reference.paper,
                "band": list(row.reference.band) if row.reference.band else None,
                "mean": number(row.ours.mean) if row.ours else None,
                "std": number(row.ours.std) if row.ours else None,
                "ci95": spread_json(row.ours)["ci95"],
                "values": [number(value) for value in row.values],
                "budget": row.budget,
                "speedup_over": row.reference.speedup_over,
                "paper_speedup": row.paper_speedup,
                "speedup": row.speedup,
                "speedup_std": row.speedup_std,
                "verdict": str(row.verdict),
            }
            for row in rows
        ],
    }
