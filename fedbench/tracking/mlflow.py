"""Runs in MLflow: a suite is an experiment, a run is a run. docs/tracking.md says what is written."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from fedbench.errors import FedbenchError
from fedbench.measures import RunResult, Verdict
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.cells import Cells, confusion_csv
from fedbench.tracking.claims import HEARTBEAT_SECONDS, Claim, ClaimState, Decision, claims_of, decide
from fedbench.tracking.environment import environment_tags, public_version
from fedbench.tracking.store import (  # first: it sets MLflow up
    MAX_BATCH,
    checkpoint_folder,
    default_tracking_uri,
    local_folder,
    open_store,
    require_not_deleted,
    require_space,
    store_errors,
    without_password,
)
from fedbench.tracking.stored import (
    INTERPOLATION,
    STEPS_PER_THETA,
    is_finished,
    require_schema,
    search_runs,
    stored_result,
)
from fedbench.tracking.views import view_tags

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from fedbench.datasets import Dataset
    from fedbench.specs import RunSpec, Suite

FLUSH_SECONDS = 5.0  # how long a round's metrics may wait for the next batch
UNFINISHED = ("RUNNING", "SCHEDULED", "KILLED")
WAIT_SECONDS = 0.05  # until another process that wants the same run has made up its mind
TRACKING_SECONDS = "tracking_seconds"
MAX_DIGEST = 36  # characters, MLflow's limit
HOW_TO_READ = """

