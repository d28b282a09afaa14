"""One run while it is recorded in MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from fedbench.measures import LABEL_SKEW, RunResult, Verdict
from fedbench.partitions.skew import label_skew
from fedbench.partitions.table import PartitionTable
from fedbench.tracking.mlflow.cells import Cells
from fedbench.tracking.mlflow.ownership import Ownership
from fedbench.tracking.mlflow.repeated import discard_models
from fedbench.tracking.mlflow.server import repeats
from fedbench.tracking.mlflow.store import MAX_BATCH, store_errors
from fedbench.tracking.mlflow.waiting import is_away
from fedbench.tracking.records import INTERPOLATION, STEPS_PER_THETA, confusion_csv
from fedbench.util.environment import public_version

if TYPE_CHECKING:
    import numpy as np
    from mlflow.models.model import ModelInfo
    from numpy.typing import NDArray
    from torch import nn
    from torch.export import ExportedProgram

ATTEMPTS = 5  # to store a model through a network that loses answers
FLUSH_SECONDS = 5.0  # how long a round's metrics may wait for the next batch
TRACKING_SECONDS = "tracking_seconds"


_programs: dict[str, ExportedProgram] = {}  # by the model's name


@contextmanager
def exported_once(name: str) -> Iterator[None]:
    """Let a model's program be exported once in this process; the next time only the numbers in it change.

    MLflow exports each model that it stores, which takes longer than all the rest of storing it, and the programs of
    models of one name differ in their parameters and buffers alone.
    """
    import torch

    export = torch.export.export

    def export_or_refill(module: nn.Module, *arguments: Any, **options: Any) -> ExportedProgram:
        program = _programs.get(name)
        if program is None:
            program = export(module, *arguments, **options)
            if not program.constants:  # buffers that are in no state dict: they are the module's own
                _programs[name] = program
            return program
        state = module.state_dict()
        with torch.no_grad():
            for key, tensor in program.state_dict.items():
                tensor.copy_(state[key])
        return program

    torch.export.export = export_or_refill  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.export.export = export


class MlflowRun:
    """A run under way in an MLflow store. Metrics are written in batches.

    Attributes
    ----------
    seconds
        What recording the run has taken so far.
    """

    def __init__(self, ownership: Ownership, cells: Cells, run: Run, recorded: int) -> None:
        self.client = ownership.client
        self.uri = ownership.uri
        self.ownership = ownership
        self.cells = cells
        self.run_id = str(run.info.run_id)
        self.seconds = 0.0
        self._recorded = recorded
        self._known = run.data.metrics
        self._artifacts = run.info.artifact_uri
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
            if len(self._waiting) + len(metrics) > MAX_BATCH:
                self._flush()
            now = int(time.time() * 1000)
            self._waiting += [Metric(key, value, now, step) for key, value in metrics.items()]
            if time.monotonic() - self._last_flush > FLUSH_SECONDS and self.is_ours():
                self._flush()

    def log_interpolation(self, points: Sequence[tuple[float, float, float]]) -> None:
        """See `fedbench.tracking.TrackedRun`. The step is 100 θ."""
        now = int(time.time() * 1000)
        metrics = []
        for theta, loss, accuracy in points:
            step = round(STEPS_PER_THETA * theta)
            values = {f"{INTERPOLATION}loss": loss, f"{INTERPOLATION}accuracy": accuracy}
            self.cells.remember(self.run_id, step, values)
            metrics += [Metric(key, value, now, step) for key, value in values.items()]
        if f"{INTERPOLATION}loss" not in self._known:
            self._waiting += metrics

    def _flush(self, tags: Mapping[str, str] | None = None) -> None:
        run_tags = [RunTag(key, value) for key, value in (tags or {}).items()]
        with store_errors(self.uri):
            *batches, last = [
                self._waiting[start : start + MAX_BATCH] for start in range(0, max(len(self._waiting), 1), MAX_BATCH)
            ]
            for batch in batches:
                self.client.log_batch(self.run_id, metrics=batch)
            if last or run_tags:
                self.client.log_batch(self.run_id, metrics=last, tags=run_tags)
        self._waiting = []
        self._last_flush = time.monotonic()

    def log_confusion(self, confusion: NDArray[np.int64], class_names: Sequence[str]) -> None:
        """See `fedbench.tracking.TrackedRun`. It is the artifact ``confusion.csv``."""
        text = confusion_csv(confusion, class_names)
        with self._timed(), store_errors(self.uri):
            self.cells.remember_confusion(self.run_id, text)
            self._log_text(text, "confusion.csv")

    def log_partition(self, table: PartitionTable) -> None:
        """See `fedbench.tracking.TrackedRun`. It is the artifact ``partition.csv`` and the metric ``label_skew``."""
        with self._timed(), store_errors(self.uri):
            self._log_text(table.csv(), "partition.csv")
        if (skew := label_skew(table.counts)) is not None:
            self.cells.remember(self.run_id, self._recorded, {LABEL_SKEW: skew})
            if LABEL_SKEW not in self._known:
                self._waiting.append(Metric(LABEL_SKEW, skew, int(time.time() * 1000), self._recorded))

    def _log_text(self, text: str, name: str) -> None:
        """As MLflow's client does it, but for asking where the run's artifacts are, which is known."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            place = get_artifact_repository(self._artifacts, tracking_uri=self.uri)
            place.log_artifact(str(path))  # type: ignore[no-untyped-call]

    def log_model(self, name: str, model: nn.Module, example: NDArray[np.float32], num_classes: int) -> None:
        """See `fedbench.tracking.TrackedRun`. The model is stored as an exported program, without pickle."""
        import mlflow.pytorch
        import torch
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        signature = ModelSignature(
            Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
            Schema([TensorSpec(example.dtype, (-1, num_classes))]),
        )
        log_once = partial(
            mlflow.pytorch.log_model,
            model.eval(),
            name="model",
            signature=signature,
            input_example=example,
            pip_requirements=[f"torch=={public_version(torch.__version__)}"],
            run_id=self.run_id,  # not an active run, whose end would mark it finished before its result is written
            validate_serving_input=False,  # that loads the model again, half as long as storing it; tests do so
        )
        with self._timed(), store_errors(self.uri), redirect_stdout(StringIO()), exported_once(name):
            self._without_twins(log_once)

    def _without_twins(self, log_once: Callable[[], ModelInfo]) -> None:
        """Store a model, again if a request that was repeated was refused, and delete what that left behind."""
        first = repeats()
        for attempt in range(1, ATTEMPTS + 1):
            before = repeats()
            try:
                model_id = log_once().model_id
            except MlflowException:
                if repeats() == before or is_away() or attempt == ATTEMPTS:
                    raise
            else:
                break
        if repeats() != first:
            discard_models(self.client, self.ownership.experiment_id, self.run_id, kept=model_id)

    def is_ours(self) -> bool:
        """See `fedbench.tracking.TrackedRun`."""
        return self.ownership.owns(self.run_id)

    def finish(self, result: RunResult) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        tags = {"fedbench.verdict": str(result.verdict)}
        if result.reason:
            tags |= {"fedbench.reason": result.reason, "mlflow.note.content": f"{result.verdict}: {result.reason}"}
        seconds = self._known.get(TRACKING_SECONDS, self.seconds)
        self.cells.remember(self.run_id, self._recorded, {TRACKING_SECONDS: seconds})
        if TRACKING_SECONDS not in self._known:
            self._waiting.append(Metric(TRACKING_SECONDS, seconds, int(time.time() * 1000), self._recorded))
        with store_errors(self.uri):  # all of it before an interruption
            self._flush(tags)
            self._end("FAILED" if result.verdict is Verdict.FAILED else "FINISHED")

    def kill(self, reason: str) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        if self._has_ended:
            return
        with store_errors(self.uri):
            if self.is_ours():
                self._flush({"fedbench.reason": reason})
                self._end("KILLED")

    def _end(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status)
        self._has_ended = True
        self.ownership.release(self.run_id)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
