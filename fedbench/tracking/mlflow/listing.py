"""The runs of a store, as fedbench sees them: which are orphaned, which count, and how to be rid of some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, get_args

from mlflow.exceptions import MlflowException

from fedbench.tracking.mlflow.cells import Cells
from fedbench.tracking.mlflow.claims import claims_of
from fedbench.tracking.mlflow.reading import require_schema, run_record, search_runs
from fedbench.tracking.mlflow.store import (
    checkpoint_folder,
    default_tracking_uri,
    experiment_of,
    open_existing_store,
    store_errors,
    without_password,
)
from fedbench.tracking.records import RunRecord
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

Status = Literal["finished", "failed", "killed", "running", "orphaned", "superseded"]
STATUSES: tuple[Status, ...] = get_args(Status)
MIN_PREFIX = 4  # characters of a run's id that may name it


def list_runs(suite_name: str | None, uri: str | None) -> list[RunRecord]:
    """The seeds' runs of a suite, or of all suites, in the order in which they began.

    Raises
    ------
    StoreError
        If the store cannot be read, or the suite never ran in it.
    """
    place = uri or default_tracking_uri()
    client = open_existing_store(place)
    found: list[Run] = []
    for experiment in _experiments(client, place, suite_name):
        with store_errors(place):
            found += search_runs(client, experiment.experiment_id, "tags.`fedbench.fingerprint` IS NOT NULL")
    return [_listed(run) for run in found]


def _experiments(client: MlflowClient, uri: str, suite_name: str | None) -> list[Experiment]:
    if suite_name is not None:
        experiment = experiment_of(client, uri, suite_name)
        require_schema(experiment, without_password(uri))
        return [experiment]
    with store_errors(uri):
        found = client.search_experiments(filter_string="tags.`fedbench.schema` LIKE '%'", order_by=["name ASC"])
    return list(found)


def _listed(run: Run) -> RunRecord:
    owner = next((claim for claim in claims_of(run.data.tags) if claim.is_alive()), None)
    status: Status
    if run.data.tags.get("fedbench.kind") == "superseded":
        status = "superseded"
    elif run.info.status in ("RUNNING", "SCHEDULED"):
        status = "running" if owner else "orphaned"
    else:
        status = run.info.status.lower()
    return run_record(run, status, f"process {owner.pid} on {owner.machine}" if owner else None)


def find_run(prefix: str, uri: str | None) -> RunRecord:
    """The run whose id begins with `prefix`.

    Raises
    ------
    StoreError
        If there is none, or more than one.
    """
    if len(prefix) < MIN_PREFIX:
        raise StoreError(f"run {prefix!r}: give at least {MIN_PREFIX} characters of its id (see: fedbench runs list)")
    found = [each for each in list_runs(None, uri) if each.run_id.startswith(prefix)]
    if len(found) != 1:
        what = f"{len(found)} runs begin with {prefix}" if found else f"no run begins with {prefix}"
        raise StoreError(f"{what}: see their ids with fedbench runs list")
    return found[0]


def delete_runs(doomed: Sequence[RunRecord], uri: str | None) -> None:
    """Delete runs with their models and checkpoints, and bring their cells up to date.

    MLflow keeps what is deleted until ``mlflow gc``; ``mlflow runs restore`` brings a run back.

    Raises
    ------
    StoreError
        If a live process works on one of them; then none is deleted.
    """
    for each in doomed:
        if each.owner:
            raise StoreError(f"run {each.run_id} is worked on by {each.owner}: end that first")
    place = uri or default_tracking_uri()
    client = open_existing_store(place)
    runs = []
    for each in doomed:
        with store_errors(place):
            runs.append(run := client.get_run(each.run_id))
            for output in run.outputs.model_outputs if run.outputs else ():
                with suppress(MlflowException):  # it is gone already
                    client.delete_logged_model(output.model_id)
            client.delete_run(each.run_id)
        path = checkpoint_folder(place) / f"{each.tags['fedbench.fingerprint']}.ckpt"
        path.unlink(missing_ok=True)
    _refresh(client, place, runs)


def _refresh(client: MlflowClient, uri: str, runs: Iterable[Run]) -> None:
    """Bring the summaries of the runs' cells up to date."""
    touched = {
        (run.info.experiment_id, run.data.tags["fedbench.cell_fingerprint"])
        for run in runs
        if "fedbench.cell_fingerprint" in run.data.tags
    }
    for experiment_id, fingerprint in sorted(touched):
        cells = Cells(client, uri, experiment_id)
        cells.touched.add(fingerprint)
        cells.finish(fingerprint)
