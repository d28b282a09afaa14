"""Reads a suite back from an MLflow store. The suite's file is not needed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.measures import RunResult, Verdict
from fedbench.suites.cell import CellSpec
from fedbench.suites.fields import COMMON, in_order
from fedbench.suites.schema import Cell
from fedbench.suites.variants import AT, run_words
from fedbench.tracking.mlflow.answers import recorded_contrast
from fedbench.tracking.mlflow.database import chosen_store
from fedbench.tracking.mlflow.describe import NOTE
from fedbench.tracking.mlflow.door import ALL, NULL_IS_ALL, param_texts, spec_values
from fedbench.tracking.mlflow.reading import (
    is_finished,
    read_artifact,
    read_history,
    require_schema,
    run_record,
    search_runs,
    stored_result,
)
from fedbench.tracking.mlflow.store import experiment_of, open_existing_store, without_password
from fedbench.tracking.records import StoredCell, StoredSuite, cell_result
from fedbench.util.advice import command
from fedbench.util.commits import git_answer
from fedbench.util.errors import StoreError
from fedbench.util.files import sqlite_address

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

    from fedbench.tracking.mlflow.client import StoreClient

NULLS = tuple((field, ALL) for field in NULL_IS_ALL)  # a cell's key has no null, as it had before they were written
INVOCATION = re.compile(r"\d{8}T[0-9TZa-f-]*")
COMMIT = re.compile(r"[0-9a-f]{7,40}")


class MlflowSource:
    """Reads metrics by step, and artifacts, from an MLflow store (see `fedbench.tracking.records.Source`)."""

    def __init__(self, client: StoreClient) -> None:
        self.client = client

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """See `fedbench.tracking.records.Source`."""
        return read_history(self.client, run_id, metric)

    def text(self, run_id: str, path: str) -> str | None:
        """See `fedbench.tracking.records.Source`."""
        return read_artifact(self.client, run_id, path)


def read_suite(name: str, uri: str, given: str = "") -> StoredSuite:
    """Read a suite's experiment from the store at `uri`; `given` is the suite as it was named, such as by its file.

    Raises `StoreError` if the store cannot be read, the suite never ran in it, or a newer fedbench recorded it.
    """
    client = open_existing_store(uri)
    return _read_experiment(client, experiment_of(client, name, ("run", given or name)), given=given)


def find_suites(text: str, uri: str, suite_name: str | None = None) -> list[StoredSuite]:
    """Read the suites that `text` names, or only the one of this name.

    It is ``STORE``, ``STORE#WHICH`` or ``WHICH``; without a store, that at `uri`. A store is an address, a SQLite file,
    or a folder with ``mlflow.db``. ``WHICH`` is an invocation of `fedbench run` (see ``fedbench runs list``), or a
    commit, by its hash or by a name that git knows; without it the newest runs of each cell count. Raises `StoreError`
    if there is nothing of that name.
    """
    place, _, which = text.rpartition("#")
    if place:
        place = _store_address(place) or place
    elif address := _store_address(which):
        place, which = address, ""
    place = place or uri
    client = open_existing_store(place)
    wanted = _expression(which, place)
    experiments = client.search_experiments(filter_string="tags.`fedbench.schema` LIKE '%'")
    found = []
    for experiment in sorted(experiments, key=lambda each: each.name):
        if suite_name in (None, experiment.name):
            try:
                found.append(_read_experiment(client, experiment, wanted))
            except StoreError:
                if suite_name is not None:
                    raise
                continue  # no such runs of this suite, or recorded by a newer fedbench: the others can be compared
    if not found:
        of = f" of suite {suite_name}" if suite_name else ""
        raise StoreError(
            f"{without_password(text)} has no finished runs{of} in {without_password(place)}: name an invocation of "
            f"{command('fedbench', 'runs', 'list', tracking_uri=chosen_store(place))}, a commit, or a store"
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
    return sqlite_address(path) if path.is_file() else None


def _expression(which: str, uri: str) -> str:
    """MLflow's expression for the runs of an invocation or a commit."""
    if not which:
        return ""
    if INVOCATION.fullmatch(which):
        return f"tags.`fedbench.invocation` LIKE '{which}%'"
    commit = which if COMMIT.fullmatch(which) else git_answer("rev-parse", "--verify", "--end-of-options", which)
    if commit is None or not COMMIT.fullmatch(commit):
        raise StoreError(
            f"{which} is no store, invocation or commit: give a store's address, file or folder, an invocation of "
            f"{command('fedbench', 'runs', 'list', tracking_uri=chosen_store(uri))}, or a commit's hash"
        )
    return f"tags.`mlflow.source.git.commit` LIKE '{commit}%'"


