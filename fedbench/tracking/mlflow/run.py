"""One run while it is recorded in MLflow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow.entities import Metric, Run

from fedbench.measures import LABEL_SKEW, RunResult, Verdict
from fedbench.partitions.table import label_skew
from fedbench.tracking import FinalRecord
from fedbench.tracking.mlflow.cells import Cells
from fedbench.tracking.mlflow.client import MAX_BATCH, StoreClient
from fedbench.tracking.mlflow.describe import NOTE
from fedbench.tracking.mlflow.errors import store_errors
from fedbench.tracking.mlflow.models import discard_run, log_model
from fedbench.tracking.mlflow.reading import is_finished, runs_of, stored_result
from fedbench.tracking.mlflow.store import local_folder
from fedbench.tracking.records import (
    CORRELATIONS_FILE,
    INTERPOLATION,
    STEPS_PER_THETA,
    confusion_csv,
    correlations_json,
)
from fedbench.util.errors import StoreError

FLUSH_SECONDS = 5.0  # how long a round's metrics may wait for the next batch
TRACKING_SECONDS = "tracking_seconds"


class MlflowRun:
    """A run under way in an MLflow store; see `fedbench.tracking.TrackedRun`. Metrics are written in batches.

    Parameters
    ----------
    invocation
        What the run's tag ``fedbench.invocation`` is as long as no other command has taken the run up.
    recorded
        The last round that the store has.
    is_fresh
        Whether it stays next to a finished run of the same fingerprint.
    """

    def __init__(
        self,
        client: StoreClient,
        cells: Cells,
        run: Run,
        invocation: str,
        recorded: int = 0,
        is_fresh: bool = False,
    ) -> None:
        self.client = client
        self.cells = cells
        self.run_id = str(run.info.run_id)
        self.seconds = 0.0  # what recording the run has taken so far
        self._experiment_id = str(run.info.experiment_id)
        self._fingerprint = run.data.tags["fedbench.fingerprint"]
        self._known = run.data.metrics
        self._invocation = invocation
        self._recorded = recorded
        self._may_be_doubled = local_folder(client.uri) is None and not is_fresh
        self._waiting: list[Metric] = []
        self._last_flush = time.monotonic()
        self._has_ended = False

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        with self._timed():
            self.cells.remember(self.run_id, step, metrics)
            if step <= self._recorded:
                return
            self._recorded = step
            self._wait(step, metrics)
            if time.monotonic() - self._last_flush > FLUSH_SECONDS or len(self._waiting) > MAX_BATCH:
                self._flush()

    def _remember_once(self, step: int, metrics: Mapping[str, float]) -> None:
        self.cells.remember(self.run_id, step, metrics)
        self._wait(step, {key: value for key, value in metrics.items() if key not in self._known})

    def _wait(self, step: int, metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._waiting += [Metric(key, value, now, step) for key, value in metrics.items()]

    def _is_ours(self) -> bool:
        """Whether no other command resumed, ended or deleted the run while this process was asleep."""
        run = self.client.get_run(self.run_id)
        is_under_way = run.info.status == "RUNNING" and run.info.lifecycle_stage == "active"
        return is_under_way and bool(run.data.tags.get("fedbench.invocation") == self._invocation)

    def _require_ours(self) -> None:
        if not self._is_ours():
            self._has_ended = True
            raise StoreError(
                f"run {self.run_id} was taken up or deleted by another command while this one did not answer: it "
                "writes nothing more; the same command resumes"
            )

    def _flush(self, tags: Mapping[str, str] | None = None) -> None:
        """Write what waits. MLflow keeps a metric once that was written before an interruption."""
        self._require_ours()
        self.client.log_all(self.run_id, self._waiting, tags=tags)
        self._waiting = []
        self._last_flush = time.monotonic()

    def log_final(self, final: FinalRecord) -> None:
        """See `fedbench.tracking.TrackedRun`. docs/reference/mlflow.md lists the artifacts; a line's step is 100 θ."""
        self._require_ours()
        for name, line in final.lines.items():
            for theta, loss, accuracy in line:
                values = {f"{INTERPOLATION}{name}loss": loss, f"{INTERPOLATION}{name}accuracy": accuracy}
                self._remember_once(round(STEPS_PER_THETA * theta), values)
        with self._timed(), store_errors(self.client.uri):
            if final.confusion is not None:
                text = confusion_csv(final.confusion, final.class_names)
                self.cells.remember_confusion(self.run_id, text)
                self.client.log_text(self.run_id, text, "confusion.csv")
            if final.correlations:
                self.client.log_text(self.run_id, correlations_json(final.correlations), CORRELATIONS_FILE)
            if final.partition is not None:
                self.client.log_text(self.run_id, final.partition.csv(), "partition.csv")
                if (skew := label_skew(final.partition.counts)) is not None:
                    self._remember_once(self._recorded, {LABEL_SKEW: skew})
            if final.model is not None:
                log_model(self.client, self._experiment_id, self.run_id, final)

    def finish(self, result: RunResult) -> RunResult:
        """See `fedbench.tracking.TrackedRun`."""
        tags = {**result.computed_by, "fedbench.verdict": str(result.verdict)}
        if result.reason:
            tags |= {"fedbench.reason": result.reason, NOTE: f"{result.verdict}: {result.reason}"}
        self._remember_once(self._recorded, {TRACKING_SECONDS: self._known.get(TRACKING_SECONDS, self.seconds)})
        self._flush(tags)
        self._end("FAILED" if result.verdict is Verdict.FAILED else "FINISHED")
        return self._single(result) if self._may_be_doubled and result.verdict is not Verdict.FAILED else result

    def _single(self, result: RunResult) -> RunResult:
        """Leave one finished run of the fingerprint, the first, if another machine computed it too; its result."""
        same = runs_of(self.client, self._experiment_id, self._fingerprint)
        same = sorted(filter(is_finished, same), key=lambda run: (run.info.start_time, run.info.run_id))
        for other in same[1:]:
            discard_run(self.client, other)
        return stored_result(same[0]) if same else result  # somebody may have altered it already

    def kill(self, reason: str) -> None:
        """See `fedbench.tracking.TrackedRun`. A store that is away is not waited for."""
        if self._has_ended:
            return
        self.client.hurry()
        self._flush({"fedbench.reason": reason})
        self._end("KILLED")

    def _end(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status)
        self._has_ended = True

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
