"""Recorded runs and suites as plain data, which reports are made from; they know nothing of the store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from pydantic import TypeAdapter

from fedbench.measures import AVERAGING_GAIN, PLAIN_GAIN, ROUNDS_TO_TARGET, RunResult, Verdict, judge_cell
from fedbench.partitions.table import parse_counts
from fedbench.stats import MeanRatio, Spread, ratio_of_means, spread, spread_by_step
from fedbench.suites.contrast import ContrastSpec
from fedbench.suites.schema import Cell, CellSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

REPORTED = ("accuracy", "balanced_accuracy", "loss", "majority_rate")
INTERPOLATION = "interpolation/"  # prefix of metrics whose step is 100 θ instead of the round: steps are whole numbers
STEPS_PER_THETA = 100
CORRELATIONS_FILE = "correlations.json"  # an artifact
CORRELATION_DIGITS = 3
_CORRELATIONS = TypeAdapter(dict[str, dict[str, list[list[float]]]])


@dataclass(frozen=True)
class RunRecord:
    """A run as it is recorded; the times are milliseconds since 1970, UTC.

    Its status is ``finished``, ``failed``, ``killed`` or ``running``; ``orphaned`` if it is running and its process has
    ended. `params` are the cell's fields and the seed, as text, `metrics` the last values. `is_finished`: it ended, has
    a verdict and the metrics in `REPORTED`.
    """

    run_id: str
    status: str
    started: int
    ended: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_finished: bool = False


@dataclass(frozen=True)
class CellResult:
    """The result of a cell over its seeds.

    Attributes
    ----------
    seeds
        The seeds whose numbers are in `measures`, in order; failed and skipped runs have no numbers.
    measures
        For each name in `REPORTED` the final values over `seeds`; empty if no run of the cell has numbers.
    client_accuracy
        For each seed the accuracy of each client's own model before the last average, by client.
    rounds_to_target
        For each seed the number of rounds after which it reached the cell's target; None where it did not.
    recovered
        See `recovered_of`.
    results
        The results of all seeds, with or without numbers, in order.
    """

    cell: Cell
    seeds: tuple[int, ...]
    verdict: Verdict
    reason: str | None
    measures: Mapping[str, Spread]
    client_accuracy: tuple[Mapping[int, float], ...]
    rounds_to_target: tuple[float | None, ...] = ()
    recovered: MeanRatio | None = None
    results: Mapping[int, RunResult] = field(default_factory=dict)


def cell_result(cell: Cell, by_seed: Mapping[int, RunResult]) -> CellResult:
    """Summarise the results of one cell, given by seed."""
    results = {seed: by_seed[seed] for seed in cell.seeds if seed in by_seed}
    verdict, reason = judge_cell(
        [each.verdict for each in results.values()], [each.reason for each in results.values()]
    )
    measured = {seed: each for seed, each in results.items() if each.metrics}
    return CellResult(
        cell,
        tuple(measured),
        verdict,
        reason,
        {name: spread([each.metrics[name] for each in measured.values()]) for name in REPORTED if measured},
        tuple(each.client_accuracy for each in measured.values()),
        tuple(each.metrics.get(ROUNDS_TO_TARGET) for each in measured.values()),
        recovered_of([each.metrics for each in measured.values()]),
        results,
    )


def recovered_of(seeds: Sequence[Mapping[str, float]]) -> MeanRatio | None:
    """What aligned models recover of the gap to the clients' own: the ratio of the means over a cell's seeds.

    None if a seed's models were not aligned, or if the seeds do not show a gap; see `ratio_of_means`.
    """
    if not seeds or not all({AVERAGING_GAIN, PLAIN_GAIN} <= each.keys() for each in seeds):
        return None
    gaps = [-each[PLAIN_GAIN] for each in seeds]
    return ratio_of_means([gap + each[AVERAGING_GAIN] for gap, each in zip(gaps, seeds, strict=True)], gaps)


class Source(Protocol):
    """Reads what is too large to be part of a record, when a report needs it. Raises `StoreError`."""

    def history(self, run_id: str, metric: str) -> Mapping[int, float]:
        """A metric of a run by step; empty if it was not measured."""

    def text(self, run_id: str, path: str) -> str | None:
        """An artifact of a run; None if there is none."""


@dataclass(frozen=True)
class StoredCell:
    """A recorded cell: its result, and for each seed the run that counts.

    `key` is equal for the same cell in any store: the scenario and all parameters but the seed.
    """

    result: CellResult
    runs: Mapping[int, RunRecord]
    key: Hashable

    @property
    def label(self) -> str:
        """The scenario and the fields that set the cell apart: ``grid num_clients=2``."""
        return self.result.cell.label

    @property
    def spec(self) -> CellSpec:
        """The fields that the cell was recorded with."""
        return self.result.cell.spec

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        return self.result.cell.scenario

    @property
    def finished(self) -> dict[int, RunRecord]:
        """The finished runs, by seed."""
        return {seed: run for seed, run in self.runs.items() if run.is_finished}

    @property
    def metrics(self) -> set[str]:
        """The names of the metrics that every finished seed has."""
        measured = [set(run.metrics) for run in self.finished.values()]
        return set.intersection(*measured) if measured else set()

    def final(self, metric: str) -> Spread | None:
        """A metric's last value over the seeds; None if a finished seed lacks it."""
        values = [run.metrics.get(metric) for run in self.finished.values()]
        return None if None in values or not values else spread([value for value in values if value is not None])