def _read_experiment(client: StoreClient, experiment: Experiment, wanted: str = "", given: str = "") -> StoredSuite:
    """Read an experiment; with `wanted`, an expression of MLflow, only those runs."""
    name, place = experiment.name, without_password(client.uri)
    require_schema(experiment, place)
    seeds = "tags.`fedbench.fingerprint` IS NOT NULL"  # not the cells' own runs, which have many more metrics
    runs = search_runs(client, experiment.experiment_id, f"{seeds} and {wanted}" if wanted else seeds)
    counted = [run for run in runs if run.data.tags.get("fedbench.kind") == "run" and _has_verdict(run)]
    if not counted:
        words = run_words(name) if AT in name else ("run", given or name)
        run = command("fedbench", *words, tracking_uri=chosen_store(client.uri))
        raise StoreError(f"suite {name} has no finished runs in {place}: {run}")
    groups = _by_cell(counted)
    labels = _label_fields([group[-1] for group in groups])
    by_scenario: dict[str, list[StoredCell]] = defaultdict(list)
    for group, axes in zip(groups, labels, strict=True):
        cell = _stored_cell(name, group, axes)
        by_scenario[cell.scenario].append(cell)
    cells = tuple(cell for same in by_scenario.values() for cell in _in_order(same))
    return StoredSuite(
        name,
        experiment.tags.get(NOTE, "").partition("\n")[0],
        tuple(sorted({seed for cell in cells for seed in cell.runs})),
        cells,
        sum(map(is_finished, counted)) - sum(len(cell.finished) for cell in cells),
        place,
        MlflowSource(client),
        recorded_contrast(experiment.tags),
    )


def _has_verdict(run: Run) -> bool:
    """Whether a run ended, and how."""
    return is_finished(run) or (run.info.status == "FAILED" and run.data.tags.get("fedbench.verdict") == Verdict.FAILED)


def _rank(run: Run) -> tuple[bool, int]:
    """Finished runs are preferred to others, then those that started last."""
    return is_finished(run), run.info.start_time


def _by_cell(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs of each cell that count: those with the same code, data and device as the newest."""
    by_cell: dict[object, list[Run]] = defaultdict(list)
    for run in runs:
        by_cell[_key(run)].append(run)
    identity = "fedbench.cell_fingerprint"
    newest = {key: max(same, key=_rank).data.tags.get(identity) for key, same in by_cell.items()}
    return [[run for run in same if run.data.tags.get(identity) == newest[key]] for key, same in by_cell.items()]


def _key(run: Run) -> tuple[str, tuple[tuple[str, str], ...]]:
    """See `StoredCell.key`; a parameter that did not exist yet counts as its default, and none is the same as None."""
    defaults = {field: str(CellSpec.model_fields[field].default) for field in COMMON}
    params = param_texts(defaults | run.data.params)
    given = sorted(pair for pair in params.items() if pair[0] != "seed" and pair not in NULLS)
    return run.data.tags["fedbench.scenario"], tuple(given)


def _label_fields(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The fields in each cell's label: those it was recorded with, and more where two labels would be equal."""
    texts = [param_texts(run.data.params) for run in runs]
    fields = in_order(dict.fromkeys(field for params in texts for field in params if field != "seed"))
    named = [{word.partition("=")[0] for word in run.data.tags["fedbench.cell"].split() if "=" in word} for run in runs]
    by_label: dict[str, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        by_label[run.data.tags["fedbench.cell"]].append(index)
    for same in by_label.values():
        for field in fields:
            if len({texts[index].get(field) for index in same}) > 1:
                for index in same:
                    named[index].add(field)
    return [tuple(field for field in fields if field in names) for names in named]


def _stored_cell(suite: str, runs: Sequence[Run], axes: tuple[str, ...]) -> StoredCell:
    by_seed = {int(run.data.tags["fedbench.seed"]): run for run in sorted(runs, key=_rank)}  # of equals the last
    by_seed = dict(sorted(by_seed.items()))
    first = next(iter(by_seed.values()))
    cell = Cell.model_construct(
        suite=suite,
        scenario=first.data.tags["fedbench.scenario"],
        spec=CellSpec.model_construct(**spec_values(first.data.params)),
        axes=axes,
        seeds=tuple(by_seed),
    )
    result = cell_result(cell, {seed: _result(run) for seed, run in by_seed.items()})
    return StoredCell(result, {seed: run_record(run) for seed, run in by_seed.items()}, _key(first))


def _result(run: Run) -> RunResult:
    if is_finished(run):
        return stored_result(run)
    return RunResult(Verdict.FAILED, run.data.tags.get("fedbench.reason"))


def _in_order(cells: Sequence[StoredCell]) -> list[StoredCell]:
    """A scenario's cells by their axes: numbers by size, names in the order of their first run."""
    names: dict[str, list[object]] = defaultdict(list)
    for cell in cells:
        for axis in cell.result.cell.axes:
            names[axis].append(cell.spec.get(axis))

    def position(cell: StoredCell) -> list[float]:
        values = ((axis, cell.spec.get(axis)) for axis in cell.result.cell.axes)
        return [value if isinstance(value, int | float) else names[axis].index(value) for axis, value in values]

    return sorted(cells, key=position)
