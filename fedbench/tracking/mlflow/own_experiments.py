"""The experiments that are no suite's: fedbench's own timings and checks, one run a measurement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from fedbench.tracking.mlflow.reading import RECORDED_BY
from fedbench.tracking.mlflow.repeated import discard_run, set_experiment_tags
from fedbench.tracking.mlflow.store import (
    local_folder,
    open_store,
    require_not_deleted,
    require_space,
    store_errors,
    without_password,
)
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class OwnExperiment:
    """An experiment whose name is fedbench's own.

    Attributes
    ----------
    schema
        The version of its section in docs/tracking.md.
    command
        What records in it.
    note
        How to read its runs.
    """

    name: str
    schema: int
    command: str
    note: str

    @property
    def schema_tag(self) -> str:
        """The tag that holds the schema."""
        return f"fedbench.{self.name}_schema"


def open_own(own: OwnExperiment, uri: str) -> MlflowClient:
    """Open the store and find out whether `own` can be recorded in it; nothing is recorded yet.

    Raises
    ------
    StoreError
        If it cannot be opened or written, or the experiment is deleted, a suite's or of a newer fedbench.
    """
    client = open_store(uri)
    require_space(uri)
    with store_errors(uri):
        experiment = client.get_experiment_by_name(own.name)
    if experiment is not None:
        require_own(own, experiment, uri)
    return client


def require_own(own: OwnExperiment, experiment: Experiment, uri: str) -> None:
    """Refuse an experiment of that name that is deleted, a suite's or of a newer fedbench.

    Raises
    ------
    StoreError
        One line that says what to do.
    """
    require_not_deleted(experiment, uri)
    schema, place = experiment.tags.get(own.schema_tag), without_password(uri)
    if schema is None:
        raise StoreError(
            f"experiment {own.name} in {place} was not made by {own.command}: choose another store with "
            "--tracking-uri, or --no-log"
        )
    if schema != str(own.schema):
        raise StoreError(
            f"experiment {own.name} in {place} has schema {schema}, and this fedbench writes {own.schema}: "
            "upgrade fedbench, or choose another store with --tracking-uri"
        )


def own_experiment_id(client: MlflowClient, uri: str, own: OwnExperiment, views: Mapping[str, str]) -> str:
    """The id of the experiment, which is made if it is not there, with its note and these views brought up to date."""
    tags = {"mlflow.note.content": own.note, **views}
    experiment: Experiment | None = client.get_experiment_by_name(own.name)
    if experiment is None:
        location = (folder / "artifacts" / own.name).as_uri() if (folder := local_folder(uri)) else None
        schema = {own.schema_tag: str(own.schema), RECORDED_BY: own.command}
        try:
            return str(client.create_experiment(own.name, artifact_location=location, tags=tags | schema))
        except MlflowException:  # another process was quicker
            if (experiment := client.get_experiment_by_name(own.name)) is None:
                raise
    require_own(own, experiment, uri)
    set_experiment_tags(client, experiment, tags)
    return str(experiment.experiment_id)


@contextmanager
def all_or_none(client: MlflowClient) -> Iterator[list[str]]:
    """Record several things: after an error, the runs whose ids are in the list are deleted."""
    created: list[str] = []
    try:
        yield created
    except BaseException:
        for run_id in created:
            discard_run(client, run_id)
        raise
