"""A study's figures, as data: the search trial by trial, its fields, and its trials by round."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from fedbench.reports.figure import Figure, Kind, Row, Value, number
from fedbench.reports.tuning import objective_scale, objective_words
from fedbench.suites.tune import Objective
from fedbench.tuning.objective import can_be_best
from fedbench.tuning.study_records import study_json

if TYPE_CHECKING:
    from fedbench.suites.tune import Axis
    from fedbench.tuning.results import TrialResult, TuningResult

PART = "Tuning"
MIN_TRIALS = 5  # complete ones, below which shares of importance are chance
TRIAL, RECORD, DEFAULT, NO_ANSWER = "a trial", "the best so far", "the default", "no answer by its verdict"
QUARTERS = ("the best quarter", "the second quarter", "the third quarter", "the last quarter")


def study_figures(result: TuningResult) -> list[Figure]:
    """Describe a study's figures: with few trials, one field or equal values there are fewer."""
    complete = [each for each in result.trials if each.state == "complete"]
    trials = [each for each in complete if each.value is not None and math.isfinite(each.value)]
    varying = [axis for axis in result.plan.space if len({trial.params.get(axis.field) for trial in trials}) > 1]
    figures = [_search(result, trials, varying), _fields(result, trials, varying)]
    if len(trials) >= MIN_TRIALS and len(varying) > 1 and len({trial.value for trial in trials}) > 1:
        shares = _importances(result, trials, varying)
        figures.append(_pair(result, trials, sorted(varying, key=lambda axis: -shares.get(axis.field, 0))[:2]))
        figures.append(_importance(shares))
    return [figure for figure in (*figures, _rounds(result)) if figure.rows]


def _label(result: TuningResult) -> str:
    document = study_json(result)
    unit = {"points": " (%)", "nats": " (nats)", "rounds": ""}[objective_scale(document["objective"])[2]]
    return f"{objective_words(document)}, validation{unit}"


def _words(field: str) -> str:
    return field.replace("_", " ")


def _params(trial: TrialResult, axes: Sequence[Axis]) -> dict[str, Value]:
    values = {axis.field: trial.params.get(axis.field) for axis in axes}
    return {_words(field): "all" if value is None else number(value) for field, value in values.items()}


def _shown(result: TuningResult, trials: Sequence[TrialResult]) -> Iterator[tuple[TrialResult, dict[str, Value]]]:
    """Each trial, and what figures show of it: its number, its value, and what it was when it was tried."""
    label, scale = _label(result), objective_scale(result.plan.objective)[0]
    sign = -1 if result.plan.objective.is_minimised else 1
    best = -math.inf
    for trial in trials:
        rank = sign * cast(float, trial.value) if can_be_best(result.plan.objective, trial) else -math.inf
        kind = DEFAULT if trial.number == 0 else NO_ANSWER if rank == -math.inf else RECORD if rank > best else TRIAL
        best = max(best, rank)
        yield trial, {"trial": trial.number, label: number(trial.value, scale), "it is": kind}


def _search(result: TuningResult, trials: Sequence[TrialResult], axes: Sequence[Axis]) -> Figure:
    unreached = (
        f"; a seed that did not reach the target counts as {result.plan.most_rounds + 1} rounds or more"
        if result.plan.objective is Objective.ROUNDS_TO_TARGET
        else ""
    )
    title, label = "The search, trial by trial", _label(result)
    caption = f"{len(trials)} complete trials{unreached}. Pruned, failed and diverged ones are not shown."
    rows = [{"panel": "complete trials", **shown, **_params(trial, axes)} for trial, shown in _shown(result, trials)]
    return Figure(PART, title, caption, Kind.POINTS, rows, "trial", label, series="it is")


def _fields(result: TuningResult, trials: Sequence[TrialResult], axes: Sequence[Axis]) -> Figure:
    caption = "A point is a complete trial; the other fields differ among them."
    rows: list[Row] = [
        {"field": field, "value": value, **shown}
        for axis in axes
        for trial, shown in _shown(result, trials)
        for field, value in _params(trial, [axis]).items()
    ]
    label = _label(result)
    return Figure(PART, "Each field by itself", caption, Kind.POINTS, rows, "value", label, series="it is")


