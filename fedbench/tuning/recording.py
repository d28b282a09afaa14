"""A study in MLflow: a run of its own, with a run per trial nested below it, and the registered model.

Optuna's storage is the source of truth of a study; this is written from it. Several commands may work on one study: a
lock lets one of a machine write at a time, and whatever is missing or unfinished in the store is written again with the
same content, so that it does not matter who wrote it, or died while doing so.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric

from fedbench.tracking.mlflow.cells import PARENT
from fedbench.tracking.mlflow.experiments import set_experiment_tags
from fedbench.tracking.mlflow.reading import search_runs
from fedbench.tracking.mlflow.registry import register_model
from fedbench.tracking.mlflow.store import checkpoint_folder
from fedbench.tuning import study_records as records
from fedbench.tuning.views import tuning_view_tags
from fedbench.util.environment import environment_tags
from fedbench.util.locks import Lock, lock

if TYPE_CHECKING:
    from mlflow.entities import Run

    from fedbench.tracking.mlflow.client import StoreClient
    from fedbench.tuning.plan import Plan
    from fedbench.tuning.results import Candidate, TrialResult, TuningResult

MAX_REASON = 1_000  # characters of an error that ended the command
STUDY_FILE, TRIALS_FILE = "study.json", "trials.csv"


class StudyRun:
    """A study's run in the experiment `experiment_id`: found by the study's `identity`, or created.

    It is RUNNING from now on, until `finish` or `kill`.
    """

    def __init__(self, client: StoreClient, experiment_id: str, plan: Plan, identity: str) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.plan = plan
        self.identity = identity
        self._recorded: set[int] = set()  # trials that are known to be in the store
        self._has_ended = False
        with self._writing():
            self.run_id = self._find_or_create()
            self._begin(self.client.get_run(self.run_id))

    def _writing(self) -> Lock:
        return lock(checkpoint_folder(self.client.uri) / f"study-{self.identity}.lock")

    def _find_or_create(self) -> str:
        wanted = f"tags.`{records.STUDY}` = '{self.identity}' and tags.`fedbench.kind` = 'study'"
        if not search_runs(self.client, self.experiment_id, wanted):
            tags = records.study_tags(self.plan, self.identity) | environment_tags()
            self.client.create_run(self.experiment_id, tags=tags, run_name=f"tuning {self.plan.cell}")
        first, *_ = search_runs(self.client, self.experiment_id, wanted)  # another machine may have created one too
        return str(first.info.run_id)

    def _begin(self, run: Run) -> None:
        """Show that work is being done, as this command does it."""
        if run.info.status == "KILLED":
            self.client.delete_tag(self.run_id, "fedbench.reason")
        missing = {key: value for key, value in records.study_params(self.plan).items() if key not in run.data.params}
        self.client.log_all(self.run_id, params=missing, tags=environment_tags() | records.wanted_tags(self.plan))
        self._show_as_running(run)
        fields = [axis.field for axis in self.plan.space]
        views = tuning_view_tags(self.identity, fields, self.plan.objective.is_minimised)
        set_experiment_tags(self.client, self.client.get_experiment(self.experiment_id), views)

    def _show_as_running(self, run: Run) -> None:
        if run.info.status != "RUNNING":
            self.client.update_run(self.run_id, status="RUNNING")

    def record(self, trials: Sequence[TrialResult]) -> None:
        """Write the trials that are not in the store yet."""
        missing = [trial for trial in trials if trial.number not in self._recorded]
        if not missing:
            return
        with self._writing():
            found = self._trial_runs()
            unwritten = [trial for trial in missing if not _is_whole(found.get(trial.number))]
            if unwritten:
                self._show_as_running(self.client.get_run(self.run_id))  # another command may have ended it
            for trial in unwritten:
                self._write_trial(trial, found.get(trial.number))
            self._recorded |= {trial.number for trial in missing}

    def _trial_runs(self) -> dict[int, Run]:
        """The trials' runs by number; of two that were written by different machines at once, one is deleted."""
        found: dict[int, Run] = {}
        wanted = f"tags.`{PARENT}` = '{self.run_id}' and tags.`fedbench.kind` = 'trial'"
        for run in search_runs(self.client, self.experiment_id, wanted):
            number = int(run.data.tags[records.TRIAL])
            if _is_whole(run) and _is_whole(found.get(number)):
                self.client.delete_run(run.info.run_id)
            elif not _is_whole(found.get(number)):
                found[number] = run
        return found

    def _write_trial(self, trial: TrialResult, unfinished: Run | None) -> None:
        """Record a trial. What is written again is the same to the last digit, and MLflow keeps it once."""
        end = int(trial.ended * 1000)
        if unfinished is None:
            tags = records.trial_tags(self.plan, self.identity, trial) | environment_tags() | {PARENT: self.run_id}
            name = f"trial {trial.number} {records.params_text(trial.params)}".strip()
            start = end - int(trial.seconds * 1000)
            unfinished = self.client.create_run(self.experiment_id, start, tags, name)
        run_id = str(unfinished.info.run_id)
        last = max(len(trial.rounds), 1)
        metrics = [
            Metric(key, value, end, step)
            for step, values in enumerate(trial.rounds, start=1)
            for key, value in records.round_metrics(values).items()
        ]
        metrics += [Metric(key, value, end, last) for key, value in records.trial_metrics(trial).items()]
        params, known = records.trial_params(self.plan, trial), unfinished.data.params
        self.client.log_all(run_id, metrics, {key: text for key, text in params.items() if key not in known})
        self.client.set_terminated(run_id, "FAILED" if trial.state == "failed" else "FINISHED", end)

    def finish(self, result: TuningResult, figures: Sequence[Mapping[str, Any]]) -> None:
        """Record the study's trials, numbers, answer and files; `figures` as JSON."""
        self.record(result.trials)
        with self._writing():
            run = self.client.get_run(self.run_id)
            values = records.study_metrics(result)
            values |= dict.fromkeys(run.data.metrics.keys() - values.keys(), math.nan)  # an earlier answer's
            now, step = int(time.time() * 1000), len(result.trials)
            metrics = [Metric(key, value, now, step) for key, value in values.items()]
            self.client.log_all(self.run_id, metrics=metrics, tags=records.answer_tags(result))
            document = records.study_json(result) | {"figures": list(figures)}
            self.client.log_text(self.run_id, records.trials_csv(result), TRIALS_FILE)
            self.client.log_text(self.run_id, json.dumps(document, indent=2, allow_nan=False), STUDY_FILE)
            self.client.set_terminated(self.run_id, "FINISHED")
            self._has_ended = True

    def kill(self, reason: str) -> None:
        """End it early; the next command resumes it. Does nothing after `finish`."""
        if self._has_ended:
            return
        self.client.hurry()
        with self._writing():
            self.client.log_all(self.run_id, tags={"fedbench.reason": " ".join(reason.split())[:MAX_REASON]})
            self.client.set_terminated(self.run_id, "KILLED")
            self._has_ended = True

    def register(self, name: str, candidate: Candidate) -> str:
        """Make the model of a candidate's first fresh seed a version of the registered model `name`, alias "best".

        The first, since the test set must not choose among seeds. A model that has the alias already stays as it is.
        What is returned is a sentence on what the alias is now.
        """
        tags = records.version_tags(self.plan, self.identity, candidate)
        run_id = next(iter(candidate.run_ids), None)
        return register_model(self.client, name, run_id, tags)


def _is_whole(run: Run | None) -> bool:
    """Whether a trial's run is there and written to its end."""
    return run is not None and run.info.status != "RUNNING"
