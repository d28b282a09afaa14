"""Where runs are recorded. The runner knows this interface; `mlflow.py` and `memory.py` fill it in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fedbench.datasets import Dataset
    from fedbench.measures import RunResult
    from fedbench.specs import RunSpec

# Before anything imports MLflow, which reads them when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a benchmark reports to nobody
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is for results

SCHEMA_VERSION = 1  # of the tags, parameters and metrics in docs/tracking.md


class TrackedRun(Protocol):
    """One run while it is under way."""

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record a round's metrics; `step` is the round, from 1."""

    def log_model(self, model: nn.Module, example: NDArray[np.float32], num_classes: int) -> None:
        """Record the final model. `example` is an input of it, (B, C, H, W)."""

    def finish(self, result: RunResult) -> None:
        """End the run: as failed if its verdict says so."""

    def kill(self, reason: str) -> None:
        """End the run as interrupted."""


class Tracker(Protocol):
    """A suite's place in a store."""

    def finished_runs(self) -> Mapping[str, RunResult]:
        """The results of the suite's finished runs, by fingerprint."""

    def start_run(self, run: RunSpec, fingerprint: str, dataset: Dataset) -> TrackedRun:
        """Begin to record `run`."""
