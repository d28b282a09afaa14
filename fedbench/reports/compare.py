"""Two sets of results compared cell by cell: the difference, its interval over seeds, and what can be said of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.errors import StoreError
from fedbench.measures import CONFIDENCE, Spread, spread, t_quantile
from fedbench.reports.results import number
from fedbench.reports.stored import StoredCell, StoredSuite, cell_key, read_experiment
from fedbench.tracking.environment import git_answer
from fedbench.tracking.store import default_tracking_uri, open_existing_store, store_errors, without_password
from fedbench.tracking.stored import infinite, is_finished

if TYPE_CHECKING:
    from mlflow.entities import Run

LOWER_IS_BETTER = ("loss", "train_loss")
RATES = ("accuracy", "balanced_accuracy", "averaging_gain")  # shown in percent
INVOCATION = re.compile(r"\d{8}T[0-9TZa-f-]*")
COMMIT = re.compile(r"[0-9a-f]{7,40}")


class Change(StrEnum):
    """What can be said of B as against A."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "no clear difference"
    EQUAL = "equal"
    ONE_SEED = "one seed: cannot tell"


STYLES = {Change.BETTER: "green", Change.WORSE: "red", Change.UNCLEAR: "", Change.EQUAL: "dim", Change.ONE_SEED: "dim"}


