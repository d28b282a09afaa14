"""The search: trials are taken from Optuna one after the other, computed, and what each came to is told."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from functools import partial
from statistics import fmean
from typing import Any, cast

import optuna
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from fedbench.measures import Verdict
from fedbench.suites.tune import Axis
from fedbench.tracking.mlflow.claims import Claim
from fedbench.tuning.plan import Plan
from fedbench.tuning.results import TrialResult
from fedbench.tuning.results import TrialState as State
from fedbench.tuning.slots import RESULT, SURPLUS, Slot, has_ended, is_surplus, slots
from fedbench.tuning.storage import DEAD_AFTER_SECONDS, retry
from fedbench.tuning.trial import (
    SeedProgress,
    Validation,
    mean_rounds,
    objective_value,
    train_and_validate,
    verdict_of,
)
from fedbench.util.errors import one_line

CLAIM = "fedbench.claim"  # the attribute of a trial that says which process computes it
POLL_SECONDS = 0.5  # while other processes compute the last trials
TENTHS = 10  # where rounds differ between trials of one budget, they are compared after each tenth of it


class TrialFailedError(Exception):
    """A trial that ended with an error, or is another's; what is to be said of it is in its attributes."""


class _Next(Enum):
    COMPUTE = auto()
    WAIT = auto()
    END = auto()


def compute_trials(study: optuna.Study, plan: Plan, validation: Validation, deadline: float | None) -> Iterator[None]:
    """Compute trials, and yield now and then, until the study has as many as planned.

    Other processes may do the same for the same study. A trial whose process died is tried again.

    Parameters
    ----------
    deadline
        In seconds since 1970; no trial is begun after it.
    """
    claim = Claim.of_this_process()
    objective = partial(_objective, plan=plan, validation=validation, claim=claim)
    unclaimed: dict[int, float] = {}
    while (step := _next_step(study, plan.trials, deadline, unclaimed)) is not _Next.END:
        if step is _Next.COMPUTE:
            try:
                study.optimize(objective, n_trials=1, catch=(TrialFailedError,))
            except (UpdateFinishedTrialError, ValueError):  # as Optuna says that a trial has been ended by others
                if not _has_lost(study, claim):
                    raise
            except KeyboardInterrupt:
                retry_dead(study)
                raise
        else:
            time.sleep(POLL_SECONDS)
        yield


def _next_step(study: optuna.Study, wanted: int, deadline: float | None, unclaimed: dict[int, float]) -> _Next:
    retry_dead(study, unclaimed)
    found = slots(study.get_trials(deepcopy=False))
    done = sum(slot.ended is not None or slot.is_given_up for slot in found)
    if done >= wanted or (deadline is not None and time.time() > deadline):
        return _Next.END
    is_left = any(slot.is_waiting for slot in found[:wanted]) or len(found) < wanted
    return _Next.COMPUTE if is_left else _Next.WAIT


def retry_dead(study: optuna.Study, unclaimed: dict[int, float] | None = None) -> None:
    """Put trials whose processes died into the queue again: of this machine at once, of others without a heartbeat.

    A process can be killed before it says which it is. `unclaimed` has the trials of which that was not said when this
    was called before, and when they were first seen; one that stays so is dead. The clocks of two machines may differ
    too much to take the time at which it began.
    """
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_dead(trial, {} if unclaimed is None else unclaimed):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, UpdateFinishedTrialError):
                continue  # another process was quicker
    for slot in slots(study.get_trials(deepcopy=False)):
        if slot.is_dead:
            retry()(study, slot.trials[-1])


def _has_lost(study: optuna.Study, claim: Claim) -> bool:
    """Whether others held this process to be dead, since it was asleep for a minute, and ended its last trial."""
    own = [trial for trial in study.get_trials(deepcopy=False) if _claimed(trial).get("name") == claim.name]
    return bool(own) and own[-1].state is TrialState.FAIL and not has_ended(own[-1])


def _claimed(trial: FrozenTrial) -> dict[str, Any]:
    """Who computes a trial; empty where that is not said, or said of the trial that this one is a retry of."""
    claimed: dict[str, Any] = trial.user_attrs.get(CLAIM, {})
    return claimed if claimed.get("trial") == trial.number else {}


def _is_dead(trial: FrozenTrial, unclaimed: dict[int, float]) -> bool:
    """Whether the process of a running trial is known to have ended, or did not come to say which it is."""
    claimed = _claimed(trial)
    if not claimed:
        now = time.monotonic()
        return now - unclaimed.setdefault(trial.number, now) > DEAD_AFTER_SECONDS
    claim = Claim(claimed["name"], **json.loads(claimed["text"]))
    return claim.is_of_this_host() and not claim.is_alive()