@dataclass(frozen=True)
class StoredSuite:
    """A recorded suite: the cells by scenario, in the order in which these were first run, then by the cells' axes.

    `seeds` are all of which a run is recorded. `left_out` counts the finished runs that do not count: newer runs of the
    same cell have other code, data or device. `place` is the store's address without its password; `contrast` says
    which cells are compared.
    """

    name: str
    question: str
    seeds: tuple[int, ...]
    cells: tuple[StoredCell, ...]
    left_out: int
    place: str
    source: Source
    contrast: ContrastSpec = field(default_factory=ContrastSpec)

    @property
    def current(self) -> list[CellResult]:
        """The cells' results; of several cells that were recorded under one label, as the file changed, the newest."""
        newest: dict[str, StoredCell] = {}
        for cell in sorted(self.cells, key=lambda cell: max(run.started for run in cell.runs.values())):
            newest[next(iter(cell.runs.values())).tags.get("fedbench.cell", cell.label)] = cell
        kept = set(map(id, newest.values()))
        return [cell.result for cell in self.cells if id(cell) in kept]

    @property
    def measured(self) -> list[StoredCell]:
        """The cells that have numbers."""
        return [cell for cell in self.cells if "accuracy" in cell.metrics]

    def curve(self, cell: StoredCell, metric: str) -> dict[int, Spread]:
        """A metric of a cell by step, over its seeds; empty if it was not measured."""
        return spread_by_step([self.source.history(run.run_id, metric) for run in cell.finished.values()])


def correlations_json(correlations: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Write the correlations of two models' units, by layer, before and after they were aligned."""
    rows = {layer: {when: _rounded(matrix) for when, matrix in both.items()} for layer, both in correlations.items()}
    return json.dumps(rows)


def _rounded(matrix: Tensor) -> list[list[float]]:
    return [[round(value, CORRELATION_DIGITS) for value in row] for row in matrix.tolist()]


def parse_correlations(text: str) -> dict[str, dict[str, NDArray[np.float64]]]:
    """The (n, n) matrices that `correlations_json` wrote, by layer, ``before`` and ``after``.

    Raises `ValueError` if it is something else.
    """
    read = _CORRELATIONS.validate_json(text)
    found = {layer: {when: np.array(rows) for when, rows in both.items()} for layer, both in read.items()}
    if not all(both.keys() == {"before", "after"} for both in found.values()):
        raise ValueError("they are not of models before and after they were aligned")
    return found


def confusion_csv(confusion: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """Write a confusion matrix, (C, C), as a table: a row is a true class, a column a predicted one."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["true class", *class_names])
    writer.writerows([name, *map(int, row)] for name, row in zip(class_names, confusion, strict=True))
    return buffer.getvalue()


def sum_confusions(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The class names and the sum of the matrices, (C, C), that `confusion_csv` wrote, one or more.

    Raises `ValueError` if one is something else, or they are of different classes.
    """
    tables = [parse_counts(text) for text in texts]
    _, *names = tables[0][0]
    if any(titles[1:] != names or rows != names for titles, rows, _ in tables):
        raise ValueError("they are no confusion matrices of the same classes")
    return names, np.sum([counts for _, _, counts in tables], axis=0)
