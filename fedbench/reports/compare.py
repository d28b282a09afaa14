"""Two sets of results compared cell by cell: the difference, its interval over seeds, and what can be said of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.measures import ROUNDS_TO_TARGET
from fedbench.reports.reading import StoredCell, StoredSuite, cell_key, read_experiment
from fedbench.stats import Spread, difference_of, spread
from fedbench.tracking.mlflow.reading import infinite, is_finished
from fedbench.tracking.mlflow.store import default_tracking_uri, open_existing_store, store_errors, without_password
from fedbench.util.environment import git_answer
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow.entities import Run

LOWER_IS_BETTER = ("loss", "train_loss", ROUNDS_TO_TARGET)
INVOCATION = re.compile(r"\d{8}T[0-9TZa-f-]*")
COMMIT = re.compile(r"[0-9a-f]{7,40}")


class Change(StrEnum):
    """What can be said of B as against A."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "no clear difference"
    EQUAL = "equal"
    ONE_SEED = "one seed: cannot tell"


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
            except StoreError:
                if suite_name is not None:
                    raise
                continue  # nothing of this suite here, or of a newer fedbench; the others can be compared
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
    difference = difference_of(one, other)
    return CellComparison(
        suite,
        first.cell.label,
        spread(list(one.values())),
        spread(list(other.values())),
        difference.mean,
        difference.interval,
        len(common) > 1,
        Change.EQUAL if one == other else judge_change(difference.interval, metric in LOWER_IS_BETTER),
        (str(first.result.verdict), str(second.result.verdict)),
    )


def _by_seed(runs: Mapping[int, Run], metric: str) -> dict[int, float]:
    return {seed: infinite(run.data.metrics[metric]) for seed, run in runs.items() if is_finished(run)}


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


def count_changes(comparison: Comparison) -> dict[Change, int]:
    """How many cells changed how."""
    return {change: sum(cell.change is change for cell in comparison.cells) for change in Change}
