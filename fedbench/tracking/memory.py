"""A tracker that keeps everything in memory: for tests and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.measures import RunResult, Verdict
from fedbench.tracking import FinalRecord

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.suites.schema import RunSpec


@dataclass
class MemoryRun:
    """A run's record. `result` is None while it is under way and after it was killed."""

    run: RunSpec
    fingerprint: str
    dataset_digest: str
    rounds: list[dict[str, float]] = field(default_factory=list)
    final: FinalRecord = field(default_factory=FinalRecord)
    result: RunResult | None = None
    killed: str | None = None

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        if step > len(self.rounds) + 1:
            raise ValueError(f"round {step} follows round {len(self.rounds)}")
        if step == len(self.rounds) + 1:
            self.rounds.append(dict(metrics))

    def log_final(self, final: FinalRecord) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        self.final = final

    def finish(self, result: RunResult) -> RunResult:
        """See `fedbench.tracking.TrackedRun`."""
        self.result = result
        return result

    def kill(self, reason: str) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        self.killed = reason


@dataclass
class MemoryTracker:
    """All runs so far, in the order in which they began; see `fedbench.tracking.Tracker`."""

    runs: list[MemoryRun] = field(default_factory=list)
    checkpoints: Path | None = None
    cells: list[str] = field(default_factory=list)  # the fingerprints of those that were finished

    def finished_runs(self) -> Mapping[str, RunResult]:
        """See `fedbench.tracking.Tracker`."""
        return {
            run.fingerprint: run.result
            for run in self.runs
            if run.result is not None and run.result.verdict is not Verdict.FAILED
        }

    def start_run(
        self,
        run: RunSpec,
        fingerprint: str,
        cell_fingerprint: str,
        dataset: Dataset,
        rounds: int,
        fresh: bool,
        key: str = "",
    ) -> MemoryRun | RunResult:
        """See `fedbench.tracking.Tracker`."""
        del cell_fingerprint, key
        if not fresh and (result := self.finished_runs().get(fingerprint)):
            return result
        unfinished = [each for each in self.runs if each.fingerprint == fingerprint and each.result is None]
        if unfinished and (rounds or not unfinished[0].rounds):
            unfinished[0].killed = None
            return unfinished[0]
        self.runs.append(MemoryRun(run, fingerprint, dataset.digest))
        return self.runs[-1]

    def finish_cell(self, cell_fingerprint: str) -> None:
        """See `fedbench.tracking.Tracker`."""
        self.cells.append(cell_fingerprint)
