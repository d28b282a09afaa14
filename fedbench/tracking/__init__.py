"""Where runs are recorded: the interface that `runs` knows. `mlflow` and `memory` implement it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from fedbench.datasets import Dataset
    from fedbench.measures import Line, RunResult
    from fedbench.partitions.table import PartitionTable
    from fedbench.suites.schema import RunSpec

for _name, _value in {  # before MLflow is imported, which reads them then
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a benchmark reports to nobody
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for results
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # `fedbench.tracking.mlflow.client` retries
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}.items():
    os.environ.setdefault(_name, _value)

SCHEMA_VERSION = 2  # of the tags, parameters, metrics and artifacts in docs/reference/mlflow.md


@dataclass(frozen=True)
class FinalRecord:
    """What is recorded of a run at its end, alongside its metrics and its result, as far as there is any.

    Attributes
    ----------
    class_names
        Of the C classes.
    confusion
        (C, C) the confusion matrix of the final model: rows are the true classes.
    partition
        How many examples of each class each client has; of very many clients, the first ones.
    lines
        The models on lines through two clients' models, by the line's name: empty, or such as ``plain_``.
    correlations
        Of two models' units, (n, n), by layer, before and after they were aligned.
    model, model_name, example
        The final model. Models of one name share their program and their example, an input (B, C, H, W).
    """

    class_names: Sequence[str] = ()
    confusion: NDArray[np.int64] | None = None
    partition: PartitionTable | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)
    correlations: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    model: nn.Module | None = None
    model_name: str = ""
    example: NDArray[np.float32] | None = None


class TrackedRun(Protocol):
    """The record of a run that this process computes."""

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record a round's metrics; `step` is the round, from 1. A round that is recorded already is left as it is."""

    def log_final(self, final: FinalRecord) -> None:
        """Record what is known at the end alone."""

    def finish(self, result: RunResult) -> RunResult:
        """End the run, as failed if its verdict says so; the result that is on record.

        That is another process's if it recorded the same run meanwhile.
        """

    def kill(self, reason: str) -> None:
        """End the run as interrupted; the same command resumes it."""


class Tracker(Protocol):
    """A suite's place in a store."""

    @property
    def checkpoints(self) -> Path | None:
        """The folder for the checkpoints and locks of unfinished runs; None to keep none."""

    def finished_runs(self) -> Mapping[str, RunResult]:
        """The results of the suite's finished runs, by fingerprint."""

    def start_run(
        self,
        run: RunSpec,
        fingerprint: str,
        cell_fingerprint: str,
        dataset: Dataset,
        rounds: int,
        fresh: bool,
        key: str = "",
    ) -> TrackedRun | RunResult:
        """Begin to record a run, or resume it; no other process with the same checkpoints does so meanwhile.

        Parameters
        ----------
        rounds
            Of how many rounds there is a checkpoint; with none, a run that recorded rounds is not resumed.
        fresh
            Whether to record another run where one is finished; otherwise that one's result is returned.
        key
            Ties the record to the checkpoint: an unfinished run that was begun with the same key is resumed.
        """

    def finish_cell(self, cell_fingerprint: str) -> None:
        """Update the record of a cell over its seeds."""
