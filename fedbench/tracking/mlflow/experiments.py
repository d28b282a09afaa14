"""MLflow experiments: opened or made, with their tags up to date; those of a suite and those of other commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.entities import Experiment

from fedbench.tracking.mlflow.database import artifact_folder
from fedbench.tracking.mlflow.describe import NOTE
from fedbench.tracking.mlflow.reading import RECORDED_BY
from fedbench.tracking.mlflow.store import (
    open_store,
    require_not_deleted,
    require_space,
    without_password,
)
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedbench.tracking.mlflow.client import StoreClient


@dataclass(frozen=True)
class OwnExperiment:
    """An experiment that a command of fedbench other than ``run`` records in.

    `schema` is the version of its section in docs/reference/mlflow.md, `note` says how to read its runs.
    """

    name: str
    schema: int
    command: str
    note: str

    @property
    def schema_tag(self) -> str:
        """The tag that holds the schema."""
        return f"fedbench.{self.name}_schema"

    def require(self, experiment: Experiment, place: str) -> None:
        """Refuse an experiment of this name in the store `place` that something else made, with a `StoreError`."""
        schema = experiment.tags.get(self.schema_tag)
        if schema is None:
            raise StoreError(
                f"experiment {self.name} in {place} was not made by {self.command}: choose another store with "
                "--tracking-uri, or --no-log"
            )
        if schema != str(self.schema):
            raise StoreError(
                f"experiment {self.name} in {place} has schema {schema}, and this fedbench writes {self.schema}: "
                "upgrade fedbench, or choose another store with --tracking-uri"
            )


def open_own(own: OwnExperiment, uri: str) -> StoreClient:
    """Open the store and check that `own` can be recorded in it; nothing is recorded yet.

    Raises `StoreError` if it cannot be opened or written, or the experiment is deleted, of a suite or of a newer
    fedbench.
    """
    client = open_store(uri)
    require_space(uri)
    if experiment := client.get_experiment_by_name(own.name):
        require_not_deleted(experiment, uri)
        own.require(experiment, without_password(uri))
    return client


def own_experiment_id(client: StoreClient, own: OwnExperiment, views: Mapping[str, str]) -> str:
    """The id of the experiment, which is made if it is not there, with its note and these views up to date."""
    schema = {own.schema_tag: str(own.schema), RECORDED_BY: own.command}
    return open_experiment(client, own.name, {NOTE: own.note, **views}, schema, own.require)


def open_experiment(
    client: StoreClient,
    name: str,
    tags: Mapping[str, str],
    fixed: Mapping[str, str],
    require: Callable[[Experiment, str], None],
) -> str:
    """The id of an experiment, made with `tags` and `fixed` if it is not there, else with `tags` up to date.

    `require` refuses one that is there, in a store that is shown so, with an error.
    """
    experiment: Experiment | None = client.get_experiment_by_name(name)
    if experiment is None:
        location = folder.as_uri() if (folder := artifact_folder(client.uri, name)) else None
        try:
            return str(client.create_experiment(name, artifact_location=location, tags={**tags, **fixed}))
        except StoreError:  # another command was quicker, or the answer to an earlier attempt was lost
            if (experiment := client.get_experiment_by_name(name)) is None:
                raise
    require_not_deleted(experiment, client.uri)
    require(experiment, without_password(client.uri))
    set_experiment_tags(client, experiment, tags)
    return str(experiment.experiment_id)


def set_experiment_tags(client: StoreClient, experiment: Experiment, wanted: Mapping[str, str]) -> None:
    """Update an experiment's tags. If two commands make the same one at once, MLflow refuses one of them."""
    for key, value in wanted.items():
        if experiment.tags.get(key) == value:
            continue
        try:
            client.set_experiment_tag(experiment.experiment_id, key, value)
        except StoreError:
            if key not in client.get_experiment(experiment.experiment_id).tags:
                raise
            client.set_experiment_tag(experiment.experiment_id, key, value)


@contextmanager
def all_or_none(client: StoreClient) -> Iterator[list[str]]:
    """Record several runs: after an error, those whose ids are in the list are deleted."""
    created: list[str] = []
    try:
        yield created
    except BaseException:
        for run_id in created:
            with suppress(StoreError):  # of a store that fails, the first error is the one to show
                client.delete_run(run_id)
        raise
