"""The finished studies of a suite, read from the store: the report's section on tuning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from fedbench.reports.style import Figure
from fedbench.reports.tuning import answer, candidate_rows, headline, sentences
from fedbench.tracking.mlflow.reading import require_schema, search_runs
from fedbench.tracking.mlflow.store import store_errors, without_password
from fedbench.tuning.recording import FIGURES, STUDY_FILE
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

SUFFIX = ".tuning"  # after the suite's name: the experiment of its studies


@dataclass(frozen=True)
class StudyPart:
    """A study on the page.

    Attributes
    ----------
    rows
        Title, default and best of each line of the table.
    figures
        Under names that no other study's have.
    """

    title: str
    headline: list[str]
    rows: list[tuple[str, str, str]]
    sentences: list[str]
    answer: str
    figures: list[Figure]


@dataclass(frozen=True)
class Studies:
    """The finished studies of a suite, the latest first, and the run ids of those whose files are gone or damaged."""

    parts: tuple[StudyPart, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def figures(self) -> list[Figure]:
        """The figures of all."""
        return [figure for part in self.parts for figure in part.figures]


NO_STUDIES = Studies()


def read_studies(client: MlflowClient, uri: str, suite_name: str) -> Studies:
    """The finished studies of a suite; `suite_name` may also be that of the studies' own experiment."""
    experiment = _experiment(client, uri, suite_name)
    if experiment is None:
        return NO_STUDIES
    wanted = "tags.`fedbench.kind` = 'study' and status = 'FINISHED'"
    with store_errors(uri):
        runs = search_runs(client, experiment.experiment_id, wanted)
    found, gone = [], []
    for run in sorted(runs, key=lambda run: run.info.end_time or 0, reverse=True):
        try:
            found.append(_read(client, run))
        except (MlflowException, OSError, ValueError, LookupError, TypeError, AttributeError):
            gone.append(str(run.info.run_id))
    return Studies(tuple(found), tuple(gone))


def _experiment(client: MlflowClient, uri: str, suite_name: str) -> Experiment | None:
    name = suite_name if suite_name.endswith(SUFFIX) else f"{suite_name}{SUFFIX}"
    with store_errors(uri):
        experiment: Experiment | None = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        return None
    try:
        require_schema(experiment, without_password(uri))
    except StoreError:  # somebody else's, or of a newer fedbench; the suite can be reported all the same
        return None
    return experiment


def _read(client: MlflowClient, run: Run) -> StudyPart:
    """A study's part of the page, from its run's artifacts."""
    with TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(run.info.run_id, STUDY_FILE, folder))
        document = json.loads(path.read_text())
        figures = list(_figures(client, run, document, folder))
    title, *lines = headline(document)
    return StudyPart(title, lines, candidate_rows(document), sentences(document), answer(document), figures)


def _figures(client: MlflowClient, run: Run, document: Mapping[str, Any], folder: str) -> Iterator[Figure]:
    """The figures that the study's file names, and the store still has."""
    for each in document["figures"]:
        try:
            path = client.download_artifacts(run.info.run_id, f"{FIGURES}/{each['name']}.png", folder)
        except (MlflowException, OSError):
            continue
        name = f"tuning-{run.info.run_id[:8]}-{each['name']}"
        yield Figure(name, each["title"], each["caption"], Path(path).read_bytes())
