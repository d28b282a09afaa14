"""The finished studies of a suite, read from the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fedbench.tracking.mlflow.reading import read_artifact, require_schema, search_runs
from fedbench.tracking.mlflow.store import without_password
from fedbench.tuning.recording import STUDY_FILE
from fedbench.tuning.results import SUFFIX
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow.entities import Experiment

    from fedbench.tracking.mlflow.client import StoreClient


class _Document(BaseModel):
    """A study's file; `fedbench.reports.tuning` reads the rest."""

    model_config = ConfigDict(extra="allow")

    figures: list[dict[str, Any]]


@dataclass(frozen=True)
class StoredStudy:
    """A study's file, ``study.json``."""

    run_id: str
    document: Mapping[str, Any]


@dataclass(frozen=True)
class StoredStudies:
    """The finished studies, the latest first, and the run ids of those whose files are gone or damaged."""

    found: tuple[StoredStudy, ...] = ()
    lost: tuple[str, ...] = ()


def read_studies(client: StoreClient, suite_name: str) -> StoredStudies:
    """The finished studies of a suite; `suite_name` may also be that of the studies' own experiment."""
    experiment = _experiment(client, suite_name)
    if experiment is None:
        return StoredStudies()
    wanted = "tags.`fedbench.kind` = 'study' and status = 'FINISHED'"
    runs = search_runs(client, experiment.experiment_id, wanted)
    found, lost = [], []
    for run in sorted(runs, key=lambda run: run.info.end_time or 0, reverse=True):
        run_id = str(run.info.run_id)
        try:
            document = _Document.model_validate_json(read_artifact(client, run_id, STUDY_FILE) or "")
            found.append(StoredStudy(run_id, document.model_dump()))
        except ValidationError:
            lost.append(run_id)
    return StoredStudies(tuple(found), tuple(lost))


def _experiment(client: StoreClient, suite_name: str) -> Experiment | None:
    name = suite_name if suite_name.endswith(SUFFIX) else f"{suite_name}{SUFFIX}"
    experiment: Experiment | None = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        return None
    try:
        require_schema(experiment, without_password(client.uri))
    except StoreError:  # somebody else's, or of a newer fedbench; the suite can be reported all the same
        return None
    return experiment
