"""The search: Optuna proposes trials, an executor computes them, and their results go back to Optuna.

Optuna's storage is the source of truth, and several commands may work on one study. While a command computes a trial,
it holds a file lock, so that the other commands of its machine know at once if it died; those of other machines go by
Optuna's heartbeats. Either way the trial is tried again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import numpy as np
import optuna
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from fedbench.executors import Executor
from fedbench.measures import Verdict
from fedbench.suites.tune import Axis
from fedbench.tuning.door import trials_of
from fedbench.tuning.objective import trial_value
from fedbench.tuning.plan import Plan
from fedbench.tuning.results import TrialResult
from fedbench.tuning.slots import CHOSEN, MAX_RETRIES, RESULT, SURPLUS, Slot, SlotState, slots
from fedbench.tuning.storage import HEARTBEAT_SECONDS, STUDY, retry, storage_errors, trial_id
from fedbench.tuning.trial import TrialDone, TrialJob, TrialWork
from fedbench.util.errors import StoreError
from fedbench.util.locks import Lock, lock, try_lock
from fedbench.util.once import warn_once

POLL_SECONDS = 0.5  # while other commands compute the last trials


@dataclass(frozen=True)
class _Open:
    """A trial that this command computes."""

    trial: Trial
    id: int
    lock: Lock | None


@dataclass
class Search:
    """A command's part in a study.

    Attributes
    ----------
    locks
        The folder of this machine's locks.
    deadline
        On `time.monotonic`'s clock, which nobody sets; no trial is begun after it.
    open
        The trials that it computes, by Optuna's number.
    """

    storage: RDBStorage
    study: optuna.Study
    plan: Plan
    locks: Path
    deadline: float | None = None
    open: dict[int, _Open] = field(default_factory=dict, init=False)
    _deaths: int = field(default=0, init=False)

    @cached_property
    def _copy(self) -> str:
        return str(self.study.user_attrs[STUDY])[-8:]

    def compute(self, execute: Executor, work: TrialWork) -> Iterator[None]:
        """Compute trials, and yield now and then, until the study has as many as planned.

        With one worker the trials are the same each time, also if the study was interrupted. With several, or several
        commands, a trial's parameters depend on which trials ended before it.

        Raises
        ------
        StoreError
            If the storage fails, or worker processes die again and again.
        """
        with storage_errors(self.storage.url), self._heartbeats():
            try:
                while not self._is_over():
                    yield
                    for done in execute(iter(self._next_job, None), work):
                        self._tell(done)
                        yield
                    if not self._is_over():
                        warn_once(self.study, "waiting for trials that another command computes; Ctrl-C ends that")
                        time.sleep(POLL_SECONDS)  # other commands compute what is left
            finally:  # empty unless something was raised or the consumer went away
                for each in list(self.open.values()):
                    with suppress(SQLAlchemyError, OptunaError):  # the first error is the one to show
                        self.study.tell(each.trial, state=TrialState.FAIL, skip_if_finished=True)
                    _remove(each.lock)

    def _is_over(self) -> bool:
        done = sum(slot.is_done for slot in slots(trials_of(self.study, self.plan)))
        return done >= self.plan.trials or self._is_late()

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _next_job(self) -> TrialJob | None:
        """Begin a trial; None if there is none to begin now."""
        with turn(self.locks):
            self.retry_dead()
            trials = trials_of(self.study, self.plan)
            found = slots(trials)[: self.plan.trials]
            is_left = len(found) < self.plan.trials or any(slot.state is SlotState.WAITING for slot in found)
            if self._is_late() or not is_left:
                return None
            # Locked before it runs, so that it never looks like a trial of another machine.
            number = next((each.number for each in trials if each.state is TrialState.WAITING), len(trials))
            held = try_lock(self.lock_path(number))
            trial = self.study.ask()
            if trial.number != number:  # another machine was quicker
                _remove(held)
                held = try_lock(self.lock_path(trial.number))
            begun = _Open(trial, trial_id(self.storage, self.study, trial.number), held)
            self.open[trial.number] = begun
            self._beat(begun)
            index, is_surplus = self._place(trial.number)
            if is_surplus:
                trial.set_user_attr(SURPLUS, True)
                self._end(begun, state=TrialState.FAIL)
                return None
            self.study.sampler = sampler_of(self.plan, index)
            params = {axis.field: _suggest(trial, axis, self.plan.default[axis.field]) for axis in self.plan.space}
            trial.set_user_attr(CHOSEN, True)
            return TrialJob(trial.number, params)

    def _place(self, number: int) -> tuple[int, bool]:
        """The slot of a trial that has just begun; and whether it is one too many, or its slot another trial's."""
        found = slots(trials_of(self.study, self.plan))
        index = next(index for index, slot in enumerate(found) if number in {trial.number for trial in slot.trials})
        earlier = Slot([trial for trial in found[index].trials if trial.number < number])
        taken = bool(earlier.trials) and earlier.state in (SlotState.ENDED, SlotState.RUNNING, SlotState.WAITING)
        return index, index >= self.plan.trials or taken

    def _tell(self, done: TrialDone) -> None:
        begun = self.open[done.number]
        if done.result is None:  # if its process died, it is queued again before the next trial
            self._deaths += bool(done.reason)
            self._end(begun, state=TrialState.FAIL)
            if self._deaths > MAX_RETRIES:
                raise StoreError(f"processes that compute trials die again and again ({done.reason}): try --workers 1")
            return
        state = done.result["state"]
        with suppress(UpdateFinishedTrialError):  # this process was asleep, and another one took the trial up
            begun.trial.set_user_attr(RESULT, done.result)
        if state == "complete":
            self._end(begun, _value(self.plan, done.result))
        else:
            self._end(begun, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)

    def _end(self, begun: _Open, value: float | None = None, state: TrialState | None = None) -> None:
        self.study.tell(begun.trial, value, state=state, skip_if_finished=True)
        del self.open[begun.trial.number]
        _remove(begun.lock)

    def retry_dead(self) -> None:
        """Queue trials again whose processes died. The caller has its `turn`."""
        for begun in list(self.open.values()):  # after a sleep or a step of a clock, its own may look dead
            self._beat(begun)
        fail_stale_trials(self.study)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number not in self.open and self._has_died(trial.number):
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        for slot in slots(trials_of(self.study, self.plan)):
            if slot.state is SlotState.DEAD:
                retry(self.study, slot.trials[-1])

    def _has_died(self, number: int) -> bool:
        """Whether a running trial was this machine's, and its process has ended."""
        path = self.lock_path(number)
        held = try_lock(path) if path.exists() else None
        _remove(held)
        return held is not None

    def lock_path(self, number: int) -> Path:
        """The lock of the trial with Optuna's `number`, held while it is computed."""
        return self.locks / f"{self._copy}-trial-{number}.lock"

    @contextmanager
    def _heartbeats(self) -> Iterator[None]:
        """Tell other machines that this command is alive, as Optuna's `optimize` does."""
        over = Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                for begun in list(self.open.values()):
                    with suppress(SQLAlchemyError, OptunaError):  # if it is gone for long, the trial will find out
                        self._beat(begun)

        Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _beat(self, begun: _Open) -> None:
        if self.storage.get_heartbeat_interval() is not None:
            self.storage.record_heartbeat(begun.id)


