"""A suite's results beside those that were published: which are reproduced, and which are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fedbench.measures import ROUNDS_TO_TARGET
from fedbench.stats import Spread, spread_if_all
from fedbench.suites.conformance_schema import Measure, Reference
from fedbench.tracking.mlflow.reading import INTERPOLATION, STEPS_PER_THETA, infinite, is_finished
from fedbench.tracking.mlflow.store import store_errors

if TYPE_CHECKING:
    from fedbench.reports.reading import StoredCell, StoredSuite
    from fedbench.suites.schema import Cell, Suite


class Conformance(StrEnum):
    """How a row stands to its band."""

    WITHIN = "within"
    BELOW = "below"
    ABOVE = "above"
    NO_BAND = "no band"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


OUTSIDE = (Conformance.BELOW, Conformance.ABOVE)


@dataclass(frozen=True)
class ConformanceRow:
    """One published result and ours.

    Attributes
    ----------
    values
        What each finished seed came to, None where it did not reach its target.
    budget
        The rounds within which a target was to be reached.
    paper_speedup, speedup
        Rounds of the scenario in `speedup_over` over this one's, by the paper's numbers and by the means of ours.
    """

    reference: Reference
    values: tuple[float | None, ...]
    budget: int
    paper_speedup: float | None = None
    speedup: float | None = None

    @property
    def ours(self) -> Spread | None:
        """The mean over seeds; None if there is none, since a seed did not reach its target or none has run."""
        return spread_if_all(self.values)

    @property
    def verdict(self) -> Conformance:
        """How the mean stands to the band.

        Where a seed does not reach its target, the mean is above what it would be with the whole budget in that
        seed's place: above the band if that is.
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
    """Each row of the suite file's `conformance`, in its order, with what `stored` has of it.

    A cell counts if it has run with exactly the fields that the file gives it.
    """
    cells = {scenario.name: scenario.cells[0] for scenario in suite.scenarios}
    values = {
        row.scenario: _values(row.measure, stored, _stored_cell(cells[row.scenario], stored))
        for row in suite.conformance
    }
    budgets = {name: cell.spec.rounds for name, cell in cells.items()}
    rows = {row.scenario: ConformanceRow(row, values[row.scenario], budgets[row.scenario]) for row in suite.conformance}
    return [_with_speedup(row, rows) for row in rows.values()]


def _stored_cell(cell: Cell, stored: StoredSuite) -> StoredCell | None:
    wanted = (cell.scenario, cell.spec.model_dump())
    for each in stored.cells:
        if (each.cell.scenario, each.cell.spec.model_dump()) == wanted:
            return each
    return None


def _values(measure: Measure, stored: StoredSuite, cell: StoredCell | None) -> tuple[float | None, ...]:
    if cell is None:
        return ()
    runs = [run for run in cell.runs.values() if is_finished(run)]
    if measure is Measure.ROUNDS_TO_TARGET:
        return tuple(run.data.metrics.get(ROUNDS_TO_TARGET) for run in runs)
    with store_errors(stored.uri):
        return tuple(
            interpolation_gain(
                {
                    point.step / STEPS_PER_THETA: infinite(point.value)
                    for point in stored.client.get_metric_history(run.info.run_id, f"{INTERPOLATION}loss")
                }
            )
            for run in runs
        )


def interpolation_gain(losses: Mapping[float, float]) -> float:
    """By how much the loss of the average is below that of the better of the two models, in nats.

    `losses` are those of the models on the line through both, by θ: 0 and 1 are the two, ½ is their average.
    """
    return min(losses[0.0], losses[1.0]) - losses[0.5]


def _with_speedup(row: ConformanceRow, rows: Mapping[str, ConformanceRow]) -> ConformanceRow:
    base = rows.get(row.reference.speedup_over or "")
    if base is None:
        return row
    papers = (base.reference.paper, row.reference.paper)
    paper = papers[0] / papers[1] if isinstance(papers[0], int | float) and isinstance(papers[1], int | float) else None
    ours = base.ours.mean / row.ours.mean if base.ours and row.ours else None
    return ConformanceRow(row.reference, row.values, row.budget, paper, ours)
