"""A finished study with made numbers: its plan, its trials and its answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from fedbench.measures import Verdict
from fedbench.stats import difference_of, spread
from fedbench.suites.schema import CellSpec
from fedbench.suites.tune import Axis, Objective
from fedbench.tuning.plan import Params, Plan
from fedbench.tuning.results import Answer, Candidate, TrialResult, TuningResult

SPACE = (
    Axis(field="local_epochs", low=1, high=20, log=True),
    Axis(field="learning_rate", low=0.001, high=1.0, log=True),
)
WIDE_SPACE = (
    Axis(field="client_fraction", low=0.1, high=1.0),
    Axis(field="local_epochs", low=1, high=20, log=True),
    Axis(field="batch_size", choices=(10, 50, None)),
    Axis(field="learning_rate", low=0.001, high=1.0, log=True),
)

ENDED = 1.7e9  # in seconds since 1970


def made_plan(**changes: Any) -> Plan:
    plan = Plan(
        suite="made",
        scenario="pair",
        cell="pair init=shared",
        spec=CellSpec(rounds=4, learning_rate=0.01, local_epochs=5),
        space=SPACE,
        objective=Objective.ACCURACY,
        target=None,
        budget="rounds",
        seeds=(0, 1, 2),
        fresh_seeds=(5, 6, 7),
        validation=0.2,
        pruning=True,
        sampler_seed=0,
        trials=12,
    )
    return replace(plan, **changes)


def accuracy_of(params: Params, step: int) -> float:
    """Best at a learning rate of 0.1 and 10 local epochs; it rises round by round."""
    away = (math.log10((params.get("learning_rate") or 0.1) / 0.1)) ** 2 / 4
    away += math.log((params.get("local_epochs") or 10) / 10) ** 2 / 20
    away += 0.0 if params.get("batch_size", 10) else 0.1
    return (0.95 - 0.2 / step) * math.exp(-away)


def made_trial(
    plan: Plan, number: int, params: Params, state: Any = "complete", verdict: Verdict = Verdict.OK, wobble: float = 0.0
) -> TrialResult:
    if state == "failed":
        return TrialResult(
            number, state, params, (), (), None, Verdict.FAILED, "RuntimeError: no memory", 0, 0.5, ENDED
        )
    rounds = []
    for step in range(1, (2 if state == "pruned" else plan.spec.rounds) + 1):
        accuracy = accuracy_of(params, step) + wobble
        measured = {"accuracy": accuracy, "balanced_accuracy": accuracy - 0.01, "loss": 1 - accuracy}
        rounds.append(measured | {"train_loss": 0.9 - accuracy / 2})
    middle = rounds[-1].get(plan.objective, 3.0)
    values = tuple(middle + 0.01 * (index - 1) for index in range(len(plan.seeds)))
    reason = "1 of 3 seeds: predicts class 0 for every image" if verdict is not Verdict.OK else None
    value = spread(values).mean
    return TrialResult(
        number, state, params, tuple(rounds), values, value, verdict, reason, 120 * len(rounds), 2.5, ENDED
    )


def made_candidate(plan: Plan, trial: TrialResult, test: tuple[float, ...] | None, **changes: Any) -> Candidate:
    spec = plan.spec_of(trial.params)
    made = Candidate(
        trial=trial.number,
        params=trial.params,
        spec=spec,
        validation=spread(trial.values),
        test=None if test is None else spread(test),
        verdict=Verdict.OK,
        reason=None,
        local_steps=100 * spec.local_epochs,
    )
    return replace(made, **changes)


def drawn_params(plan: Plan, stream: np.random.Generator) -> Params:
    found: dict[str, Any] = {}
    for axis in plan.space:
        if axis.choices:
            found[axis.field] = axis.choices[stream.integers(len(axis.choices))]
            continue
        assert axis.low is not None
        assert axis.high is not None
        share = stream.random()
        value = axis.low * (axis.high / axis.low) ** share if axis.log else axis.low + share * (axis.high - axis.low)
        found[axis.field] = round(value) if isinstance(axis.low, int) else float(value)
    return found


def made_result(plan: Plan | None = None, count: int = 12) -> TuningResult:
    """A study whose best has 9 points more than the default on each fresh seed, and 8, 9 and 10 to be precise."""
    plan = plan or made_plan()
    stream = np.random.default_rng(0)
    trials = [made_trial(plan, 0, plan.default)]
    for number in range(1, count):
        params = drawn_params(plan, stream)
        state = "failed" if number == 5 else "pruned" if number % 4 == 3 else "complete"
        verdict = {6: Verdict.BELOW_MAJORITY, 7: Verdict.COLLAPSED}.get(number, Verdict.OK)
        trials.append(made_trial(plan, number, params, state, verdict, 0.02 * stream.random()))
    complete = [trial for trial in trials if trial.state == "complete"]
    sign = -1 if plan.objective.is_minimised else 1
    found = max(complete, key=lambda trial: sign * (trial.value or 0.0))
    default = made_candidate(plan, trials[0], (0.79, 0.80, 0.81))
    best = made_candidate(plan, found, (0.87, 0.89, 0.91))
    gain = difference_of(dict(enumerate((0.79, 0.80, 0.81))), dict(enumerate((0.87, 0.89, 0.91))))
    assert gain.interval is not None
    reason = "the best is better than the default on 3 fresh seeds"
    result = TuningResult(plan, tuple(trials), best, default, (gain.mean, gain.interval), Answer.BETTER, reason, 30.0)
    return replace(result, fresh_seeds=plan.fresh_seeds, answers=1)


def without_answer(plan: Plan | None = None) -> TuningResult:
    """A study of which every trial failed."""
    plan = plan or made_plan()
    trials = tuple(made_trial(plan, number, plan.default, "failed") for number in range(2))
    reason = "no answer: 2 of 2 trials failed, the first: RuntimeError: no memory"
    return TuningResult(plan, trials, None, None, None, Answer.NONE, reason, 1.0)
