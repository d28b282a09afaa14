"""Kept until `tuning`, `gate` and `bench` use `StoreClient` and `experiments`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from fedbench.tracking.mlflow.experiments import set_experiment_tags as set_experiment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def create_run(
    client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], start_time: int | None = None
) -> Run:
    """Make a run."""
    return client.create_run(experiment_id, start_time, dict(tags), name)


def delete_tag(client: MlflowClient, run_id: str, key: str) -> None:
    """Remove a tag."""
    client.delete_tag(run_id, key)


def discard_run(client: MlflowClient, run_id: str) -> None:
    """Delete a run after something went wrong."""
    with suppress(MlflowException):
        client.delete_run(run_id)
