"""Runs as they are read back from MLflow."""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from fedbench.measures import RunResult, Verdict, run_result
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.mlflow.database import chosen_store
from fedbench.tracking.mlflow.door import let_in
from fedbench.tracking.records import INTERPOLATION, REPORTED, RunRecord
from fedbench.util.advice import command
from fedbench.util.environment import COMPUTED_BY
from fedbench.util.errors import StoreError
from fedbench.util.files import regular
from fedbench.util.garbage import without_garbage_collection

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

RECORDED_BY = "fedbench.recorded_by"  # the command that records in an experiment; a suite's has no such tag
MAX_ARTIFACT = 64 << 20  # bytes of an artifact that is read
PAGE = 5_000  # runs in one request
MANY = 1_000  # runs that stay as long as the command: the garbage collector need not look through them


def each_run(client: MlflowClient, experiment_id: str, wanted: str) -> Iterator[Run]:
    """The runs of an experiment that MLflow's expression `wanted` finds, in the order in which they began.

    Those that are not as fedbench writes them are left out; see `let_in`.
    """
    token = None
    while True:
        order = ["attributes.start_time ASC"]
        with without_garbage_collection():
            page = client.search_runs([experiment_id], wanted, order_by=order, max_results=PAGE, page_token=token)
        yield from let_in(client, page)
        if not (token := page.token):
            return


def search_runs(client: MlflowClient, experiment_id: str, wanted: str) -> list[Run]:
    """All runs of `each_run`."""
    found = list(each_run(client, experiment_id, wanted))
    if len(found) >= MANY:
        gc.freeze()
    return found


def runs_of(client: MlflowClient, experiment_id: str, fingerprint: str) -> list[Run]:
    """The runs of one fingerprint."""
    wanted = f"tags.`fedbench.fingerprint` = '{fingerprint}' and tags.`fedbench.kind` = 'run'"
    return search_runs(client, experiment_id, wanted)


def without_numbers(run: Run) -> Run:
    """A run with its tags alone, which takes a fraction of the memory."""
    from mlflow.entities import Run, RunData, RunTag

    return Run(run.info, RunData(tags=[RunTag(key, value) for key, value in run.data.tags.items()]))


def require_schema(experiment: Experiment, place: str) -> None:
    """Refuse an experiment that is not a suite's, or of a newer fedbench, with a `StoreError`."""
    schema = experiment.tags.get("fedbench.schema")
    if recorder := experiment.tags.get(RECORDED_BY):
        look = command("fedbench", "ui", experiment.name, tracking_uri=chosen_store(place))
        raise StoreError(
            f"experiment {experiment.name} in {place} was recorded by {recorder} and is not a suite: see it with "
            f"{look}; a suite needs another name"
        )
    if schema is None:
        raise StoreError(
            f"experiment {experiment.name} in {place} was not made by fedbench: give the suite another "
            "name, or choose another store with --tracking-uri"
        )
    if schema not in map(str, range(SCHEMA_VERSION + 1)):
        raise StoreError(
            f"experiment {experiment.name} in {place} has schema {schema:.30}, and this fedbench reads up to "
            f"{SCHEMA_VERSION}: upgrade fedbench, or choose another store with --tracking-uri"
        )


def read_history(client: MlflowClient, run_id: str, metric: str) -> dict[int, float]:
    """A metric of a run by step."""
    return {point.step: infinite(point.value) for point in client.get_metric_history(run_id, metric)}


def read_artifact(client: MlflowClient, run_id: str, path: str) -> str | None:
    """The text of a run's artifact; None if it is not there, is larger than `MAX_ARTIFACT` bytes, or is not text."""
    with TemporaryDirectory() as folder, suppress(MlflowException, OSError, ValueError):
        return regular(Path(client.download_artifacts(run_id, path, folder)), MAX_ARTIFACT).read_text(encoding="utf-8")
    return None


def is_finished(run: Run) -> bool:
    """Whether a run is complete as fedbench writes it; what somebody changed by hand does not count as finished."""
    tags, metrics = run.data.tags, run.data.metrics
    known = "fedbench.fingerprint" in tags and tags.get("fedbench.verdict") in set(Verdict)
    return known and run.info.status == "FINISHED" and metrics.keys() >= set(REPORTED)


def is_unfinished(run: Run) -> bool:
    """Whether a process computes a run, or left it."""
    return run.info.status in ("RUNNING", "SCHEDULED", "KILLED")


def stored_result(run: Run) -> RunResult:
    """The result of a run that was recorded."""
    tags = run.data.tags
    metrics = {key: infinite(value) for key, value in run.data.metrics.items() if not key.startswith(INTERPOLATION)}
    result = run_result(Verdict(tags["fedbench.verdict"]), tags.get("fedbench.reason"), metrics)
    return replace(result, computed_by={tag: tags[tag] for tag in COMPUTED_BY if tag in tags})


def run_record(run: Run, status: str | None = None) -> RunRecord:
    """A run as plain data; `status` is MLflow's if None."""
    return RunRecord(
        str(run.info.run_id),
        status or run.info.status.lower(),
        run.info.start_time,
        run.info.end_time,
        run.data.tags,
        run.data.params,
        {key: infinite(value) for key, value in run.data.metrics.items()},
        is_finished(run),
    )


def infinite(value: float) -> float:
    """A metric as it was measured: MLflow's databases store infinity as the largest number."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
