"""A study from its first trial to its answer, whoever else works on it."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fedbench.runs.computing import device_and_kernels
from fedbench.runs.data import digest_of
from fedbench.runs.identity import ALGORITHM_REVISION
from fedbench.runs.suite_run import run_suite
from fedbench.tracking.mlflow.tracker import MlflowTracker
from fedbench.tuning.answers import fresh_seeds_of, with_answers
from fedbench.tuning.plan import Plan, identity, require_enough, require_skilful_target
from fedbench.tuning.recording import StudyRun
from fedbench.tuning.results import TrialResult, TuningResult
from fedbench.tuning.search import Search, trial_results, turn
from fedbench.tuning.storage import STUDY, default_storage, lock_folder, open_storage, open_study, storage_errors
from fedbench.tuning.trial import TrialWork, held_out_of
from fedbench.tuning.verification import Verification, answer, best_trial, tuning_suite

if TYPE_CHECKING:
    from fedbench.executors import Executor
    from fedbench.runs.data import DataSource
    from fedbench.runs.suite_run import Outcome


class Tuning:
    """A study that this command works on: its trials are in Optuna's storage, and recorded in MLflow."""

    def __init__(self, plan: Plan, data: DataSource, tracking_uri: str | None, storage: str | None) -> None:
        self.plan = plan
        self._began = time.perf_counter()
        tracker = MlflowTracker(tuning_suite(plan), tracking_uri)
        self._data, self._uri = data, tracker.uri
        self._url = storage or default_storage(tracker.uri)
        self._locks = lock_folder(self._url, tracker.uri)
        with turn(self._locks):
            self._storage = open_storage(self._url)
        held_out = held_out_of(plan, data.folder)
        require_enough(plan, len(held_out.train_labels))
        require_skilful_target(plan, held_out.test_labels.bincount().tolist())
        of_study = identity(
            plan, digest_of(held_out, plan.spec), device_and_kernels(plan.spec, data.device), ALGORITHM_REVISION
        )
        with turn(self._locks):
            self.study = open_study(self._storage, plan, of_study)
        self._work = TrialWork(plan, of_study, self._url, data.folder, data.device, held_out)
        copy = str(self.study.user_attrs[STUDY])
        self.study_run = StudyRun(tracker.client, tracker.experiment_id, plan, copy)
        self._verification = Verification(plan, data, tracker.client, tracker.experiment_id)

    def trials(self, execute: Executor, deadline: float | None) -> Generator[tuple[TrialResult, ...]]:
        """Compute trials until there are enough, and yield now and then all that have ended; they are recorded.

        No trial is begun after `deadline`, on the clock of `time.monotonic`.
        """
        search = Search(self._storage, self.study, self.plan, self._locks, deadline)
        for _ in search.compute(execute, self._work):
            yield self._recorded()
        yield self._recorded()

    def ended(self) -> tuple[TrialResult, ...]:
        """The trials that have ended."""
        with storage_errors(self._url):
            return trial_results(self.study, self.plan)

    def _recorded(self) -> tuple[TrialResult, ...]:
        trials = self.ended()
        self.study_run.record(trials)
        return trials

    def candidates(self, trials: Sequence[TrialResult]) -> list[TrialResult]:
        """The trials to be tested: the default, if it did not fail, and the best, if there is one."""
        default = next((trial for trial in trials if trial.number == 0 and trial.values), None)
        best = best_trial(self.plan, trials)
        return list({each.number: each for each in (default, best) if each and best}.values())

    def test(self, trials: Sequence[TrialResult], execute: Executor) -> Generator[Outcome]:
        """Retrain and test the candidates over the fresh seeds; finished runs are skipped."""
        suite = tuning_suite(self.plan, self.candidates(trials), self.fresh_seeds(trials))
        yield from run_suite(suite.runs, self._data, MlflowTracker(suite, self._uri), execute)

    def result(self, trials: Sequence[TrialResult], outcomes: Sequence[Outcome]) -> TuningResult:
        """The study's result; `outcomes` are those of `test`. Another command may have added trials meanwhile."""
        seeds = self.fresh_seeds(trials)
        tested = {
            trial.number: self._verification.candidate(trial, outcomes, seeds) for trial in self.candidates(trials)
        }
        best = best_trial(self.plan, trials)
        found = tested[best.number] if best else None
        result = answer(self.plan, trials, found, tested.get(0), time.perf_counter() - self._began)
        with turn(self._locks), storage_errors(self._url):
            return with_answers(self.study, replace(result, fresh_seeds=seeds))

    def fresh_seeds(self, trials: Sequence[TrialResult]) -> tuple[int, ...]:
        """The seeds on which the candidates are tested; empty if there is no best."""
        best = best_trial(self.plan, trials)
        with turn(self._locks), storage_errors(self._url):
            return fresh_seeds_of(self.study, self.plan, best.number) if best else ()
