"""A tracker that keeps everything in memory: for tests and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedbench.measures import RunResult, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fedbench.datasets import Dataset
    from fedbench.specs import RunSpec


@dataclass
class MemoryRun:
    """A run's record. `result` is None while it is under way and after it was killed."""

    run: RunSpec
    fingerprint: str
    dataset_digest: str
    rounds: list[dict[str, float]] = field(default_factory=list)
    model: nn.Module | None = None
    result: RunResult | None = None
    killed: str | None = None

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        if step != len(self.rounds) + 1:
            raise ValueError(f"round {step} follows round {len(self.rounds)}")
        self.rounds.append(dict(metrics))

    def log_model(self, model: nn.Module, example: NDArray[np.float32], num_classes: int) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        del example, num_classes
        self.model = model

    def finish(self, result: RunResult) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        self.result = result

    def kill(self, reason: str) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        self.killed = reason


@dataclass
class MemoryTracker:
    """All runs so far, in the order in which they began."""

    runs: list[MemoryRun] = field(default_factory=list)

    def finished_runs(self) -> Mapping[str, RunResult]:
        """See `fedbench.tracking.Tracker`."""
        return {
            run.fingerprint: run.result
            for run in self.runs
            if run.result is not None and run.result.verdict is not Verdict.FAILED
        }

    def start_run(self, run: RunSpec, fingerprint: str, dataset: Dataset) -> MemoryRun:
        """See `fedbench.tracking.Tracker`."""
        self.runs.append(MemoryRun(run, fingerprint, dataset.digest))
        return self.runs[-1]
