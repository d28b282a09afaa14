"""Baselines: what every run of a suite gave, in a file that is committed with the code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from fedbench.gate.stored_file import Update, read_stored
from fedbench.measures import Verdict
from fedbench.runs.identity import ALGORITHM_REVISION
from fedbench.suites.schema import Cell, CellSpec, Suite, unknown
from fedbench.util.errors import BaselineError
from fedbench.util.frozen import Frozen

SPEED_FILE = "speed.json"  # what no suite's baseline may be called: the timings are there
MARGIN = 0.01  # what an accuracy may differ by without mattering, as a fraction

METRICS = ("accuracy", "balanced_accuracy")  # that can be judged; more is better. The first is the default

Margin = Annotated[float, Field(gt=0, lt=1)]


class RoundRecord(Frozen):
    """A round of a run.

    `metrics` has those of the run as a whole, null for what is not finite; `others` is a digest of all further ones.
    `model` and `clients` are the digests of the averaged model and of the clients' own models, by client.
    """

    metrics: dict[str, float | None]
    others: str
    model: str
    clients: dict[str, str]


class SeedRecord(Frozen):
    """A run: how it ended, its rounds, and a digest of its interpolation if it has one. `reason`: why it failed."""

    seed: int
    verdict: Verdict
    reason: str | None
    rounds: tuple[RoundRecord, ...]
    interpolation: str | None = None


class CellRecord(Frozen):
    """A cell: its spec, the digest of its data, and its runs by seed."""

    label: str
    spec: CellSpec
    data: str
    seeds: Annotated[tuple[SeedRecord, ...], Field(min_length=1)]

    @property
    def by_seed(self) -> dict[int, SeedRecord]:
        """Its runs by seed."""
        return {record.seed: record for record in self.seeds}


class Baseline(Frozen):
    """A baseline; see the fields' own types. `history` is oldest first."""

    format: Literal[1] = 1
    suite: str
    metric: str
    margin: Margin
    revision: int
    environment: dict[str, str]
    history: Annotated[tuple[Update, ...], Field(min_length=1)]
    cells: Annotated[tuple[CellRecord, ...], Field(min_length=1)]

    @field_validator("metric")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in METRICS:
            raise ValueError(unknown("metric", value, METRICS))
        return value

    @property
    def commit(self) -> str:
        """The commit that its numbers are of."""
        return self.history[-1].commit

    def of(self, cell: Cell) -> CellRecord | None:
        """The record of a cell; None if there is none of its label and spec."""
        return next((each for each in self.cells if each.label == cell.label and each.spec == cell.spec), None)


def baseline_path(suite: Suite, folder: Path) -> Path:
    """Where the baseline of a suite is.

    Raises
    ------
    BaselineError
        If the suite has the name of the file of the timings.
    """
    if f"{suite.name}.json" == SPEED_FILE:
        raise BaselineError(f"{suite.path}: {folder / SPEED_FILE} is of the timings: give the suite another name")
    return folder / f"{suite.name}.json"


def read_baseline(path: Path, suite: str) -> Baseline:
    """Read the baseline of the suite of that name.

    Raises
    ------
    BaselineError
        If the file is missing, unreadable, no baseline, of another format or suite, or changed by hand.
    """
    baseline = read_stored(path, Baseline, f"fedbench baseline {suite}")
    if baseline.suite != suite:
        raise BaselineError(f"{path} is the baseline of suite {baseline.suite}, not of {suite}: delete it or rename it")
    return baseline


def require_comparable(baseline: Baseline, suite: Suite, seeds_are_given: bool, path: Path) -> None:
    """Refuse a baseline of another revision, or of other cells or seeds than the suite has.

    Parameters
    ----------
    seeds_are_given
        Whether the suite's seeds are a choice of this command: then they may be others than the baseline's.

    Raises
    ------
    BaselineError
        One line that names the first thing that differs.
    """
    anew = f"make the baseline anew with: fedbench baseline {suite.name} --reason TEXT"
    if baseline.revision != ALGORITHM_REVISION:
        raise BaselineError(
            f"{path} is of the algorithm's revision {baseline.revision}, this is {ALGORITHM_REVISION}: {anew}"
        )
    records = {record.label: record for record in baseline.cells}
    if new := [cell.label for cell in suite.cells if cell.label not in records]:
        raise BaselineError(f"{path} has no cell {_and_more(new)}, which the suite has: {anew}")
    if gone := sorted(records.keys() - {cell.label for cell in suite.cells}):
        raise BaselineError(f"{path} has a cell {_and_more(gone)}, which the suite lacks: {anew}")
    for cell in suite.cells:
        record = records[cell.label]
        if differing := _first_difference(record.spec, cell.spec):
            raise BaselineError(f"{path} is of another spec: cell {cell.label} has {differing}: {anew}")
        if not seeds_are_given and (lacking := [seed for seed in cell.seeds if seed not in record.by_seed]):
            raise BaselineError(f"{path} lacks seed {_and_more(lacking)} of cell {cell.label}: {anew}")


def _first_difference(before: CellSpec, now: CellSpec) -> str | None:
    fields = (name for name in CellSpec.model_fields if getattr(before, name) != getattr(now, name))
    name = next(fields, None)
    return f"{name} {getattr(now, name)}, was {getattr(before, name)}" if name else None


def require_data(baseline: Baseline, cells: Iterable[CellRecord], path: Path) -> None:
    """Refuse a baseline of other data.

    Raises
    ------
    BaselineError
        One line that names the dataset.
    """
    before = {record.label: record.data for record in baseline.cells}
    for cell in cells:
        if before[cell.label] != cell.data:
            raise BaselineError(
                f"{path} is of other data of {cell.spec.dataset}: bring back the data (see: fedbench data verify), or "
                f"make the baseline anew with: fedbench baseline {baseline.suite} --reason TEXT"
            )


def _and_more(names: Sequence[object]) -> str:
    return f"{names[0]}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
