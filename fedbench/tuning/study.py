"""A study from its first trial to its answer, whoever else works on it."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fedbench.datasets.validation import load_held_out
from fedbench.runs.data import digest_of
from fedbench.runs.identity import ALGORITHM_REVISION
from fedbench.tracking.mlflow.tracker import MlflowTracker
from fedbench.tuning.compute import Work, compute
from fedbench.tuning.plan import Plan, identity, require_enough, require_skilful_target
from fedbench.tuning.recording import StudyRun
from fedbench.tuning.results import TrialResult, TuningResult
from fedbench.tuning.search import trial_results
from fedbench.tuning.storage import copy_of, default_storage, open_storage, open_study, storage_errors
from fedbench.tuning.verification import Verification, answer, best_trial, tuning_suite

if TYPE_CHECKING:
    from fedbench.runs.data import DataSource
    from fedbench.runs.suite_run import Executor, Outcome


class Tuning:
    """A study that this command works on. Its trials are in Optuna's storage; what is shown of it is in MLflow.

    Attributes
    ----------
    study
        Optuna's.
    study_run
        MLflow's.

    Raises
    ------
    FedbenchError
        If a store cannot be opened, or the data does not suffice.
    """

    def __init__(self, plan: Plan, data: DataSource, tracking_uri: str | None, storage: str | None) -> None:
        self.plan = plan
        self.data = data
        self._began = time.perf_counter()
        tracker = MlflowTracker(tuning_suite(plan), tracking_uri)
        self.client, self.uri, self.experiment_id = tracker.client, tracker.uri, tracker.experiment_id
        url = storage or default_storage(self.uri)
        optuna_storage = open_storage(url)
        self._held_out = load_held_out(plan.spec.dataset, plan.spec.split, plan.validation, data.folder)
        require_enough(plan, len(self._held_out.train_labels))
        require_skilful_target(plan, self._held_out.test_labels.bincount().tolist())
        digest = digest_of(self._held_out, plan.spec)
        self.identity = identity(plan, digest, data.device, ALGORITHM_REVISION)
        self.study = open_study(optuna_storage, plan, self.identity)
        name = copy_of(self.study, self.identity)
        self.study_run = StudyRun(self.client, self.uri, self.experiment_id, plan, name)
        self._work = Work(plan, self.identity, url, data.folder, data.device)

    def trials(self, num_workers: int, num_threads: int, deadline: float | None) -> Generator[tuple[TrialResult, ...]]:
        """Compute trials until there are enough, and yield now and then all that have ended; they are recorded."""
        work = replace(self._work, num_threads=num_threads, deadline=deadline)
        yield self._recorded()
        for _ in compute(work, self.study, self._held_out, num_workers):
            yield self._recorded()

    def ended(self) -> tuple[TrialResult, ...]:
        """The trials that have ended."""
        with storage_errors(self._work.storage):
            return trial_results(self.study, self.plan)

    def _recorded(self) -> tuple[TrialResult, ...]:
        trials = self.ended()
        self.study_run.record(trials)
        return trials

    def candidates(self, trials: Sequence[TrialResult]) -> list[TrialResult]:
        """Those of `trials` to be tested: the default, if it did not fail, and the best, if there is one."""
        default = next((trial for trial in trials if trial.number == 0 and trial.values), None)
        best = best_trial(self.plan, trials)
        return list({each.number: each for each in (default, best) if each and best}.values())

    def test(self, trials: Sequence[TrialResult], execute: Executor) -> Generator[Outcome]:
        """Retrain and test the candidates over the fresh seeds; what is finished already is not run again."""
        yield from self._verification(execute).outcomes(tuning_suite(self.plan, self.candidates(trials)))

    def result(self, trials: Sequence[TrialResult], execute: Executor, outcomes: Sequence[Outcome]) -> TuningResult:
        """What the study came to; `outcomes` are those of `test`. Another command may have added trials meanwhile."""
        verification = self._verification(execute)
        tested = {trial.number: verification.candidate(trial, outcomes) for trial in self.candidates(trials)}
        best = best_trial(self.plan, trials)
        found = tested[best.number] if best else None
        return answer(self.plan, trials, found, tested.get(0), time.perf_counter() - self._began)

    def _verification(self, execute: Executor) -> Verification:
        return Verification(self.plan, self.data, self.client, self.uri, self.experiment_id, execute)
