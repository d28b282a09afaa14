"""Where runs are recorded. The runner knows this interface; `mlflow.py` and `memory.py` fill it in."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fedbench.datasets import Dataset
    from fedbench.measures import RunResult
    from fedbench.partitions.table import PartitionTable
    from fedbench.suites.schema import RunSpec

# Before anything imports MLflow, which reads them when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a benchmark reports to nobody
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is for results
# A server that is away is asked every 5 s in the mean, for 10 minutes, unless the user wants it otherwise. Without a
# factor MLflow's pauses do not double up to two minutes; what is left of them is chance, of up to 10 s.
if not any(f"MLFLOW_HTTP_REQUEST_{name}" in os.environ for name in ("MAX_RETRIES", "BACKOFF_FACTOR", "BACKOFF_JITTER")):
    os.environ.setdefault("_MLFLOW_HTTP_REQUEST_MAX_RETRIES_LIMIT", "120")
    os.environ |= {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "120",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
        "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "10",
    }
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

SCHEMA_VERSION = 2  # of the tags, parameters, metrics and artifacts in docs/tracking.md


class TrackedRun(Protocol):
    """One run while this process works on it."""

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record a round's metrics; `step` is the round, from 1. A round that was recorded before is left as it is."""

    def log_interpolation(self, points: Sequence[tuple[float, float, float]]) -> None:
        """Record (θ, loss, accuracy) of the models on the line through two clients' models."""

    def log_confusion(self, confusion: NDArray[np.int64], class_names: Sequence[str]) -> None:
        """Record the final model's confusion matrix, (C, C): rows are the true classes."""

    def log_partition(self, table: PartitionTable) -> None:
        """Record who has what; of very many clients, the first ones."""

    def log_model(self, name: str, model: nn.Module, example: NDArray[np.float32], num_classes: int) -> None:
        """Record the final model; `name` is its key in `MODELS`, `example` an input of it, (B, C, H, W)."""

    def is_ours(self) -> bool:
        """Whether this process still owns the run; one that was asleep for minutes may have lost it to another."""

    def finish(self, result: RunResult) -> None:
        """End the run: as failed if its verdict says so."""

    def kill(self, reason: str) -> None:
        """End the run as interrupted."""


class Tracker(Protocol):
    """A suite's place in a store."""

    @property
    def checkpoints(self) -> Path | None:
        """The folder in which runs under way are kept; None to keep none."""

    def finished_runs(self) -> Mapping[str, RunResult]:
        """The results of the suite's finished runs, by fingerprint."""

    def start_run(
        self, run: RunSpec, fingerprint: str, cell_fingerprint: str, dataset: Dataset, rounds: int, fresh: bool
    ) -> TrackedRun | RunResult | None:
        """Begin to record `run`, or go on where a dead process left it, if `rounds` of its rounds are kept, not 0.

        Unless `fresh`, a result means that another process finished it meanwhile. None: one is working on it.
        """

    def finish_cell(self, cell_fingerprint: str, fingerprints: Collection[str]) -> None:
        """Bring what is recorded of a cell over its seeds up to date; `fingerprints` are its runs'."""

    def close(self) -> None:
        """End what runs in the background."""
