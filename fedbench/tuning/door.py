"""The door of Optuna's storage: what trials and studies hold is checked before anything reads it.

A person, another tool or another version may have written it. What is not as fedbench writes it counts as if it were
not there: a trial without its result is computed again.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from fedbench.measures import Verdict
from fedbench.tuning.slots import CHOSEN, RESULT
from fedbench.util.once import warn_once
from fedbench.util.text import show

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from fedbench.tuning.plan import Plan

HISTORY = "retry_history"  # Optuna's attribute of a trial that was queued again
TESTED = "fedbench.tested."  # with a trial's number and seeds: the attribute of a study that says they are tested
YEARS = range(1971, 9999)  # in which trials end

Measured = FiniteFloat | None  # an infinite loss is null


class _Round(BaseModel):
    accuracy: Measured
    balanced_accuracy: Measured
    loss: Measured
    train_loss: Measured


class _Result(BaseModel):
    """The attribute `RESULT`; see `fedbench.tuning.trial`."""

    model_config = ConfigDict(strict=True)

    state: Literal["complete", "pruned", "failed"]
    rounds: list[_Round]
    values: list[Measured]
    verdict: Annotated[Verdict, Field(strict=False)]
    reason: str | None
    local_steps: Annotated[int, Field(ge=0, lt=2**53)]
    seconds: Annotated[float, Field(ge=0, lt=1e9)]


@dataclass(frozen=True)
class Look:
    """A test of a best and the default: the best's trial, the fresh seeds, and the answer if there is one yet."""

    trial: Annotated[int, Field(ge=0)]
    fresh_seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...]
    answer: str | None = None


def trials_of(study: optuna.Study, plan: Plan) -> list[FrozenTrial]:
    """All trials of a study, without what is not as fedbench writes it; a warning says once what that is."""
    return [_checked(trial, study, plan) for trial in study.get_trials(deepcopy=False)]


def _checked(trial: FrozenTrial, study: optuna.Study, plan: Plan) -> FrozenTrial:
    problem = _problem(trial, plan)
    is_known = _holds(list[Annotated[int, Field(ge=0)]], trial.system_attrs.get(HISTORY, []))
    if problem is None and is_known:
        return trial
    found = copy(trial)
    if problem:
        warn_once(study, f"trial {trial.number} of study {study.study_name!r} does not count: {problem}")
        found.user_attrs = {key: value for key, value in trial.user_attrs.items() if key not in (RESULT, CHOSEN)}
    if not is_known:
        found.system_attrs = {key: value for key, value in trial.system_attrs.items() if key != HISTORY}
    return found


def _problem(trial: FrozenTrial, plan: Plan) -> str | None:
    if (result := trial.user_attrs.get(RESULT)) is None:
        return None
    try:
        checked = _Result.model_validate(result)
    except ValidationError as error:
        first = error.errors()[0]
        return f"its attribute {'.'.join(map(str, (RESULT, *first['loc'])))} is {show(first['input'])}"
    if checked.state != "failed" and (len(checked.values) != len(plan.seeds) or not checked.rounds):
        return f"its attribute {RESULT} has no value for each seed"
    for axis in plan.space if checked.state != "failed" else ():
        value = trial.params.get(axis.field)
        if axis.field not in trial.params or not (value == plan.default[axis.field] or axis.holds(value)):
            return f"its parameter {axis.field} is {show(value)}"
    if trial.datetime_complete and trial.datetime_complete.year not in YEARS:
        return f"it ended in the year {trial.datetime_complete.year}"
    return None


def _holds(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def looks_of(study: optuna.Study) -> list[Look]:
    """The looks at the test set that a study has had, or has begun."""
    found = []
    for key, value in study.user_attrs.items():
        if key.startswith(TESTED):
            try:
                found.append(TypeAdapter(Look).validate_python(value))
            except ValidationError:
                warn_once(study, f"attribute {show(key)} of study {study.study_name!r} does not count: {show(value)}")
    return found
