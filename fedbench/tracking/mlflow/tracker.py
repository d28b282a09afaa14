"""Runs in MLflow: a suite is an experiment, a run is a run. docs/tracking.md says what is written."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, Experiment, InputTag, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from fedbench.measures import RunResult
from fedbench.tracking import SCHEMA_VERSION
from fedbench.tracking.mlflow.cells import Cells
from fedbench.tracking.mlflow.claims import claims_of
from fedbench.tracking.mlflow.ownership import Ownership, is_cut_off, result_among
from fedbench.tracking.mlflow.reading import (
    each_run,
    is_finished,
    require_schema,
    search_runs,
    stored_result,
    without_numbers,
)
from fedbench.tracking.mlflow.repeated import create_run, delete_tag, discard_models, discard_run, set_experiment_tags
from fedbench.tracking.mlflow.run import MlflowRun
from fedbench.tracking.mlflow.store import (  # first: it sets MLflow up
    checkpoint_folder,
    default_tracking_uri,
    local_folder,
    open_store,
    require_not_deleted,
    require_space,
    store_errors,
    without_password,
)
from fedbench.tracking.mlflow.views import view_tags
from fedbench.util.environment import environment_tags
from fedbench.util.errors import FedbenchError

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.suites.schema import RunSpec, Suite

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
        self.ownership = Ownership(self.client, self.uri, self.experiment_id)
        self._begun: set[str] | None = None  # fingerprints that have runs; None: ask each time
        self._invocation = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{self.ownership.claim.name[:4]}"

    def _open_experiment(self) -> str:
        name, place = self.suite.name, without_password(self.uri)
        tags = {
            "mlflow.note.content": self.suite.question + HOW_TO_READ,
            **view_tags(),
            "fedbench.schema": str(SCHEMA_VERSION),  # last: until then it is an older store
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
        set_experiment_tags(self.client, experiment, tags)
        return str(experiment.experiment_id)

    def _upgrade(self, experiment_id: str) -> None:
        """Give the runs of schema 1 the tag that schema 2 tells runs, cells and reports apart by."""
        for run in search_runs(self.client, experiment_id, "tags.`fedbench.fingerprint` IS NOT NULL"):
            if "fedbench.kind" not in run.data.tags:
                self.client.set_tag(run.info.run_id, "fedbench.kind", "run")

    def finished_runs(self) -> Mapping[str, RunResult]:
        """See `fedbench.tracking.Tracker`."""
        finished: dict[str, RunResult] = {}
        self._begun = set()
        with store_errors(self.uri):
            for run in each_run(self.client, self.experiment_id, "tags.`fedbench.kind` != 'superseded'"):
                fingerprint = run.data.tags.get("fedbench.fingerprint", "")
                self._begun.add(fingerprint)
                if run.data.tags["fedbench.kind"] == "run" and is_finished(run):
                    finished[fingerprint] = stored_result(run)  # of equals, the latest
                self.cells.see(without_numbers(run))
        return finished

    def start_run(
        self, run: RunSpec, fingerprint: str, cell_fingerprint: str, dataset: Dataset, rounds: int, fresh: bool
    ) -> MlflowRun | RunResult | None:
        """See `fedbench.tracking.Tracker`."""
        began = time.perf_counter()
        require_space(self.uri)
        self.ownership.begin()
        with store_errors(self.uri):
            runs = self._runs_of(fingerprint)
            if not fresh and (result := result_among(runs)):
                return result
            if self.ownership.rivals(runs):
                return None
            # Rounds after the checkpoint, if some are recorded, are computed again to the same bits.
            found = next((each for each in runs if is_cut_off(each) and (rounds or not self._recorded(each))), None)
            if found:
                self.ownership.want(found.info.run_id)
            ours = found or self._create(run, fingerprint, cell_fingerprint)
            run_id = str(ours.info.run_id)
            try:
                answer = self.ownership.contend(run_id, fingerprint, fresh, _params(run))
                if answer is None or isinstance(answer, RunResult):
                    self._withdraw(run_id, was_created=found is None)
                    self._begun = None
                    return answer
                if not (found and found.inputs and found.inputs.dataset_inputs):
                    self._log_input(run_id, _dataset_input(dataset))
            except BaseException:
                if found is None:  # nobody else knows of this run yet
                    discard_run(self.client, run_id)
                raise
            recorded = self._take_up(found, cell_fingerprint) if found else 0
            for other in answer:
                if other.info.run_id != run_id and is_cut_off(other):  # and nothing can be made of it
                    self._supersede(other)
        tracked = MlflowRun(self.ownership, self.cells, ours, recorded)
        tracked.seconds += time.perf_counter() - began
        self.cells.touched.add(cell_fingerprint)
        return tracked

    def _runs_of(self, fingerprint: str) -> list[Run]:
        """The runs of a fingerprint; where there were none at first, and no other command is met, it is not asked."""
        if self._begun is not None and fingerprint not in self._begun:
            self._begun.add(fingerprint)
            return []
        return self.ownership.runs_of(fingerprint)

    def _create(self, run: RunSpec, fingerprint: str, cell_fingerprint: str) -> Run:
        claim = self.ownership.claim.refreshed("wanted")
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
        return create_run(self.client, self.experiment_id, f"{run.cell} seed={run.seed}", tags)

    def _now(self) -> dict[str, str]:
        """The tags that say what computes a run now."""
        return {"fedbench.invocation": self._invocation, **environment_tags()}

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

    def _withdraw(self, run_id: str, was_created: bool) -> None:
        if was_created:
            discard_run(self.client, run_id)
        else:
            self.ownership.release(run_id)

    def _take_up(self, run: Run, cell_fingerprint: str) -> int:
        """Make an unfinished run of another process ours; the last round that it recorded."""
        run_id = run.info.run_id
        for claim in claims_of(run.data.tags):
            if claim.name != self.ownership.claim.name:
                delete_tag(self.client, run_id, claim.tag)
        if "fedbench.reason" in run.data.tags:
            delete_tag(self.client, run_id, "fedbench.reason")
        if run.info.status != "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
        tags = {"fedbench.schema": str(SCHEMA_VERSION), "fedbench.cell_fingerprint": cell_fingerprint, **self._now()}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        discard_models(self.client, self.experiment_id, run_id)  # one that may be half written
        return self._recorded(run)

    def _supersede(self, run: Run) -> None:
        if run.info.status == "RUNNING":
            self.client.set_terminated(run.info.run_id, "KILLED")
        self.client.set_tag(run.info.run_id, "fedbench.kind", "superseded")

    def finish_cell(self, cell_fingerprint: str, fingerprints: Collection[str]) -> None:
        """See `fedbench.tracking.Tracker`."""
        self.cells.finish(cell_fingerprint, fingerprints)

    def close(self) -> None:
        """See `fedbench.tracking.Tracker`."""
        for run_id in self.ownership.end():  # it was begun when an interruption came, and nobody knows of it
            with suppress(FedbenchError), store_errors(self.uri):
                run = self.client.get_run(run_id)
                MlflowRun(self.ownership, self.cells, run, 0).kill("interrupted")


def _params(run: RunSpec) -> list[Param]:
    return [Param(key, str(value)) for key, value in {"seed": run.seed, **run.spec.values}.items()]


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