def _pair(result: TuningResult, trials: Sequence[TrialResult], axes: Sequence[Axis]) -> Figure:
    sign = 1 if result.plan.objective.is_minimised else -1
    ranked = sorted(_shown(result, trials), key=lambda pair: sign * cast(float, pair[0].value))
    rows: list[Row] = [
        {
            "panel": " and ".join(_words(axis.field) for axis in axes),
            **_params(trial, axes),
            **shown,
            "it is in": QUARTERS[4 * rank // len(ranked)],
        }
        for rank, (trial, shown) in enumerate(ranked)
    ]
    caption = (
        f"A point is a complete trial, by its {objective_words(study_json(result))}. Of more than two fields these are "
        "the two that matter most."
    )
    title, (x, y) = "Two fields together", [_words(axis.field) for axis in axes]
    return Figure(PART, title, caption, Kind.POINTS, rows, x, y, series="it is in", is_log=axes[1].log)


def _importances(result: TuningResult, trials: Sequence[TrialResult], axes: Sequence[Axis]) -> dict[str, float]:
    """Each field's importance; empty if Optuna cannot say."""
    defaults = dict(zip((axis.field for axis in result.plan.space), result.plan.default.values(), strict=True))
    distributions = {axis.field: _distribution(axis, not isinstance(defaults[axis.field], float)) for axis in axes}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings(), suppress(ValueError, TypeError, RuntimeError, ArithmeticError, LookupError):
            warnings.simplefilter("ignore", ExperimentalWarning)
            study = optuna.create_study(direction="minimize" if result.plan.objective.is_minimised else "maximize")
            for trial in trials:
                params = {field: trial.params[field] for field in distributions}
                study.add_trial(create_trial(value=trial.value, params=params, distributions=distributions))
            return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {}


def _distribution(axis: Axis, whole: bool) -> BaseDistribution:
    if axis.choices:
        return CategoricalDistribution(axis.choices)
    low, high = cast(float, axis.low), cast(float, axis.high)
    return IntDistribution(int(low), int(high), log=axis.log) if whole else FloatDistribution(low, high, log=axis.log)


def _importance(shares: dict[str, float]) -> Figure:
    caption = (
        "How far each field by itself decides whether a trial is among the better ones (PED-ANOVA), as shares of one. "
        "With few trials this is rough."
    )
    rows = [{"panel": "all fields", "field": _words(field), "share": number(share)} for field, share in shares.items()]
    return Figure(PART, "Which field matters", caption, Kind.DOTS, rows, "field", "share", possible=(0, 1))


def _rounds(result: TuningResult) -> Figure:
    """Each trial's rounds, and where trials were pruned."""
    objective = result.plan.objective
    metric = "accuracy" if objective is Objective.ROUNDS_TO_TARGET else str(objective)
    scale = objective_scale(metric)[0]
    label = f"{_words(metric)}, validation ({'%' if scale == 100 else 'nats'})"
    best = result.best.trial if result.best else None
    trials = [trial for trial in result.trials if trial.rounds]
    has_lines = any(len(trial.rounds) > 1 for trial in trials)
    rows: list[Row] = [
        {
            "panel": "all trials",
            "trial": trial.number,
            "round": step,
            label: number(values[metric], scale),
            "it is": "the best" if trial.number == best else "pruned" if trial.state == "pruned" else "complete",
        }
        for trial in (trials if has_lines else ())
        for step, values in enumerate(trial.rounds, start=1)
    ]
    pruned = sum(trial.state == "pruned" for trial in trials)
    ends = "; others end where all seeds have reached the target" if objective is Objective.ROUNDS_TO_TARGET else ""
    caption = f"{len(trials)} trials, means over the seeds; {pruned} were pruned and end early{ends}."
    return Figure(PART, "Trials by round", caption, Kind.LINES, rows, "round", label, series="it is", line="trial")
