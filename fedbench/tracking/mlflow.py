"""Runs in MLflow: a suite is an experiment, a run is a run. docs/tracking.md says what is written."""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING

import mlflow
import mlflow.pytorch
import torch
from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from fedbench import __version__
from fedbench.errors import StoreError
from fedbench.measures import RunResult, Verdict
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.store import (  # first: it sets MLflow up
    default_tracking_uri,
    local_folder,
    open_store,
    store_errors,
    without_password,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fedbench.datasets import Dataset
    from fedbench.specs import RunSpec, Suite

FLUSH_SECONDS = 5.0  # how long a round's metrics may wait for the next batch
FINAL = {"accuracy", "balanced_accuracy", "loss", "majority_rate"}  # what every finished run has
CLIENT_ACCURACY = "client_accuracy/"  # and the client's number
MAX_DIGEST = 36  # characters, MLflow's limit


class MlflowTracker:
    """A suite's experiment in an MLflow store.

    Raises
    ------
    StoreError
        If the store cannot be opened or written, or was made by a newer MLflow or a newer fedbench.
    """

    def __init__(self, suite: Suite, tracking_uri: str | None = None) -> None:
        self.suite = suite
        self.uri = tracking_uri or default_tracking_uri()
        self.client = open_store(self.uri)
        mlflow.set_tracking_uri(self.uri)  # for mlflow.pytorch.log_model, which takes no client
        with store_errors(self.uri):
            self.experiment_id = self._open_experiment()
            mlflow.set_experiment(experiment_id=self.experiment_id)  # likewise

    def _open_experiment(self) -> str:
        name = self.suite.name
        experiment: Experiment | None = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = (folder / "artifacts" / name).as_uri() if (folder := local_folder(self.uri)) else None
            tags = {"fedbench.schema": str(SCHEMA_VERSION), "mlflow.note.content": self.suite.question}
            try:
                return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
            except MlflowException:  # another process was quicker
                if (experiment := self.client.get_experiment_by_name(name)) is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            raise StoreError(
                f"experiment {name} in {without_password(self.uri)} was deleted: restore it with `mlflow experiments "
                f"restore --experiment-id {experiment.experiment_id}`, or choose another store with --tracking-uri"
            )
        schema = experiment.tags.get("fedbench.schema")
        if schema is None:
            raise StoreError(
                f"experiment {name} in {without_password(self.uri)} was not made by fedbench: give the suite another "
                "name, or choose another store with --tracking-uri"
            )
        if not schema.isdigit() or int(schema) > SCHEMA_VERSION:
            raise StoreError(
                f"experiment {name} in {without_password(self.uri)} has schema {schema}, and this fedbench reads up to "
                f"{SCHEMA_VERSION}: upgrade fedbench, or choose another store with --tracking-uri"
            )
        return str(experiment.experiment_id)

    def finished_runs(self) -> Mapping[str, RunResult]:
        """See `fedbench.tracking.Tracker`."""
        results: dict[str, RunResult] = {}
        token = None
        with store_errors(self.uri):
            while True:
                page = self.client.search_runs(
                    [self.experiment_id],
                    "attributes.status = 'FINISHED'",
                    order_by=["attributes.start_time ASC"],  # of equal runs, the latest counts
                    max_results=1_000,
                    page_token=token,
                )
                results |= {run.data.tags["fedbench.fingerprint"]: _result(run) for run in page if _is_ours(run)}
                if not (token := page.token):
                    return results

    def start_run(self, run: RunSpec, fingerprint: str, dataset: Dataset) -> MlflowRun:
        """See `fedbench.tracking.Tracker`."""
        tags = {
            "fedbench.schema": str(SCHEMA_VERSION),
            "fedbench.suite": run.suite,
            "fedbench.scenario": run.scenario,
            "fedbench.cell": run.cell,
            "fedbench.seed": str(run.seed),
            "fedbench.fingerprint": fingerprint,
            **environment_tags(),
        }
        params = {"seed": run.seed, **run.spec.model_dump()}
        run_id = None
        try:
            with store_errors(self.uri):
                created = self.client.create_run(self.experiment_id, run_name=f"{run.cell} seed={run.seed}", tags=tags)
                run_id = created.info.run_id
                self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
                self._log_input(run_id, _dataset_input(dataset))
        except BaseException:  # an interruption included: nobody else knows of this run yet
            if run_id:
                self.client.set_terminated(run_id, "KILLED")
            raise
        return MlflowRun(self.client, self.uri, run_id)

    def _log_input(self, run_id: str, dataset: DatasetInput) -> None:
        try:
            self.client.log_inputs(run_id, [dataset])
        except MlflowException:  # another process put the same dataset in between MLflow's look and its write
            self.client.log_inputs(run_id, [dataset])


class MlflowRun:
    """A run under way in an MLflow store. Metrics are written in batches."""

    def __init__(self, client: MlflowClient, uri: str, run_id: str) -> None:
        self.client = client
        self.uri = uri
        self.run_id = run_id
        self._waiting: list[Metric] = []
        self._last_flush = time.monotonic()
        self._last_step = 0

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        now = int(time.time() * 1000)
        self._last_step = step
        self._waiting += [Metric(key, value, now, step) for key, value in metrics.items()]
        if time.monotonic() - self._last_flush > FLUSH_SECONDS:
            self._flush()

    def _flush(self, tags: Mapping[str, str] | None = None) -> None:
        with store_errors(self.uri):
            for start in range(0, len(self._waiting), 1_000):  # MLflow's limit for a batch
                self.client.log_batch(self.run_id, metrics=self._waiting[start : start + 1_000])
            if tags:
                self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self._waiting = []
        self._last_flush = time.monotonic()

    def log_model(self, model: nn.Module, example: NDArray[np.float32], num_classes: int) -> None:
        """See `fedbench.tracking.TrackedRun`. The model is stored as an exported program, without pickle."""
        signature = ModelSignature(
            Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
            Schema([TensorSpec(example.dtype, (-1, num_classes))]),
        )
        with store_errors(self.uri), redirect_stdout(StringIO()):
            mlflow.pytorch.log_model(
                model.eval(),
                name="model",
                signature=signature,
                input_example=example,
                pip_requirements=[f"torch=={_public_version(torch.__version__)}"],
                run_id=self.run_id,  # not an active run, whose end would mark it finished before its result is written
            )

    def finish(self, result: RunResult) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        now = int(time.time() * 1000)
        for client, accuracy in result.client_accuracy.items():
            self._waiting.append(Metric(f"{CLIENT_ACCURACY}{client}", accuracy, now, self._last_step))
        tags = {"fedbench.verdict": str(result.verdict)}
        if result.reason:
            tags |= {"fedbench.reason": result.reason, "mlflow.note.content": f"{result.verdict}: {result.reason}"}
        self._flush(tags)
        self._terminate("FAILED" if result.verdict is Verdict.FAILED else "FINISHED")

    def kill(self, reason: str) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        self._flush({"fedbench.reason": reason})
        self._terminate("KILLED")

    def _terminate(self, status: str) -> None:
        with store_errors(self.uri):
            self.client.set_terminated(self.run_id, status)


def _is_ours(run: Run) -> bool:
    """Whether a run is complete as fedbench writes it; what somebody changed by hand does not count as finished."""
    tags, metrics = run.data.tags, run.data.metrics
    return "fedbench.fingerprint" in tags and tags.get("fedbench.verdict") in set(Verdict) and metrics.keys() >= FINAL


def _result(run: Run) -> RunResult:
    metrics: dict[str, float] = run.data.metrics
    clients = sorted(
        (int(key.removeprefix(CLIENT_ACCURACY)), key) for key in metrics if key.startswith(CLIENT_ACCURACY)
    )
    return RunResult(
        Verdict(run.data.tags["fedbench.verdict"]),
        run.data.tags.get("fedbench.reason"),
        {key: _infinite(value) for key, value in metrics.items() if not key.startswith(CLIENT_ACCURACY)},
        {client: metrics[key] for client, key in clients},
    )


def _infinite(value: float) -> float:
    """Undo that MLflow's databases store infinity as the largest number."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def _dataset_input(dataset: Dataset) -> DatasetInput:
    profile = {"num_train": len(dataset.train_labels), "num_test": len(dataset.test_labels), "split": dataset.split}
    schema = {"image_shape": list(dataset.train_images.shape[1:]), "classes": list(dataset.class_names)}
    entity = MlflowDataset(
        name=f"{dataset.name}/{dataset.split}",
        digest=dataset.digest[:MAX_DIGEST],
        source_type="external",
        source=json.dumps({"uri": dataset.source}),
        schema=json.dumps({"fedbench": schema}),
        profile=json.dumps(profile),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training and evaluation")])


@cache
def environment_tags() -> dict[str, str]:
    """Versions of what computes the numbers, and the git commit of the working directory."""
    tags = {
        "fedbench.version": __version__,
        "fedbench.python": platform.python_version(),
        "fedbench.torch": torch.__version__,
        "fedbench.processor": torch.backends.cpu.get_cpu_capability(),
        "mlflow.source.name": "fedbench",
        "mlflow.source.type": "LOCAL",
    }
    if commit := _git("rev-parse", "HEAD"):
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def _git(*arguments: str) -> str:
    """What git answers in the working directory; empty where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603, S607 - fixed arguments; git is found on the PATH
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _public_version(version: str) -> str:
    """Drop the local part of a version, which no package index knows: ``2.14.1+cpu`` is ``2.14.1``."""
    return version.partition("+")[0]
