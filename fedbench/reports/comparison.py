"""Compares two sets of results cell by cell: the difference, its interval over seeds, and what can be concluded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.reports.fitted import Column, Fitted
from fedbench.reports.layout import bounds_text, number, spread_json
from fedbench.reports.measure import measure_of
from fedbench.stats import CONFIDENCE, Difference, Spread, difference_of, spread
from fedbench.tracking.records import StoredCell, StoredSuite
from fedbench.util.errors import StoreError


class Change(StrEnum):
    """How B compares with A."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "no clear difference"
    EQUAL = "equal"
    ONE_SEED = "one seed: inconclusive"


STYLES = {Change.BETTER: "green", Change.WORSE: "red", Change.EQUAL: "dim", Change.ONE_SEED: "dim"}


@dataclass(frozen=True)
class CellComparison:
    """A cell that both sets have. `difference` is B − A; if it is paired, only common seeds are compared."""

    suite: str
    label: str
    first: Spread
    second: Spread
    difference: Difference
    change: Change
    verdicts: tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """Two sets of results: the cells that both have, and the labels of those that only one has."""

    metric: str
    names: tuple[str, str]
    cells: tuple[CellComparison, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def changes(self) -> dict[Change, int]:
        """How many cells changed in each way."""
        counts = Counter(cell.change for cell in self.cells)
        return {change: counts[change] for change in Change}


def compare(
    first: Sequence[StoredSuite], second: Sequence[StoredSuite], names: tuple[str, str], metric: str
) -> Comparison:
    """Compare two sets of suites by the last value of a metric; `names` is what to call the sets.

    Raises
    ------
    StoreError
        If they have no cell in common.
    """
    sides = [
        {(stored.name, cell.key): cell for stored in side for cell in stored.cells if metric in cell.metrics}
        for side in (first, second)
    ]
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        raise StoreError(
            f"{names[0]} and {names[1]} have no cell with {metric} in common: name others, or another --metric"
        )
    cells = tuple(_compare_cell(key[0], sides[0][key], sides[1][key], metric) for key in common)
    only = [tuple(cell.label for key, cell in side.items() if key not in common) for side in sides]
    return Comparison(metric, names, cells, only[0], only[1])


def _compare_cell(suite: str, first: StoredCell, second: StoredCell, metric: str) -> CellComparison:
    one, other = ({seed: run.metrics[metric] for seed, run in cell.finished.items()} for cell in (first, second))
    common = one.keys() & other.keys()
    if len(common) > 1:
        one, other = ({seed: side[seed] for seed in sorted(common)} for side in (one, other))
    difference = difference_of(one, other)
    change = Change.EQUAL if one == other else judge_change(difference.interval, measure_of(metric).lower_is_better)
    verdicts = (str(first.result.verdict), str(second.result.verdict))
    spreads = (spread(list(one.values())), spread(list(other.values())))
    return CellComparison(suite, first.label, *spreads, difference, change, verdicts)


def judge_change(interval: tuple[float, float] | None, lower_is_better: bool) -> Change:
    """Better or worse only if the whole interval is on one side of zero."""
    if interval is None:
        return Change.ONE_SEED
    low, high = interval
    if low <= 0 <= high:
        return Change.UNCLEAR
    return Change.BETTER if (high < 0) == lower_is_better else Change.WORSE


def comparison_table(comparison: Comparison) -> RenderableType:
    """The comparison as a table for people."""
    measure = measure_of(comparison.metric)
    form, scale = f"+.{measure.digits}f", measure.scale
    cells = comparison.cells
    several = len({cell.suite for cell in cells}) > 1
    table = Fitted(
        Column("cell", [f"{cell.suite}: {cell.label}" if several else cell.label for cell in cells], is_text=True),
        Column("A", [measure.over_seeds(cell.first) for cell in cells], drop=1),
        Column("B", [measure.over_seeds(cell.second) for cell in cells]),
        Column("B−A", [measure.text(cell.difference.mean, "+") for cell in cells]),
        Column(
            "95 % interval",
            [bounds_text(cell.difference.interval, form, scale) for cell in cells],
        ),
        Column("seeds", [_seeds(cell) for cell in cells], drop=2),
        Column("B is", [_change(cell) for cell in cells], is_text=True),
    )
    return Group(table, "", *_notes(comparison))


def _change(cell: CellComparison) -> Text:
    before, after = cell.verdicts
    changed = "" if before == after else f" ({before} → {after})"
    return Text(f"{cell.change}{changed}", STYLES.get(cell.change, ""))


def _seeds(cell: CellComparison) -> str:
    """``5 pairs``, or ``5, 3`` of independent sets."""
    one, other = len(cell.first.values), len(cell.second.values)
    return f"{one} pairs" if cell.difference.is_paired else f"{one}, {other}"


def _notes(comparison: Comparison) -> list[str]:
    unit = measure_of(comparison.metric).unit or "its own unit"
    notes = [
        f"A: {comparison.names[0]}",
        f"B: {comparison.names[1]}",
        f"{comparison.metric} in {unit}, mean ± standard deviation over seeds: "
        "pairs of the same seed, or A's and B's as independent samples.",
        ", ".join(f"{count} {change}" for change, count in comparison.changes.items() if count) + ".",
    ]
    tested = [cell for cell in comparison.cells if cell.difference.interval and cell.change is not Change.EQUAL]
    if len(tested) > 1:
        notes.append(
            f"Without any change, the interval excludes zero in 1 of {round(1 / (1 - CONFIDENCE))} cells by chance: "
            f"expect {(1 - CONFIDENCE) * len(tested):.1f} of {len(tested)}."
        )
    for name, labels in (("A", comparison.only_first), ("B", comparison.only_second)):
        if labels:
            notes.append(f"Only in {name}: {', '.join(labels)}.")
    return notes


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for machines (see docs/reference/json.md)."""
    return {
        "metric": comparison.metric,
        "a": comparison.names[0],
        "b": comparison.names[1],
        "changes": {str(change): count for change, count in comparison.changes.items()},
        "cells": [
            {
                "suite": cell.suite,
                "label": cell.label,
                "a": spread_json(cell.first, interval=False),
                "b": spread_json(cell.second, interval=False),
                "difference": number(cell.difference.mean),
                "ci95": [number(bound) for bound in cell.difference.interval or ()],
                "paired": cell.difference.is_paired,
                "change": str(cell.change),
                "verdicts": list(cell.verdicts),
            }
            for cell in comparison.cells
        ],
        "only_a": list(comparison.only_first),
        "only_b": list(comparison.only_second),
    }
