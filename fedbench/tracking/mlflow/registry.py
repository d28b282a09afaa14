"""The model registry: a run's model as the newest version of a registered model, with an alias."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from fedbench.tracking.mlflow.store import without_password
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from fedbench.tracking.mlflow.client import StoreClient

BEST = "best"  # the alias


def register_model(client: StoreClient, name: str, run_id: str | None, tags: Mapping[str, str]) -> str:
    """Make the model of a run a version of the registered model `name`, with the alias "best".

    If the version with the alias is already of this run, there is nothing to do. Returns a sentence with the alias and
    its version. Raises `StoreError` if the run has no model.
    """
    model_id = _model_of(client, run_id) if run_id else None
    if run_id is None or model_id is None:
        raise StoreError(f"no model is stored for {name} in {without_password(client.uri)}: its run ended without one")
    version = _version_of(client, name, run_id)
    if version is None:
        with suppress(StoreError):  # it is there; if it cannot be made, the next request says why
            client.create_registered_model(name)
        made = client.create_model_version(name, f"models:/{model_id}", run_id, dict(tags), model_id=model_id)
        version = str(made.version)
        client.set_registered_model_alias(name, BEST, version)
    return f"models:/{name}@{BEST} is version {version}"


def _model_of(client: StoreClient, run_id: str) -> str | None:
    """The id of the last model that a run logged and that is still there."""
    run = client.get_run(run_id)
    there = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    logged = [output.model_id for output in run.outputs.model_outputs] if run.outputs else []
    kept = [each for each in logged if each in {model.model_id for model in there}]
    return kept[-1] if kept else None


def _version_of(client: StoreClient, name: str, run_id: str) -> str | None:
    """The version with the alias, if it is of this run."""
    try:
        version = client.get_model_version_by_alias(name, BEST)
    except StoreError:  # no version has it
        return None
    return str(version.version) if version.run_id == run_id else None