**How to read it.** Runs with the tag `fedbench.kind` = `run` are one seed of a cell each; group them by the tag
`fedbench.cell` to see a cell's mean and range. Runs with `fedbench.kind` = `cell` hold each cell's mean, standard
deviation and 95 % interval over its seeds. `fedbench.verdict` = `collapsed` means: no better than naming the largest
class (`majority_rate`). `fedbench report` puts it all on one page.
"""


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
        self.checkpoints = checkpoint_folder(self.uri)
        mlflow.set_tracking_uri(self.uri)  # for mlflow.pytorch.log_model, which takes no client
        with store_errors(self.uri):
            self.experiment_id = self._open_experiment()
            mlflow.set_experiment(experiment_id=self.experiment_id)  # likewise
        self.cells = Cells(self.client, self.uri, self.experiment_id)
        self._claim = Claim.of_this_process()
        self._invocation = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{self._claim.name[:4]}"
        self._own: set[str] = set()  # the runs that this process works on
        self._owning = Lock()
        self._closed = Event()
        self._heart: Thread | None = None

    def _open_experiment(self) -> str:
        name, place = self.suite.name, without_password(self.uri)
        tags = {
            "fedbench.schema": str(SCHEMA_VERSION),
            "mlflow.note.content": self.suite.question + HOW_TO_READ,
            **view_tags(),
        }
        experiment: Experiment | None = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = (folder / "artifacts" / name).as_uri() if (folder := local_folder(self.uri)) else None
            try:
                return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
            except MlflowException:  # another process was quicker
                if (experiment := self.client.get_experiment_by_name(name)) is None:
                    raise
        require_not_deleted(experiment, self.uri)
        require_schema(experiment, place)
        if experiment.tags["fedbench.schema"] != str(SCHEMA_VERSION):
            self._upgrade(experiment.experiment_id)
        for key, value in tags.items():  # last of all the schema's version: until then it is an older store
            if experiment.tags.get(key) != value and key != "fedbench.schema":
                self.client.set_experiment_tag(experiment.experiment_id, key, value)
        self.client.set_experiment_tag(experiment.experiment_id, "fedbench.schema", str(SCHEMA_VERSION))
        return str(experiment.experiment_id)

    def _upgrade(self, experiment_id: str) -> None:
        """Give the runs of schema 1 the tag that schema 2 tells runs, cells and reports apart by."""
        for run in search_runs(self.client, experiment_id, "tags.`fedbench.fingerprint` IS NOT NULL"):
            if "fedbench.kind" not in run.data.tags:
                self.client.set_tag(run.info.run_id, "fedbench.kind", "run")

    def finished_runs(self) -> Mapping[str, RunResult]:
        """See `fedbench.tracking.Tracker`."""
        with store_errors(self.uri):
            seen = search_runs(self.client, self.experiment_id, "tags.`fedbench.kind` != 'superseded'")
        self.cells.seen = seen
        runs = [run for run in seen if run.data.tags["fedbench.kind"] == "run" and is_finished(run)]
        return {run.data.tags["fedbench.fingerprint"]: stored_result(run) for run in runs}  # of equals, the latest

    def start_run(
        self, run: RunSpec, fingerprint: str, cell_fingerprint: str, dataset: Dataset, rounds: int, fresh: bool
    ) -> MlflowRun | RunResult | None:
        """See `fedbench.tracking.Tracker`."""
        began = time.perf_counter()
        require_space(self.uri)
        self._start_background()
        with store_errors(self.uri):
            runs = self._runs_of(fingerprint)
            if not fresh and (result := _result_among(runs)):
                return result
            if self._rivals(runs):
                return None
            found = next((each for each in runs if _is_cut_off(each) and self._recorded(each) <= rounds), None)
            run_id = found.info.run_id if found else self._create(run, fingerprint, cell_fingerprint, dataset)
            if found:
                self._set_claim(run_id, "wanted")
            answer = self._contend(run_id, fingerprint, fresh)
            if answer is None or isinstance(answer, RunResult):
                self._withdraw(run_id, was_created=found is None)
                return answer
            recorded = self._take_up(found, run, cell_fingerprint, dataset) if found else 0
            for other in answer:
                if other.info.run_id != run_id and _is_cut_off(other):  # and nothing can be made of it
                    self._supersede(other)
            self._own.add(run_id)
        tracked = MlflowRun(self, run_id, recorded, found.data.metrics if found else {})
        tracked.seconds += time.perf_counter() - began
        self.cells.touched.add(cell_fingerprint)
        return tracked

    def _create(self, run: RunSpec, fingerprint: str, cell_fingerprint: str, dataset: Dataset) -> str:
        claim = self._claim.refreshed("wanted")
        tags = {
            "fedbench.schema": str(SCHEMA_VERSION),
            "fedbench.kind": "run",
            "fedbench.suite": run.suite,
            "fedbench.scenario": run.scenario,
            "fedbench.cell": run.cell,
            "fedbench.cell_fingerprint": cell_fingerprint,
            "fedbench.seed": str(run.seed),
            "fedbench.fingerprint": fingerprint,
            claim.tag: claim.text(),
            **self._now(),
        }
        created = self.client.create_run(self.experiment_id, run_name=f"{run.cell} seed={run.seed}", tags=tags)
        run_id = str(created.info.run_id)
        try:
            self._log_params(run_id, run)
            self._log_input(run_id, _dataset_input(dataset))
        except BaseException:  # nobody else knows of this run yet
            with suppress(MlflowException):
                self.client.delete_run(run_id)
            raise
        return run_id

    def _now(self) -> dict[str, str]:
        """The tags that say what computes a run now."""
        return {"fedbench.invocation": self._invocation, **environment_tags()}

    def _log_params(self, run_id: str, run: RunSpec) -> None:
        params = {"seed": run.seed, **run.spec.model_dump()}
        self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def _log_input(self, run_id: str, dataset: DatasetInput) -> None:
        try:
            self.client.log_inputs(run_id, [dataset])
        except MlflowException:  # another process put the same dataset in between MLflow's look and its write
            self.client.log_inputs(run_id, [dataset])

    def _recorded(self, run: Run) -> int:
        """The last round that is in the store."""
        if "accuracy" not in run.data.metrics:
            return 0
        return max(metric.step for metric in self.client.get_metric_history(run.info.run_id, "accuracy"))

    def _set_claim(self, run_id: str, state: ClaimState) -> None:
        claim = self._claim.refreshed(state)
        self.client.set_tag(run_id, claim.tag, claim.text())

    def _runs_of(self, fingerprint: str) -> list[Run]:
        wanted = f"tags.`fedbench.fingerprint` = '{fingerprint}' and tags.`fedbench.kind` = 'run'"
        return search_runs(self.client, self.experiment_id, wanted)

    def _rivals(self, runs: Iterable[Run]) -> list[Claim]:
        """Claims of other live processes on runs that are not finished."""
        claims = [claim for run in runs if _is_cut_off(run) for claim in claims_of(run.data.tags)]
        return [claim for claim in claims if claim.name != self._claim.name and claim.is_alive()]

    def _contend(self, run_id: str, fingerprint: str, fresh: bool) -> list[Run] | RunResult | None:
        """All runs of the fingerprint once this one is ours; else the result of another process, or None."""
        while True:
            runs = self._runs_of(fingerprint)
            if result := _result_among(run for run in runs if not fresh or run.info.run_id == run_id):
                return result
            match decide(self._claim, self._rivals(runs)):
                case Decision.OWN:
                    self._set_claim(run_id, "owned")
                    return runs
                case Decision.LEAVE:
                    return None
            time.sleep(WAIT_SECONDS)

    def _withdraw(self, run_id: str, was_created: bool) -> None:
        with suppress(MlflowException):
            if was_created:
                self.client.delete_run(run_id)
            else:
                self.client.delete_tag(run_id, self._claim.tag)

    def _take_up(self, run: Run, spec: RunSpec, cell_fingerprint: str, dataset: Dataset) -> int:
        """Make an unfinished run of another process ours; the last round that it recorded."""
        run_id = run.info.run_id
        self._log_params(run_id, spec)  # it may have been killed before it could
        if not (run.inputs and run.inputs.dataset_inputs):
            self._log_input(run_id, _dataset_input(dataset))
        for claim in claims_of(run.data.tags):
            if claim.name != self._claim.name:
                self.client.delete_tag(run_id, claim.tag)
        if "fedbench.reason" in run.data.tags:
            self.client.delete_tag(run_id, "fedbench.reason")
        if run.info.status != "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
        tags = {"fedbench.schema": str(SCHEMA_VERSION), "fedbench.cell_fingerprint": cell_fingerprint, **self._now()}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        for output in run.outputs.model_outputs if run.outputs else ():  # a model that may be half written
            with suppress(MlflowException):
                self.client.delete_logged_model(output.model_id)
        return self._recorded(run)

    def _supersede(self, run: Run) -> None:
        if run.info.status == "RUNNING":
            self.client.set_terminated(run.info.run_id, "KILLED")
        self.client.set_tag(run.info.run_id, "fedbench.kind", "superseded")

    def finish_cell(self, cell_fingerprint: str, fingerprints: Collection[str]) -> None:
        """See `fedbench.tracking.Tracker`."""
        self.cells.finish(cell_fingerprint, fingerprints)

    def owns(self, run_id: str) -> bool:
        """Whether a run is still this process's."""
        with store_errors(self.uri):
            run = self.client.get_run(run_id)
        return run.info.lifecycle_stage == "active" and self._claim.tag in run.data.tags

    def release(self, run_id: str) -> None:
        """Give up the claim on a run."""
        with self._owning, store_errors(self.uri), suppress(MlflowException):  # it may be gone
            self._own.discard(run_id)
            self.client.delete_tag(run_id, self._claim.tag)

    def close(self) -> None:
        """See `fedbench.tracking.Tracker`."""
        for run_id in sorted(self._own):  # it was begun when an interruption came, and nobody knows of it
            with suppress(FedbenchError):
                MlflowRun(self, run_id, 0, {}).kill("interrupted")
        self._closed.set()
        if self._heart:
            self._heart.join()

    def _start_background(self) -> None:
        if self._heart is None:
            self._heart = Thread(target=self._beat, daemon=True)
            self._heart.start()
            Thread(target=_import_what_storing_models_takes, daemon=True).start()

    def _beat(self) -> None:
        """Say of each run under way, now and then, that this process still works on it."""
        while not self._closed.wait(HEARTBEAT_SECONDS):
            with self._owning, suppress(FedbenchError), store_errors(self.uri):  # the main thread sees what is wrong
                self._own = {run_id for run_id in self._own if self.owns(run_id)}  # it may have been asleep for minutes
                for run_id in self._own:
                    self._set_claim(run_id, "owned")


