"""The runs of a store with their status, and how to delete some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fedbench.tracking.mlflow.cells import CELL, Cells
from fedbench.tracking.mlflow.client import REQUEST
from fedbench.tracking.mlflow.database import chosen_store
from fedbench.tracking.mlflow.describe import NOTE, describe_suite
from fedbench.tracking.mlflow.models import discard_run
from fedbench.tracking.mlflow.reading import require_schema, run_record, search_runs
from fedbench.tracking.mlflow.store import (
    checkpoint_folder,
    default_tracking_uri,
    experiment_of,
    local_folder,
    open_existing_store,
    open_store,
    without_password,
)
from fedbench.tracking.records import RunRecord
from fedbench.util.advice import command
from fedbench.util.errors import StoreError
from fedbench.util.files import remove
from fedbench.util.locks import is_locked

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

    from fedbench.tracking.mlflow.client import StoreClient

Status = Literal["finished", "failed", "killed", "running", "orphaned"]
STATUSES: tuple[Status, ...] = get_args(Status)
MIN_PREFIX = 4  # characters of a run's id that may name it


def list_runs(suite_name: str | None, uri: str | None, given: str | None = None) -> list[RunRecord]:
    """The seeds' runs of a suite, or of all suites, in the order in which they began.

    `given` is the suite as it was named, such as by its file. Their status is MLflow's, but for ``orphaned``: RUNNING,
    and the process has ended, as far as this machine can know. Raises `StoreError` if the store cannot be read, or the
    suite never ran in it.
    """
    place = uri or default_tracking_uri()
    client = open_existing_store(place)
    found: list[Run] = []
    for experiment in _experiments(client, suite_name, given):
        found += search_runs(client, experiment.experiment_id, "tags.`fedbench.fingerprint` IS NOT NULL")
    return [run_record(run, _status(run, place)) for run in found]


def _experiments(client: StoreClient, suite_name: str | None, given: str | None) -> list[Experiment]:
    if suite_name is None:
        return list(client.search_experiments(filter_string="tags.`fedbench.schema` LIKE '%'", order_by=["name ASC"]))
    experiment = experiment_of(client, suite_name, ("run", given or suite_name))
    require_schema(experiment, without_password(client.uri))
    return [experiment]


def _status(run: Run, uri: str) -> str:
    if run.info.status not in ("RUNNING", "SCHEDULED"):
        return str(run.info.status).lower()
    path = _lock_path(run.data.tags["fedbench.fingerprint"], uri)
    if is_locked(path) is not False:  # or nobody can know
        return "running"
    was_here = local_folder(uri) is not None or (path.exists() and path.read_text() == run.data.tags.get(REQUEST))
    return "orphaned" if was_here else "running"


def _lock_path(fingerprint: str, uri: str) -> Path:
    return checkpoint_folder(uri) / f"{fingerprint}.lock"


def find_run(prefix: str, runs: Sequence[RunRecord], uri: str | None) -> RunRecord:
    """The one of these runs of a store whose id begins with `prefix`.

    Raises `StoreError` if there is none, or more than one.
    """
    ids = command("fedbench", "runs", "list", tracking_uri=chosen_store(uri))
    if len(prefix) < MIN_PREFIX:
        raise StoreError(f"run {prefix!r}: give at least {MIN_PREFIX} characters of its id (see: {ids})")
    found = [each for each in runs if each.run_id.startswith(prefix)]
    if len(found) != 1:
        what = f"{len(found)} runs begin with {prefix}" if found else f"no run begins with {prefix}"
        raise StoreError(f"{what}: see their ids with {ids}")
    return found[0]


def delete_runs(doomed: Sequence[RunRecord], uri: str | None) -> None:
    """Delete runs with their models and checkpoints, and update the summaries of their cells.

    MLflow keeps what is deleted until ``mlflow gc``; ``mlflow runs restore`` restores a run. Raises `StoreError` if a
    command computes one of them; then none is deleted.
    """
    place = uri or default_tracking_uri()
    paths = {each.run_id: _lock_path(each.tags["fedbench.fingerprint"], place) for each in doomed}
    for run_id, path in paths.items():
        if is_locked(path):
            raise StoreError(f"run {run_id} is being computed: end the command that does so first")
    client = open_store(place)
    touched = set()
    for each in doomed:
        path = paths[each.run_id]
        discard_run(client, run := client.get_run(each.run_id))
        if cell := each.tags.get(CELL):
            touched.add((run.info.experiment_id, cell))
        remove(path.with_suffix(".ckpt"))
        remove(path)
    for experiment_id, fingerprint in sorted(touched):
        cells = Cells(client, experiment_id)
        cells.touch(fingerprint)
        cells.finish(fingerprint)
    for experiment_id in sorted({each for each, _ in touched}):
        note = client.get_experiment(experiment_id).tags.get(NOTE, "")
        describe_suite(client, experiment_id, note.partition("\n")[0])
