"""Requests that do no harm when they are made twice: MLflow repeats one whose answer was lost on the way.

Most of them say what shall be, and may be said again. Those here make or remove something: a repeated one would make
a twin, or not find what is to be removed; or what another process makes at the same moment is in its way.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from fedbench.tracking.mlflow.server import repeats
from fedbench.tracking.mlflow.waiting import is_away

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

GONE = "RESOURCE_DOES_NOT_EXIST"


def create_run(
    client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], start_time: int | None = None
) -> Run:
    """Make a run. If the request was repeated, its twins are deleted: they began in the same millisecond."""
    before = repeats()
    run = client.create_run(experiment_id, start_time, dict(tags), name)
    if repeats() != before:
        wanted = f"attributes.start_time = {run.info.start_time}"
        for twin in client.search_runs([experiment_id], wanted):
            if twin.info.run_id != run.info.run_id and twin.data.tags == run.data.tags:
                client.delete_run(twin.info.run_id)
    return run


def set_experiment_tags(client: MlflowClient, experiment: Experiment, wanted: Mapping[str, str]) -> None:
    """Bring an experiment's tags up to date. If two processes make the same one at once, MLflow refuses one of them."""
    for key, value in wanted.items():
        if experiment.tags.get(key) == value:
            continue
        try:
            client.set_experiment_tag(experiment.experiment_id, key, value)
        except MlflowException:
            if is_away() or key not in client.get_experiment(experiment.experiment_id).tags:
                raise
            client.set_experiment_tag(experiment.experiment_id, key, value)


def delete_tag(client: MlflowClient, run_id: str, key: str) -> None:
    """Remove a tag from a run; it may be gone already."""
    try:
        client.delete_tag(run_id, key)
    except MlflowException as error:
        if error.error_code != GONE:
            raise


def discard_run(client: MlflowClient, run_id: str) -> None:
    """Delete a run of which nobody else knows, after something went wrong; not if it is that the store is away."""
    if not is_away():
        with suppress(MlflowException):
            client.delete_run(run_id)


def discard_models(client: MlflowClient, experiment_id: str, run_id: str, *, kept: str | None = None) -> None:
    """Delete the models of a run, but for the one whose id is `kept`: they are twins, or half written."""
    for model in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"):
        if model.model_id != kept:
            client.delete_logged_model(model.model_id)