class MlflowRun:
    """A run under way in an MLflow store. Metrics are written in batches.

    Attributes
    ----------
    seconds
        What recording the run has taken so far.
    """

    def __init__(self, tracker: MlflowTracker, run_id: str, recorded: int, metrics: Mapping[str, float]) -> None:
        self.tracker = tracker
        self.client = tracker.client
        self.uri = tracker.uri
        self.run_id = run_id
        self.seconds = 0.0
        self._recorded = recorded
        self._known = metrics
        self._waiting: list[Metric] = []
        self._last_flush = time.monotonic()
        self._has_ended = False

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        with self._timed():
            self.tracker.cells.remember(self.run_id, step, metrics)
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
            self.tracker.cells.remember(self.run_id, step, values)
            metrics += [Metric(key, value, now, step) for key, value in values.items()]
        if f"{INTERPOLATION}loss" not in self._known:
            self._waiting += metrics

    def _flush(self, tags: Mapping[str, str] | None = None) -> None:
        run_tags = [RunTag(key, value) for key, value in (tags or {}).items()]
        with store_errors(self.uri):
            for start in range(0, len(self._waiting), MAX_BATCH):
                self.client.log_batch(self.run_id, metrics=self._waiting[start : start + MAX_BATCH])
            if run_tags:
                self.client.log_batch(self.run_id, tags=run_tags)
        self._waiting = []
        self._last_flush = time.monotonic()

    def log_confusion(self, confusion: NDArray[np.int64], class_names: Sequence[str]) -> None:
        """See `fedbench.tracking.TrackedRun`. It is the artifact ``confusion.csv``."""
        text = confusion_csv(confusion, class_names)
        with self._timed(), store_errors(self.uri):
            self.tracker.cells.remember_confusion(self.run_id, text)
            self.client.log_text(self.run_id, text, "confusion.csv")

    def log_model(self, model: nn.Module, example: NDArray[np.float32], num_classes: int) -> None:
        """See `fedbench.tracking.TrackedRun`. The model is stored as an exported program, without pickle."""
        import mlflow.pytorch
        import torch
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        signature = ModelSignature(
            Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
            Schema([TensorSpec(example.dtype, (-1, num_classes))]),
        )
        with self._timed(), store_errors(self.uri), redirect_stdout(StringIO()):
            mlflow.pytorch.log_model(
                model.eval(),
                name="model",
                signature=signature,
                input_example=example,
                pip_requirements=[f"torch=={public_version(torch.__version__)}"],
                run_id=self.run_id,  # not an active run, whose end would mark it finished before its result is written
                validate_serving_input=False,  # that loads the model again, half as long as storing it; tests do so
            )

    def is_ours(self) -> bool:
        """See `fedbench.tracking.TrackedRun`."""
        return self.tracker.owns(self.run_id)

    def finish(self, result: RunResult) -> None:
        """See `fedbench.tracking.TrackedRun`."""
        tags = {"fedbench.verdict": str(result.verdict)}
        if result.reason:
            tags |= {"fedbench.reason": result.reason, "mlflow.note.content": f"{result.verdict}: {result.reason}"}
        seconds = self._known.get(TRACKING_SECONDS, self.seconds)
        self.tracker.cells.remember(self.run_id, self._recorded, {TRACKING_SECONDS: seconds})
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
        self.tracker.release(self.run_id)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


def _is_cut_off(run: Run) -> bool:
    """Whether a run is not finished: some process works on it, or none does any more."""
    return run.info.status in UNFINISHED


def _result_among(runs: Iterable[Run]) -> RunResult | None:
    """The result of the latest finished run."""
    finished = [run for run in runs if is_finished(run)]
    return stored_result(finished[-1]) if finished else None


def _import_what_storing_models_takes() -> None:
    """Import in the background, while the first run is computed, what takes seconds when the first one ends."""
    import torch._dynamo
    import torch.export._trace  # noqa: F401


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