def _objective(trial: Trial, plan: Plan, validation: Validation, claim: Claim) -> float:
    """Compute one trial, as Optuna asks for it."""
    if is_surplus(trial.study.get_trials(deepcopy=False), trial.number, plan.trials):
        trial.set_user_attr(SURPLUS, True)
        raise TrialFailedError
    trial.set_user_attr(CLAIM, {"trial": trial.number, "name": claim.name, "text": claim.text()})
    params = {axis.field: _suggest(trial, axis, plan.default[axis.field]) for axis in plan.space}
    spec = plan.searched_spec(params, len(validation.dataset.train_labels))
    began = time.perf_counter()
    progress: Sequence[SeedProgress] = ()
    state: State = "complete"
    values: list[float] = []
    verdict, reason = Verdict.FAILED, None
    try:
        for progress in train_and_validate(spec, plan.seeds, validation):
            values = [objective_value(plan.objective, plan.target, seed.rounds) for seed in progress]
            if _is_enough(plan, progress, values):
                break
            if _should_prune(trial, plan, spec.rounds, progress, values):
                state = "pruned"
                break
        verdict, reason = verdict_of(progress)
    except OptunaError:
        raise
    except Exception as error:  # whatever a configuration leads to costs its trial, not the study
        state, reason, values = "failed", one_line(error), []
    result = {
        "state": state,
        "rounds": [{name: _finite(value) for name, value in each.items()} for each in mean_rounds(progress)],
        "values": [_finite(value) for value in values],
        "verdict": str(verdict),
        "reason": reason,
        "local_steps": sum(spec.local_steps(len(seed.rounds)) for seed in progress),
        "seconds": time.perf_counter() - began,
    }
    trial.set_user_attr(RESULT, result)
    if state == "failed":
        raise TrialFailedError
    if state == "pruned":
        raise optuna.TrialPruned
    return fmean(values)


def _suggest(trial: Trial, axis: Axis, default: float | None) -> int | float | None:
    value: Any
    if axis.choices:
        value = trial.suggest_categorical(axis.field, axis.choices)
    elif isinstance(default, float):
        value = trial.suggest_float(axis.field, cast(float, axis.low), cast(float, axis.high), log=axis.log)
    else:
        value = trial.suggest_int(axis.field, cast(int, axis.low), cast(int, axis.high), log=axis.log)
    return cast(int | float | None, value)


def _is_enough(plan: Plan, progress: Sequence[SeedProgress], values: Sequence[float]) -> bool:
    """Whether every seed has reached the target, if there is one: further rounds change nothing."""
    if plan.target is None:
        return False
    return all(value <= len(seed.rounds) for value, seed in zip(values, progress, strict=True))


def _should_prune(
    trial: Trial, plan: Plan, rounds: int, progress: Sequence[SeedProgress], values: Sequence[float]
) -> bool:
    """Tell the pruner of the round that has ended, unless it is the last of `rounds`, and ask it."""
    done = max(len(seed.rounds) for seed in progress)
    step, before = done, done - 1
    if plan.budget == "steps":
        step, before = TENTHS * done // rounds, TENTHS * before // rounds
    if done == rounds or step == before:
        return False
    trial.report(fmean(values), step)
    return trial.should_prune()


def trial_results(study: optuna.Study, plan: Plan) -> tuple[TrialResult, ...]:
    """What the trials that have ended came to, in the order of their numbers."""
    found = enumerate(slots(study.get_trials(deepcopy=False)))
    return tuple(_result(index, slot, plan) for index, slot in found if slot.ended or slot.is_given_up)


def _result(number: int, slot: Slot, plan: Plan) -> TrialResult:
    trial = slot.ended or slot.trials[-1]
    params = {axis.field: trial.params[axis.field] for axis in plan.space if axis.field in trial.params}
    if slot.ended is None:
        reason = f"its process died {len(slot.trials)} times"
        return TrialResult(number, "failed", params, (), (), None, Verdict.FAILED, reason, 0, 0.0)
    found = trial.user_attrs[RESULT]
    values = tuple(map(_infinite, found["values"]))
    return TrialResult(
        number=number,
        state=found["state"],
        params=params,
        rounds=tuple({name: _infinite(value) for name, value in each.items()} for each in found["rounds"]),
        values=values,
        value=fmean(values) if values else None,
        verdict=Verdict(found["verdict"]),
        reason=found["reason"],
        local_steps=found["local_steps"],
        seconds=found["seconds"],
    )


def _finite(value: float) -> float | None:
    """A number as JSON has it: a loss is the only one that may be infinite."""
    return value if math.isfinite(value) else None


def _infinite(value: float | None) -> float:
    return math.inf if value is None else value
