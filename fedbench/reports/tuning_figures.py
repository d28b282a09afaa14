"""A study's figures, as data: the search trial by trial, its fields, and its trials by round."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
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
    figures = [*_history(result, trials, varying)]
    if varying:
        figures += _fields(result, trials, varying)
    if len(trials) >= MIN_TRIALS and len(varying) > 1 and len({trial.value for trial in trials}) > 1:
        shares = _importances(result, trials, varying)
        figures += _pair(result, trials, sorted(varying, key=lambda axis: -shares.get(axis.field, 0))[:2])
        figures += _importance(shares)
    return [*figures, *_rounds(result)]


def _label(result: TuningResult) -> str:
    document = study_json(result)
    unit = {"points": " (%)", "nats": " (nats)", "rounds": ""}[objective_scale(document["objective"])[2]]
    return f"{objective_words(document)}, validation{unit}"


def _value(result: TuningResult, trial: TrialResult) -> float | None:
    return number(trial.value, objective_scale(result.plan.objective)[0])


def _words(field: str) -> str:
    return field.replace("_", " ")


def _params(trial: TrialResult, axes: Sequence[Axis]) -> dict[str, Value]:
    values = {axis.field: trial.params.get(axis.field) for axis in axes}
    return {_words(field): "all" if value is None else number(value) for field, value in values.items()}


def _kinds(result: TuningResult, trials: Sequence[TrialResult]) -> Iterator[tuple[TrialResult, str]]:
    """Each trial and what it was when it was tried."""
    sign = -1 if result.plan.objective.is_minimised else 1
    ranks = [
        sign * cast(float, trial.value) if can_be_best(result.plan.objective, trial) else -math.inf for trial in trials
    ]
    for trial, rank, before in zip(trials, ranks, [-math.inf, *accumulate(ranks, max)], strict=False):
        is_record = rank > before
        yield (
            trial,
            DEFAULT if trial.number == 0 else NO_ANSWER if rank == -math.inf else RECORD if is_record else TRIAL,
        )


def _history(result: TuningResult, trials: Sequence[TrialResult], axes: Sequence[Axis]) -> Iterator[Figure]:
    if not trials:
        return
    plan = result.plan
    label = _label(result)
    unreached = (
        f"; a seed that did not reach the target counts as {plan.most_rounds + 1} rounds or more"
        if plan.objective is Objective.ROUNDS_TO_TARGET
        else ""
    )
    rows: list[Row] = [
        {
            "panel": "complete trials",
            "trial": trial.number,
            label: _value(result, trial),
            "it is": kind,
            **_params(trial, axes),
        }
        for trial, kind in _kinds(result, trials)
    ]
    yield Figure(
        PART,
        "The search, trial by trial",
        f"{len(trials)} complete trials{unreached}. Pruned, failed and diverged ones are not shown.",
        Kind.POINTS,
        rows,
        x="trial",
        y=label,
        series="it is",
        panel="panel",
    )


def _fields(result: TuningResult, trials: Sequence[TrialResult], axes: Sequence[Axis]) -> Iterator[Figure]:
    label = _label(result)
    rows: list[Row] = [
        {
            "field": _words(axis.field),
            "value": value,
            label: _value(result, trial),
            "trial": trial.number,
            "it is": kind,
        }
        for axis in axes
        for trial, kind in _kinds(result, trials)
        for value in _params(trial, [axis]).values()
    ]
    yield Figure(
        PART,
        "Each field by itself",
        "A point is a complete trial; the other fields differ among them.",
        Kind.POINTS,
        rows,
        x="value",
        y=label,
        series="it is",
        panel="field",
    )


def _pair(result: TuningResult, trials: Sequence[TrialResult], axes: Sequence[Axis]) -> Iterator[Figure]:
    sign = 1 if result.plan.objective.is_minimised else -1
    ranked = sorted(trials, key=lambda trial: sign * cast(float, trial.value))
    rows: list[Row] = [
        {
            "panel": " and ".join(_words(axis.field) for axis in axes),
            **_params(trial, axes),
            _label(result): _value(result, trial),
            "trial": trial.number,
            "it is in": QUARTERS[4 * rank // len(ranked)],
        }
        for rank, trial in enumerate(ranked)
    ]
    yield Figure(
        PART,
        "Two fields together",
        f"A point is a complete trial, by its {objective_words(study_json(result))}. Of more than two fields these are "
        "the two that matter most.",
        Kind.POINTS,
        rows,
        x=_words(axes[0].field),
        y=_words(axes[1].field),
        series="it is in",
        panel="panel",
        is_log=axes[1].log,
    )


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


def _importance(shares: dict[str, float]) -> Iterator[Figure]:
    rows = [{"panel": "all fields", "field": _words(field), "share": number(share)} for field, share in shares.items()]
    if rows:
        yield Figure(
            PART,
            "Which field matters",
            "How far each field by itself decides whether a trial is among the better ones (PED-ANOVA), as shares of "
            "one. With few trials this is rough.",
            Kind.DOTS,
            rows,
            x="field",
            y="share",
            panel="panel",
            possible=(0, 1),
        )


def _rounds(result: TuningResult) -> Iterator[Figure]:
    """Each trial's rounds, and where trials were pruned."""
    objective = result.plan.objective
    metric = "accuracy" if objective is Objective.ROUNDS_TO_TARGET else str(objective)
    scale = objective_scale(metric)[0]
    label = f"{_words(metric)}, validation ({'%' if scale == 100 else 'nats'})"
    best = result.best.trial if result.best else None
    trials = [trial for trial in result.trials if trial.rounds]
    if max((len(trial.rounds) for trial in trials), default=0) < 2:
        return
    rows: list[Row] = [
        {
            "panel": "all trials",
            "trial": trial.number,
            "round": step,
            label: number(values[metric], scale),
            "it is": "the best" if trial.number == best else "pruned" if trial.state == "pruned" else "complete",
        }
        for trial in trials
        for step, values in enumerate(trial.rounds, start=1)
    ]
    pruned = sum(trial.state == "pruned" for trial in trials)
    ends = "; others end where all seeds have reached the target" if objective is Objective.ROUNDS_TO_TARGET else ""
    yield Figure(
        PART,
        "Trials by round",
        f"{len(trials)} trials, means over the seeds; {pruned} were pruned and end early{ends}.",
        Kind.LINES,
        rows,
        x="round",
        y=label,
        series="it is",
        panel="panel",
        line="trial",
    )
