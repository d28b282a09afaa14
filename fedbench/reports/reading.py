"""A suite's results read back from a tracking store alone; whoever wrote it, the suite's file is not needed."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.measures import RunResult, Verdict
from fedbench.reports.suite_results import CellResult, cell_result
from fedbench.stats import Spread, spread, spread_by_step
from fedbench.suites.schema import Cell, CellSpec, Suite
from fedbench.tracking.mlflow.reading import infinite, is_finished, require_schema, search_runs, stored_result
from fedbench.tracking.mlflow.store import experiment_of, open_existing_store, store_errors, without_password
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

Curve = dict[int, Spread]  # by step: of a seed's values, what they come to


@dataclass(frozen=True)
class StoredCell:
    """A cell as it is recorded.

    Attributes
    ----------
    result
        Its numbers over the seeds.
    runs
        For each seed, the run that counts.
    """

    result: CellResult
    runs: Mapping[int, Run]

    @property
    def cell(self) -> Cell:
        """The cell itself, with the fields that it was recorded with."""
        return self.result.cell

    @property
    def metrics(self) -> set[str]:
        """The names of what every seed measured."""
        measured = [set(run.data.metrics) for run in self.runs.values() if is_finished(run)]
        return set.intersection(*measured) if measured else set()

    def final(self, metric: str) -> Spread | None:
        """A metric's last value over the seeds; None if they lack it."""
        if metric not in self.metrics:
            return None
        runs = [run for run in self.runs.values() if is_finished(run)]
        return spread([infinite(run.data.metrics[metric]) for run in runs])


@dataclass(frozen=True)
class StoredSuite:
    """A suite's experiment as it is recorded.

    Attributes
    ----------
    suite
        Its name, question and cells, as far as runs of them are recorded.
    left_out
        How many finished runs are not shown, since newer ones of the same cell are of other code, data or device.
    """

    suite: Suite
    cells: tuple[StoredCell, ...]
    left_out: int
    client: MlflowClient
    uri: str
    experiment: Experiment

    @property
    def measured(self) -> list[StoredCell]:
        """The cells that have numbers."""
        return [cell for cell in self.cells if "accuracy" in cell.metrics]

    def curve(self, cell: StoredCell, metric: str) -> Curve:
        """A metric of a cell by step, over its seeds; empty if it was not measured."""
        with store_errors(self.uri):
            histories = [
                {point.step: infinite(point.value) for point in self.client.get_metric_history(run.info.run_id, metric)}
                for run in cell.runs.values()
                if is_finished(run)
            ]
        return spread_by_step(histories)

    def summary(self, cell: StoredCell) -> Run | None:
        """A cell's own run; None if there is none yet."""
        identity = next(iter(cell.runs.values())).data.tags.get("fedbench.cell_fingerprint")
        if identity is None:
            return None
        wanted = f"tags.`fedbench.cell_fingerprint` = '{identity}' and tags.`fedbench.kind` = 'cell'"
        with store_errors(self.uri):
            found = search_runs(self.client, self.experiment.experiment_id, wanted)
        return next((run for run in found if run.info.status == "FINISHED"), None)


def read_suite(name: str, uri: str) -> StoredSuite:
    """Read a suite's experiment from the store at `uri`.

    Raises
    ------
    StoreError
        If the store cannot be read, the suite never ran in it, or it was recorded by a newer fedbench.
    """
    client = open_existing_store(uri)
    experiment = experiment_of(client, uri, name)
    return read_experiment(client, uri, experiment)


def read_experiment(client: MlflowClient, uri: str, experiment: Experiment, wanted: str = "") -> StoredSuite:
    """Likewise for an experiment that was found already; `wanted` is an expression of MLflow's for the runs that count.

    With it, runs count that newer ones have superseded.
    """
    require_schema(experiment, without_password(uri))
    with store_errors(uri):
        seeds = "tags.`fedbench.fingerprint` IS NOT NULL"  # not the cells' own runs, which have many times the metrics
        runs = search_runs(client, experiment.experiment_id, f"{seeds} and {wanted}" if wanted else seeds)
    kinds = ("run", "superseded") if wanted else ("run",)
    counted = [run for run in runs if run.data.tags.get("fedbench.kind", "run") in kinds and _has_verdict(run)]
    if not counted:
        raise StoreError(
            f"suite {experiment.name} has no finished runs in {without_password(uri)}: fedbench run {experiment.name}"
        )
    question = experiment.tags.get("mlflow.note.content", "").partition("\n")[0]
    groups = list(_groups(counted))
    labels = _labels([group[-1] for group in groups])
    cells = tuple(_cell(experiment.name, group, axes) for group, axes in zip(groups, labels, strict=True))
    by_scenario: dict[str, list[StoredCell]] = defaultdict(list)
    for cell in cells:
        by_scenario[cell.cell.scenario].append(cell)
    ordered = tuple(cell for same in by_scenario.values() for cell in _in_order(same))
    suite = Suite.model_construct(
        name=experiment.name,
        question=question,
        seeds=tuple(sorted({seed for cell in ordered for seed in cell.runs})),
        scenarios=(),
        path=Path(),
    )
    left_out = sum(map(is_finished, counted)) - sum(is_finished(run) for cell in cells for run in cell.runs.values())
    return StoredSuite(suite, ordered, left_out, client, uri, experiment)