@dataclass(frozen=True)
class CellComparison:
    """A cell in both sets.

    Attributes
    ----------
    difference
        B − A.
    interval
        95 % interval of the difference; None where there are too few seeds.
    paired
        Whether the two have seeds in common, and these alone are compared.
    """

    suite: str
    label: str
    first: Spread
    second: Spread
    difference: float
    interval: tuple[float, float] | None
    paired: bool
    change: Change
    verdicts: tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """Two sets of results: the cells of both, and the labels of those that only one has."""

    metric: str
    names: tuple[str, str]
    cells: tuple[CellComparison, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def compare(first: str, second: str, uri: str | None, suite_name: str | None, metric: str) -> Comparison:
    """Compare what `first` and `second` name.

    Parameters
    ----------
    first, second
        See `find_results`.
    uri
        The store of those that name none.
    suite_name
        Compare this suite alone; None: all that both have.
    metric
        A metric's name, of which the last value counts.

    Raises
    ------
    StoreError
        If one of them names nothing, or they have no cell in common.
    """
    sides = [_by_key(find_results(each, uri or default_tracking_uri(), suite_name), metric) for each in (first, second)]
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        raise StoreError(
            f"{without_password(first)} and {without_password(second)} have no cell with {metric} in common: see what "
            "there is with fedbench runs list"
        )
    cells = tuple(_compare_cell(*sides[0][key], sides[1][key][1], metric) for key in common)
    only = [tuple(cell.cell.label for key, (_, cell) in side.items() if key not in common) for side in sides]
    return Comparison(metric, (without_password(first), without_password(second)), cells, only[0], only[1])


Keyed = dict[tuple[str, object], tuple[str, StoredCell]]


def _by_key(suites: Sequence[StoredSuite], metric: str) -> Keyed:
    found: Keyed = {}
    for stored in suites:
        for cell in stored.cells:
            run = next(iter(cell.runs.values()))
            if metric in cell.metrics:
                found[stored.suite.name, cell_key(run)] = (stored.suite.name, cell)
    return found


def find_results(text: str, uri: str, suite_name: str | None = None) -> list[StoredSuite]:
    """The suites' results that `text` names.

    ``STORE``, ``STORE#WHICH`` or ``WHICH``. A store is an address, a SQLite file, or a folder with ``mlflow.db``.
    Which: an invocation of `fedbench run` (see ``fedbench runs list``), or a commit, by its hash or a name git knows.
    Without it the newest runs of each cell count; with it also those that newer ones superseded.

    Raises
    ------
    StoreError
        If there is nothing of that name.
    """
    place, _, which = text.rpartition("#") if "#" in text else ("", "", text)
    if not place and (address := _store_address(which)):
        place, which = address, ""
    elif place:
        place = _store_address(place) or place
    client = open_existing_store(place or uri)
    wanted = _expression(which)
    with store_errors(place or uri):
        experiments = client.search_experiments(filter_string="tags.`fedbench.schema` LIKE '%'")
    found = []
    for experiment in sorted(experiments, key=lambda each: each.name):
        if suite_name in (None, experiment.name):
            try:
                found.append(read_experiment(client, place or uri, experiment, wanted))
            except StoreError:  # nothing of it here
                continue
    if not found:
        of = f" of suite {suite_name}" if suite_name else ""
        raise StoreError(
            f"{without_password(text)} has no finished runs{of} in {without_password(place or uri)}: name an "
            "invocation of fedbench runs list, a commit, or a store"
        )
    return found


def _store_address(text: str) -> str | None:
    """The address of a store that is given as an address, a file or a folder."""
    if "://" in text:
        return text
    path = Path(text)
    if path.is_dir():
        inside = [path / "mlflow.db", path / "mlruns" / "mlflow.db"]
        path = next((each for each in inside if each.is_file()), inside[0])
        if not path.is_file():
            raise StoreError(f"folder {text} has no mlflow.db: name the folder of a store, its file or its address")
    return f"sqlite:///{path}" if path.is_file() else None


def _expression(which: str) -> str:
    """MLflow's expression for the runs of an invocation or a commit."""
    if not which:
        return ""
    if INVOCATION.fullmatch(which):
        return f"tags.`fedbench.invocation` LIKE '{which}%'"
    commit = which if COMMIT.fullmatch(which) else git_answer("rev-parse", "--verify", "--end-of-options", which)
    if not COMMIT.fullmatch(commit):
        raise StoreError(
            f"{which} is no store, invocation or commit: give a store's address, file or folder, an invocation of "
            "fedbench runs list, or a commit's hash"
        )
    return f"tags.`mlflow.source.git.commit` LIKE '{commit}%'"


def _compare_cell(suite: str, first: StoredCell, second: StoredCell, metric: str) -> CellComparison:
    one, other = (_by_seed(cell.runs, metric) for cell in (first, second))
    common = one.keys() & other.keys()
    if len(common) > 1:  # the others have nothing to be compared with
        one, other = ({seed: side[seed] for seed in sorted(common)} for side in (one, other))
    difference, interval = difference_of(one, other)
    return CellComparison(
        suite,
        first.cell.label,
        spread(list(one.values())),
        spread(list(other.values())),
        difference,
        interval,
        len(common) > 1,
        Change.EQUAL if one == other else judge_change(interval, metric in LOWER_IS_BETTER),
        (str(first.result.verdict), str(second.result.verdict)),
    )


def _by_seed(runs: Mapping[int, Run], metric: str) -> dict[int, float]:
    return {seed: infinite(run.data.metrics[metric]) for seed, run in runs.items() if is_finished(run)}


def difference_of(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[float, tuple[float, float] | None]:
    """How much larger the second set's mean is, and the 95 % interval of that.

    Sets of the same seeds, two or more, are compared pair by pair, since a seed's partition and random streams are the
    same in both: Student's t interval of the differences. Others are compared as independent samples: Welch's t
    interval. With a single seed there is none.
    """
    if len(first) > 1 and first.keys() == second.keys():
        over = spread([second[seed] - first[seed] for seed in first])
        return over.mean, over.interval
    one, other = spread(list(first.values())), spread(list(second.values()))
    difference = other.mean - one.mean
    if one.std is None or other.std is None:
        return difference, None
    parts = [each.std**2 / len(each.values) for each in (one, other) if each.std is not None]
    error = math.sqrt(sum(parts))
    if error == 0:
        return difference, (difference, difference)
    counts = (len(one.values), len(other.values))
    freedom = sum(parts) ** 2 / sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    margin = t_quantile(freedom) * error
    return difference, (difference - margin, difference + margin)


def judge_change(interval: tuple[float, float] | None, lower_is_better: bool) -> Change:
    """Better or worse only if the whole interval is on one side of zero."""
    if interval is None:
        return Change.ONE_SEED
    low, high = interval
    if low > 0:
        return Change.WORSE if lower_is_better else Change.BETTER
    if high < 0:
        return Change.BETTER if lower_is_better else Change.WORSE
    return Change.UNCLEAR


def comparison_table(comparison: Comparison) -> RenderableType:
    """The comparison for people."""
    scale = 100 if comparison.metric in RATES else 1
    digits = 1 if scale == 100 else 3
    table = Table("cell", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("A", "B", "B − A", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("B is")
    several = len({cell.suite for cell in comparison.cells}) > 1
    for cell in comparison.cells:
        bounds = "" if cell.interval is None else " to ".join(f"{scale * each:+.{digits}f}" for each in cell.interval)
        changed = f" ({cell.verdicts[0]} → {cell.verdicts[1]})" if cell.verdicts[0] != cell.verdicts[1] else ""
        table.add_row(
            f"{cell.suite}: {cell.label}" if several else cell.label,
            _shown(cell.first, scale, digits),
            _shown(cell.second, scale, digits),
            f"{scale * cell.difference:+.{digits}f}",
            bounds,
            Text(f"{cell.change}{changed}", style=STYLES[cell.change]),
        )
    return Group(table, "", *_notes(comparison))


def _shown(spread: Spread, scale: float, digits: int) -> str:
    return f"{scale * spread.mean:.{digits}f}" + ("" if spread.std is None else f" ± {scale * spread.std:.{digits}f}")


def _notes(comparison: Comparison) -> list[str]:
    unit = (
        "percent" if comparison.metric in RATES else "nats" if comparison.metric in LOWER_IS_BETTER else "its own unit"
    )
    counts = count_changes(comparison)
    tested = sum(cell.interval is not None for cell in comparison.cells if cell.change is not Change.EQUAL)
    notes = [
        f"A: {comparison.names[0]}",
        f"B: {comparison.names[1]}",
        f"{comparison.metric} in {unit}, mean ± standard deviation over seeds.",
        ", ".join(f"{count} {change}" for change, count in counts.items() if count) + ".",
    ]
    if tested > 1:
        notes.append(
            f"Where nothing changed, the interval leaves out zero in 1 of {round(1 / (1 - CONFIDENCE))} cells "
            f"all the same: expect {(1 - CONFIDENCE) * tested:.1f} of {tested}."
        )
    for name, labels in (("A", comparison.only_first), ("B", comparison.only_second)):
        if labels:
            notes.append(f"Only in {name}: {', '.join(labels)}.")
    return notes


def count_changes(comparison: Comparison) -> dict[Change, int]:
    """How many cells changed how."""
    return {change: sum(cell.change is change for cell in comparison.cells) for change in Change}


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for machines; see docs/results-json.md."""

    def side(over: Spread) -> dict[str, Any]:
        return {"mean": number(over.mean), "std": number(over.std), "values": [number(value) for value in over.values]}

    return {
        "metric": comparison.metric,
        "a": comparison.names[0],
        "b": comparison.names[1],
        "changes": {str(change): count for change, count in count_changes(comparison).items()},
        "cells": [
            {
                "suite": cell.suite,
                "label": cell.label,
                "a": side(cell.first),
                "b": side(cell.second),
                "difference": number(cell.difference),
                "ci95": [number(bound) for bound in cell.interval or ()],
                "paired": cell.paired,
                "change": str(cell.change),
                "verdicts": list(cell.verdicts),
            }
            for cell in comparison.cells
        ],
        "only_a": list(comparison.only_first),
        "only_b": list(comparison.only_second),
    }
