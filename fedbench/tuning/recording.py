"""A study in MLflow: a run of its own, with a run for each trial nested below it, and the registered model.

The truth about a study is its Optuna storage; this is written from it. Several commands may work on one study at once:
every run here is made by one of them, who claims it while it writes (see `fedbench.tracking.mlflow.claims`). A run
without a claim is whole; one whose claims are of dead processes alone is made anew.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Param, RunTag

from fedbench.tracking.mlflow.cells import PARENT
from fedbench.tracking.mlflow.claims import Claim, Decision, claims_of, decide
from fedbench.tracking.mlflow.reading import search_runs
from fedbench.tracking.mlflow.registry import register_model
from fedbench.tracking.mlflow.repeated import create_run, delete_tag, discard_run, set_experiment_tags
from fedbench.tracking.mlflow.store import MAX_BATCH, store_errors
from fedbench.tuning import study_records as studies
from fedbench.tuning.views import tuning_view_tags
from fedbench.util.environment import environment_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from fedbench.reports.style import Figure
    from fedbench.tuning.plan import Plan
    from fedbench.tuning.results import Candidate, TrialResult, TuningResult

WAIT_SECONDS = 0.05  # until another process that makes the same run has made up its mind
MAX_REASON = 1_000  # characters of an error that ended the command
STUDY_FILE, TRIALS_FILE, FIGURES = "study.json", "trials.csv", "figures"


class StudyRun:
    """A study's run in the experiment `experiment_id`: found by the study's `identity`, or made.

    It is RUNNING from now on, until `finish` or `kill`.

    Attributes
    ----------
    run_id
        MLflow's id of it.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, plan: Plan, identity: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id
        self.plan = plan
        self.identity = identity
        self._claim = Claim.of_this_process()
        self._recorded: set[int] | None = None  # trials that are whole in the store; None: not looked yet
        self._has_ended = False
        self.run_id = self._find_or_make()
        with store_errors(uri):
            self._begin()

    def _find_or_make(self) -> str:
        wanted = f"tags.`{studies.STUDY}` = '{self.identity}' and tags.`fedbench.kind` = 'study'"
        tags = studies.study_tags(self.plan, self.identity) | environment_tags()
        while True:
            with store_errors(self.uri):
                if found := self._whole(wanted):
                    return found
                if run_id := self._create(wanted, f"tuning {self.plan.cell}", tags):
                    self._release(run_id)
                    return run_id
            time.sleep(WAIT_SECONDS)  # another command makes it

    def _begin(self) -> None:
        """Say that work is being done, as this command does it."""
        run = self.client.get_run(self.run_id)
        if run.info.status == "KILLED":
            delete_tag(self.client, self.run_id, "fedbench.reason")
        missing = {key: value for key, value in studies.study_params(self.plan).items() if key not in run.data.params}
        self._log_batch(self.run_id, params=missing, tags=environment_tags() | studies.wanted_tags(self.plan))
        self._show_as_running(run)
        fields = [axis.field for axis in self.plan.space]
        views = tuning_view_tags(self.identity, fields, self.plan.objective.is_minimised)
        set_experiment_tags(self.client, self.client.get_experiment(self.experiment_id), views)

    def _show_as_running(self, run: Run) -> None:
        if run.info.status != "RUNNING":
            self.client.update_run(self.run_id, status="RUNNING")

    def record(self, trials: Sequence[TrialResult]) -> None:
        """Write the trials that are not in the store yet; those that another command writes are left to it."""
        with store_errors(self.uri):
            if self._recorded is None:
                found = search_runs(self.client, self.experiment_id, self._nested())
                self._recorded = {int(run.data.tags[studies.TRIAL]) for run in found if _is_whole(run)}
            missing = [trial for trial in trials if trial.number not in self._recorded]
            if missing:
                self._show_as_running(self.client.get_run(self.run_id))  # another command may have ended it
        for trial in missing:
            with store_errors(self.uri):  # an interruption comes between two trials
                wanted = f"{self._nested()} and tags.`{studies.TRIAL}` = '{trial.number}'"
                if self._whole(wanted) or self._write_trial(wanted, trial):
                    self._recorded.add(trial.number)

    def _nested(self) -> str:
        return f"tags.`{PARENT}` = '{self.run_id}' and tags.`fedbench.kind` = 'trial'"

    def _write_trial(self, wanted: str, trial: TrialResult) -> bool:
        """Record a trial; False if another command is at it."""
        end = int(time.time() * 1000)
        start = end - int(trial.seconds * 1000)
        tags = studies.trial_tags(self.plan, self.identity, trial) | environment_tags() | {PARENT: self.run_id}
        run_id = self._create(wanted, f"trial {trial.number} {studies.words(trial.params)}".strip(), tags, start)
        if run_id is None:
            return False
        last = max(len(trial.rounds), 1)
        metrics = [
            Metric(key, value, end, step)
            for step, values in enumerate(trial.rounds, start=1)
            for key, value in studies.round_metrics(values).items()
        ]
        metrics += [Metric(key, value, end, last) for key, value in studies.trial_metrics(trial).items()]
        self._log_batch(run_id, params=studies.trial_params(self.plan, trial), metrics=metrics)
        self.client.set_terminated(run_id, "FAILED" if trial.state == "failed" else "FINISHED", end)
        self._release(run_id)
        return True

    def finish(self, result: TuningResult, figures: Sequence[Figure]) -> None:
        """Record what the study came to: its trials, numbers, answer and files."""
        self.record(result.trials)
        with store_errors(self.uri):
            run = self.client.get_run(self.run_id)
            values = studies.study_metrics(result)
            values |= dict.fromkeys(run.data.metrics.keys() - values.keys(), math.nan)  # an earlier answer's
            now, step = int(time.time() * 1000), len(result.trials)
            metrics = [Metric(key, value, now, step) for key, value in values.items()]
            self._log_batch(self.run_id, metrics=metrics, tags=studies.answer_tags(result))
            shown = [{"name": each.name, "title": each.title, "caption": each.caption} for each in figures]
            document = studies.study_json(result) | {"figures": shown}
            with TemporaryDirectory() as folder:
                for figure in figures:
                    (Path(folder) / f"{figure.name}.png").write_bytes(figure.png)
                if figures:
                    self.client.log_artifacts(self.run_id, folder, FIGURES)
            self.client.log_text(self.run_id, studies.trials_csv(result), TRIALS_FILE)
            self.client.log_text(self.run_id, json.dumps(document, indent=2, allow_nan=False), STUDY_FILE)
            self.client.set_terminated(self.run_id, "FINISHED")
            self._has_ended = True

    def kill(self, reason: str) -> None:
        """End it before its time; the next command goes on. Nothing after `finish`."""
        if self._has_ended:
            return
        with store_errors(self.uri):
            self._log_batch(self.run_id, tags={"fedbench.reason": " ".join(reason.split())[:MAX_REASON]})
            self.client.set_terminated(self.run_id, "KILLED")
            self._has_ended = True

    def register(self, name: str, candidate: Candidate) -> str:
        """Make the model of a candidate's first fresh seed a version of the registered model `name`, alias "best".

        The first, since the test set must not choose among seeds. A model that has the alias already stays as it is.

        Returns
        -------
        str
            What was done, in words.

        Raises
        ------
        StoreError
            If the run has no model, or the registry refuses.
        """
        tags = studies.version_tags(self.plan, self.identity, candidate)
        run_id = next(iter(candidate.run_ids), None)
        with store_errors(self.uri):
            return register_model(self.client, self.uri, name, run_id, tags)

    def _whole(self, wanted: str) -> str | None:
        """The id of the first whole run that `wanted` finds."""
        found = search_runs(self.client, self.experiment_id, wanted)
        return next((str(run.info.run_id) for run in found if _is_whole(run)), None)

    def _create(self, wanted: str, name: str, tags: Mapping[str, str], start: int | None = None) -> str | None:
        """Make a run, claimed, unless another command makes or has made what `wanted` finds: then None."""
        claim = self._claim.refreshed("wanted")
        tags = {**tags, claim.tag: claim.text()}
        run_id = str(create_run(self.client, self.experiment_id, name, tags, start).info.run_id)
        try:
            while True:
                others = [r for r in search_runs(self.client, self.experiment_id, wanted) if r.info.run_id != run_id]
                rivals = [each for run in others for each in claims_of(run.data.tags)]
                rivals = [each for each in rivals if each.name != claim.name and each.is_alive()]
                decision = Decision.LEAVE if any(map(_is_whole, others)) else decide(claim, rivals)
                if decision is Decision.LEAVE:
                    self.client.delete_run(run_id)
                    return None
                if decision is Decision.OWN:
                    self.client.set_tag(run_id, claim.tag, claim.refreshed("owned").text())
                    for other in others:  # left by a process that died
                        self.client.delete_run(other.info.run_id)
                    return run_id
                time.sleep(WAIT_SECONDS)
        except BaseException:  # nobody else knows of this run yet
            discard_run(self.client, run_id)
            raise

    def _release(self, run_id: str) -> None:
        delete_tag(self.client, run_id, self._claim.tag)

    def _log_batch(
        self,
        run_id: str,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Sequence[Metric] = (),
    ) -> None:
        all_params = [Param(key, value) for key, value in (params or {}).items()]
        all_tags = [RunTag(key, value) for key, value in (tags or {}).items()]
        self.client.log_batch(run_id, params=all_params, tags=all_tags)
        for start in range(0, len(metrics), MAX_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH])


def _is_whole(run: Run) -> bool:
    """Whether a run is written to its end: nobody claims it any more."""
    return not claims_of(run.data.tags)