def _has_verdict(run: Run) -> bool:
    """Whether a run ended and says of what cell and seed it is; what somebody changed by hand may not."""
    tags = run.data.tags
    if not {"fedbench.scenario", "fedbench.cell"} <= tags.keys() or not tags.get("fedbench.seed", "").isdigit():
        return False
    return is_finished(run) or (run.info.status == "FAILED" and run.data.tags.get("fedbench.verdict") == Verdict.FAILED)


def _groups(runs: Iterable[Run]) -> Iterable[list[Run]]:
    """The runs that count of each cell: of one code, data and device, those of the run that began last."""
    by_cell: dict[object, list[Run]] = defaultdict(list)
    for run in runs:
        by_cell[cell_key(run)].append(run)
    for same in by_cell.values():
        newest = max(same, key=lambda run: (is_finished(run), run.info.start_time))
        identity = newest.data.tags.get("fedbench.cell_fingerprint")
        yield [run for run in same if run.data.tags.get("fedbench.cell_fingerprint") == identity]


def cell_key(run: Run) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What makes two runs, of whatever store, runs of one cell: the scenario and every parameter but the seed.

    A parameter that an older fedbench did not have counts as its default.
    """
    defaults = {name: str(field.default) for name, field in CellSpec.model_fields.items()}
    params = defaults | {key: value for key, value in run.data.params.items() if key != "seed"}
    return run.data.tags["fedbench.scenario"], tuple(sorted(params.items()))


def _labels(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """For each cell the fields that its label names; more than it was recorded with where two would be the same."""
    fields = list(CellSpec.model_fields)
    named = [{word.partition("=")[0] for word in run.data.tags["fedbench.cell"].split() if "=" in word} for run in runs]
    by_label: dict[str, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        by_label[run.data.tags["fedbench.cell"]].append(index)
    for same in by_label.values():
        differing = {field for field in fields if len({runs[index].data.params.get(field) for index in same}) > 1}
        for index in same:
            named[index] |= differing
    return [tuple(field for field in fields if field in names) for names in named]


def _cell(suite: str, runs: Sequence[Run], axes: tuple[str, ...]) -> StoredCell:
    ranked = sorted(runs, key=lambda run: (is_finished(run), run.info.start_time))
    by_seed = {int(run.data.tags["fedbench.seed"]): run for run in ranked}  # of equal ones, the last
    by_seed = dict(sorted(by_seed.items()))
    first = next(iter(by_seed.values())).data
    cell = Cell.model_construct(
        suite=suite,
        scenario=first.tags["fedbench.scenario"],
        spec=_spec(first.params),
        axes=axes,
        seeds=tuple(by_seed),
    )
    return StoredCell(cell_result(cell, {seed: _result(run) for seed, run in by_seed.items()}), by_seed)


def _result(run: Run) -> RunResult:
    if is_finished(run):
        return stored_result(run)
    return RunResult(Verdict.FAILED, run.data.tags.get("fedbench.reason"))


def _spec(params: Mapping[str, str]) -> CellSpec:
    """The cell's fields as they were recorded; not checked, since the dataset may be known to its author alone."""
    values = {field: params.get(field, str(info.default)) for field, info in CellSpec.model_fields.items()}
    known: dict[str, Any] = {field: parameter(text) for field, text in values.items()}
    return CellSpec.model_construct(**known)


def parameter(text: str) -> object:
    """A parameter as it was before MLflow made text of it."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a name
        return text


def _in_order(cells: Sequence[StoredCell]) -> list[StoredCell]:
    """A scenario's cells by their axes: numbers by size, names as they first came."""

    def position(cell: StoredCell) -> list[float]:
        values = ((axis, getattr(cell.cell.spec, axis)) for axis in cell.cell.axes)
        return [value if isinstance(value, int | float) else names[axis].index(value) for axis, value in values]

    names: dict[str, list[object]] = defaultdict(list)
    for cell in cells:
        for axis in cell.cell.axes:
            names[axis].append(getattr(cell.cell.spec, axis))
    return sorted(cells, key=position)