def turn(locks: Path) -> Lock:
    """Change what trials there are: one command of a machine at a time, so that Optuna's steps are not interleaved."""
    return lock(locks / "study.lock")


def _remove(held: Lock | None) -> None:
    if held is not None:
        held.remove()


def sampler_of(plan: Plan, slot: int) -> BaseSampler:
    """What chooses the parameters of a slot's trial: a point of a small grid in turn, else the TPE sampler.

    It depends on the plan's seed and the slot alone, so that an interrupted study resumes with the trials that it would
    have had.
    """
    if plan.grid:
        others = [point for point in plan.grid if point != plan.default]
        order = np.random.default_rng(plan.sampler_seed).permutation(len(others))
        points = [plan.default, *(others[i] for i in order)]
        return PartialFixedSampler(dict(points[slot]), RandomSampler())
    seed = np.random.SeedSequence(plan.sampler_seed, spawn_key=(slot,)).generate_state(1)[0]
    return TPESampler(seed=int(seed))


def _suggest(trial: Trial, axis: Axis, default: float | None) -> int | float | None:
    value: Any
    if axis.choices:
        value = trial.suggest_categorical(axis.field, axis.choices)
    elif any(isinstance(each, float) for each in (default, axis.low, axis.high)):
        value = trial.suggest_float(axis.field, cast(float, axis.low), cast(float, axis.high), log=axis.log)
    else:
        value = trial.suggest_int(axis.field, cast(int, axis.low), cast(int, axis.high), log=axis.log)
    return cast(int | float | None, value)


def trial_results(study: optuna.Study, plan: Plan) -> tuple[TrialResult, ...]:
    """The trials that have ended, in the order of their numbers."""
    found = enumerate(slots(trials_of(study, plan)))
    return tuple(_result(index, slot, plan) for index, slot in found if slot.is_done)


def _result(number: int, slot: Slot, plan: Plan) -> TrialResult:
    trial: FrozenTrial = slot.ended or slot.trials[-1]
    died = {"state": "failed", "rounds": [], "values": [], "verdict": "failed", "local_steps": 0, "seconds": 0.0}
    reason = {"reason": f"its process died {len(slot.trials)} times"}
    found: dict[str, Any] = trial.user_attrs[RESULT] if slot.ended else died | reason
    values = tuple(map(_infinite, found["values"]))
    return TrialResult(
        number=number,
        state=found["state"],
        params={axis.field: trial.params[axis.field] for axis in plan.space if axis.field in trial.params},
        rounds=tuple({name: _infinite(value) for name, value in each.items()} for each in found["rounds"]),
        values=values,
        value=_value(plan, found) if values else None,
        verdict=Verdict(found["verdict"]),
        reason=found["reason"],
        local_steps=found["local_steps"],
        seconds=found["seconds"],
        ended=trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0,
    )


def _value(plan: Plan, result: Mapping[str, Any]) -> float:
    """The value of a trial's result as JSON holds it."""
    return trial_value(plan.objective, [*map(_infinite, result["values"])], result["verdict"] == Verdict.DIVERGED)


def _infinite(value: float | None) -> float:
    return math.inf if value is None else value
