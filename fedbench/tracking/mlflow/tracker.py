"""Runs in MLflow: a suite is an experiment, a run is a run. docs/reference/mlflow.md lists what is written."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag, Run

from fedbench.measures import RunResult
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.mlflow.answers import CONTRAST
from fedbench.tracking.mlflow.cells import CELL, Cells
from fedbench.tracking.mlflow.client import REQUEST
from fedbench.tracking.mlflow.database import mlflow_uri
from fedbench.tracking.mlflow.describe import NOTE, suite_note
from fedbench.tracking.mlflow.door import param_texts
from fedbench.tracking.mlflow.experiments import open_experiment
from fedbench.tracking.mlflow.models import discard_models, discard_run
from fedbench.tracking.mlflow.reading import (
    each_run,
    is_finished,
    is_unfinished,
    read_history,
    require_schema,
    runs_of,
    stored_result,
    without_numbers,
)
from fedbench.tracking.mlflow.run import MlflowRun
from fedbench.tracking.mlflow.store import (
    checkpoint_folder,
    default_tracking_uri,
    local_folder,
    open_store,
    require_space,
)
from fedbench.tracking.mlflow.views import view_tags
from fedbench.util.environment import environment_tags
from fedbench.util.errors import StoreError
from fedbench.util.locks import try_lock

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.suites.schema import RunSpec, Suite

SOURCE = "fedbench.source."  # with the kind of a part that is not built in: SHA-256 of its source
MAX_DIGEST = 36  # characters, MLflow's limit


class MlflowTracker:
    """A suite's experiment in an MLflow store; see `fedbench.tracking.Tracker`.

    Raises `StoreError` if the store cannot be opened or written, or was made by a newer MLflow or a newer fedbench.
    """

    def __init__(self, suite: Suite, tracking_uri: str | None = None) -> None:
        self.suite = suite
        self.uri = tracking_uri or default_tracking_uri()
        self.client = open_store(self.uri)
        self.checkpoints = checkpoint_folder(self.uri)
        mlflow.set_tracking_uri(mlflow_uri(self.uri))  # for addresses such as models:/NAME, which name no store
        first = {NOTE: suite_note(suite.question, ()), "fedbench.schema": str(SCHEMA_VERSION)}
        tags = view_tags() | {CONTRAST: suite.contrast.model_dump_json()}
        self.experiment_id = open_experiment(self.client, suite.name, tags, first, require_schema)
        self.cells = Cells(self.client, self.experiment_id)
        self._invocation = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}"

    def finished_runs(self) -> Mapping[str, RunResult]:
        """See `fedbench.tracking.Tracker`."""
        finished: dict[str, RunResult] = {}
        unfinished: list[Run] = []
        for run in each_run(self.client, self.experiment_id, f"tags.`{CELL}` LIKE '%'"):
            known = without_numbers(run)
            if run.data.tags["fedbench.kind"] == "run" and is_finished(run):
                finished[run.data.tags["fedbench.fingerprint"]] = stored_result(run)  # of equal ones, the latest
            elif is_unfinished(run):
                unfinished.append(known)
            self.cells.see(known)
        if local_folder(self.uri):
            self._discard([run for run in unfinished if run.data.tags.get("fedbench.fingerprint") in finished])
        return finished

    def _discard(self, left: Iterable[Run]) -> None:
        """Delete runs that processes have left, which nothing would resume."""
        for run in left:
            if held := try_lock(self.checkpoints / f"{run.data.tags['fedbench.fingerprint']}.lock"):
                with held:
                    if is_unfinished(self.client.get_run(run.info.run_id)):
                        discard_run(self.client, run)

    def start_run(
        self,
        run: RunSpec,
        fingerprint: str,
        cell_fingerprint: str,
        dataset: Dataset,
        rounds: int,
        fresh: bool,
        key: str = "",
    ) -> MlflowRun | RunResult:
        """See `fedbench.tracking.Tracker`."""
        began = time.perf_counter()
        require_space(self.uri)
        same = runs_of(self.client, self.experiment_id, fingerprint)
        finished = [each for each in same if is_finished(each)]
        if finished and not fresh:
            return stored_result(finished[-1])
        found = self._resumable([each for each in same if is_unfinished(each)], rounds, key)
        try:
            ours = found or self._create(run, fingerprint, cell_fingerprint, key)
            self._complete(ours, run, dataset, is_new=found is None)
            recorded = self._recorded(found) if found else 0
            tracked = MlflowRun(self.client, self.cells, ours, self._invocation, recorded, fresh)
            self.cells.touch(cell_fingerprint)
        except BaseException:
            with suppress(StoreError):
                self._abandon(fingerprint, found)
            raise
        tracked.seconds += time.perf_counter() - began
        return tracked

    def _abandon(self, fingerprint: str, found: Run | None) -> None:
        """End a run that could not be begun or resumed; one that is new is deleted, and may not be known here yet."""
        self.client.hurry()
        if found:
            self.client.set_terminated(found.info.run_id, "KILLED")
            return
        for run in runs_of(self.client, self.experiment_id, fingerprint):
            if is_unfinished(run) and run.data.tags["fedbench.invocation"] == self._invocation:
                self.client.delete_run(run.info.run_id)

    def _resumable(self, unfinished: Sequence[Run], rounds: int, key: str) -> Run | None:
        """The run to resume, if there is one.

        In a local store all of them are of processes that have ended, and the others are deleted. On a server they may
        be of a machine with other checkpoints, and are left to it.
        """
        ours = [run for run in unfinished if local_folder(self.uri) or run.data.tags.get(REQUEST) == key]
        # Rounds that were recorded after the checkpoint are computed again, to the same bits.
        resumable = [run for run in ours if rounds or not self._recorded(run)]
        found = resumable[-1] if resumable else None
        for run in ours:
            if run is not found:
                discard_run(self.client, run)
        return found

    def _create(self, run: RunSpec, fingerprint: str, cell_fingerprint: str, key: str) -> Run:
        tags = {
            "fedbench.schema": str(SCHEMA_VERSION),
            "fedbench.kind": "run",
            "fedbench.suite": run.suite,
            "fedbench.scenario": run.scenario,
            "fedbench.cell": run.cell,
            CELL: cell_fingerprint,
            "fedbench.seed": str(run.seed),
            "fedbench.fingerprint": fingerprint,
            **{f"{SOURCE}{part.kind}": part.digest for part in run.spec.parts if part.digest},
            **({REQUEST: key} if key else {}),
            **self._now(),
        }
        return self.client.create_run(self.experiment_id, tags=tags, run_name=f"{run.cell} seed={run.seed}")

    def _now(self) -> dict[str, str]:
        """The tags that say what computes a run now."""
        return {"fedbench.invocation": self._invocation, **environment_tags()}

    def _complete(self, ours: Run, run: RunSpec, dataset: Dataset, is_new: bool) -> None:
        """Give a run its parameters and its dataset, which it lacks if its process died early, and let it run."""
        run_id = ours.info.run_id
        texts = param_texts({"seed": run.seed, **run.spec.values})
        params = {key: text for key, text in texts.items() if key not in ours.data.params}
        if is_new:
            self.client.log_all(run_id, params=params)
        else:
            if "fedbench.reason" in ours.data.tags:
                self.client.delete_tag(run_id, "fedbench.reason")
            if ours.info.status != "RUNNING":
                self.client.update_run(run_id, status="RUNNING")
            self.client.log_all(run_id, params=params, tags=self._now())
            discard_models(self.client, ours)  # one that may be half written
        for part in run.spec.parts:
            if part.digest:
                name, text = part.source()
                self.client.log_text(run_id, text, f"parts/{part.kind}/{name}")
        if not (ours.inputs and ours.inputs.dataset_inputs):
            try:
                self.client.log_inputs(run_id, [_dataset_input(dataset)])
            except StoreError:  # another process recorded the same dataset between MLflow's look and its write
                self.client.log_inputs(run_id, [_dataset_input(dataset)])

    def _recorded(self, run: Run) -> int:
        """The last round that is in the store."""
        return max(read_history(self.client, run.info.run_id, "accuracy"), default=0)

    def finish_cell(self, cell_fingerprint: str) -> None:
        """See `fedbench.tracking.Tracker`."""
        self.cells.finish(cell_fingerprint)


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
