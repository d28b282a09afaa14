"""What trials are worth: what diverged ranks last, what did not reach the target after all that did."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_study import made_plan, made_trial
from optuna.trial import Trial
from tiny_study import computed, storage_in, study_of, tiny_plan, tiny_work

import fedbench.tuning.trial as trial_module
from fedbench.measures import Verdict
from fedbench.suites.tune import Axis, Objective
from fedbench.tuning.objective import can_be_best, objective_value, trial_value
from fedbench.tuning.plan import Plan, identity
from fedbench.tuning.verification import best_trial

ROUNDS = made_plan(objective=Objective.ROUNDS_TO_TARGET, target=0.8)  # of four rounds


def rounds(*accuracies: float, diverged: bool = False) -> list[dict[str, float]]:
    history = [dict.fromkeys(trial_module.MEASURED, accuracy) for accuracy in accuracies]
    history[-1]["loss"] = math.inf if diverged else 1.0
    return history


@pytest.mark.parametrize(
    ("accuracies", "value"),
    [
        ((0.5, 0.7, 0.9), 2.5),  # half-way between rounds 2 and 3
        ((0.8, 0.9), 1.0),  # in the first round
        ((0.6, 0.5, 0.8), 3.0),  # the best so far, 0.6, stands for round 2
        ((0.6, 0.5, 1.0), 2.5),
        ((0.5, 0.6, 0.5, 0.4), 5.2),  # not reached: one more than the four rounds, and what is lacking
        ((0.5, 0.6), 5.2),  # however few were played
    ],
)
def test_rounds_to_target_are_interpolated_as_in_the_paper(accuracies: tuple[float, ...], value: float) -> None:
    assert pytest.approx(value) == objective_value(ROUNDS, rounds(*accuracies))


def test_a_seed_that_diverged_is_worth_less_than_any_other_unless_it_reached_the_target_before() -> None:
    assert math.inf == objective_value(ROUNDS, rounds(0.1, diverged=True))
    assert 1 == objective_value(ROUNDS, rounds(0.9, 0.1, diverged=True))
    assert 6 > objective_value(ROUNDS, rounds(0.0, 0.0, 0.0, 0.0))


ACCURACIES = st.lists(st.floats(0, 1), min_size=1, max_size=ROUNDS.most_rounds)


@given(ACCURACIES, ACCURACIES)
def test_what_did_not_reach_the_target_ranks_after_all_that_did(one: list[float], other: list[float]) -> None:
    values = [objective_value(ROUNDS, rounds(*each)) for each in (one, other)]
    reached = [max(each) >= 0.8 for each in (one, other)]
    if reached == [True, False]:
        assert values[0] <= ROUNDS.most_rounds < values[1]
    elif not any(reached):
        assert (values[0] < values[1]) <= (max(one) > max(other))


@given(ACCURACIES)
def test_what_the_pruner_compares_falls_with_each_round(accuracies: list[float]) -> None:
    values = [objective_value(ROUNDS, rounds(*accuracies[: t + 1])) for t in range(len(accuracies))]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("objective", Objective)
def test_a_trial_of_which_a_seed_diverged_ranks_last_whatever_its_mean(objective: Objective) -> None:
    order = sorted([trial_value(objective, [0.9, 0.9, 0.1], True), trial_value(objective, [0.0, 0.0, 0.0], False)])
    assert not math.isfinite(order[1 if objective.is_minimised else 0])


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize("verdict", [Verdict.COLLAPSED, Verdict.DIVERGED, Verdict.FAILED])
def test_no_other_verdict_is_an_answer(objective: Objective, verdict: Verdict) -> None:
    trial = made_trial(made_plan(), 1, {}, verdict=verdict)
    assert not can_be_best(objective, trial)
    assert can_be_best(objective, replace(trial, verdict=Verdict.OK))
    assert not can_be_best(objective, replace(trial, verdict=Verdict.OK, state="pruned"))


def test_the_most_rounds_are_those_of_the_cheapest_round_and_of_the_longest_search() -> None:
    epochs, fractions = Axis(field="local_epochs", low=1, high=20), Axis(field="client_fraction", low=0.1, high=1.0)
    plan = made_plan(space=(epochs,))  # four rounds of five epochs
    assert 4 == plan.most_rounds
    assert 20 == replace(plan, budget="steps").most_rounds
    batches = Axis(field="batch_size", choices=(10, None, 50))
    steps = replace(plan, budget="steps", space=(epochs, batches))
    assert max(steps.spec_of({"local_epochs": 1, "batch_size": None}).rounds, 20) == steps.most_rounds
    steps = replace(plan, budget="steps", spec=plan.spec.replace({"num_clients": 10}), space=(fractions,))
    assert steps.spec_of({"client_fraction": 0.1}).rounds == steps.most_rounds == 40
    assert 9 == replace(plan, budget="none", space=(Axis(field="rounds", low=2, high=9),)).most_rounds


def test_a_configuration_of_fewer_rounds_that_misses_the_target_is_no_better_than_one_that_reaches_it() -> None:
    plan = replace(ROUNDS, budget="steps", space=(Axis(field="local_epochs", low=1, high=20),))
    assert 1 == plan.spec_of({"local_epochs": 20}).rounds
    assert objective_value(plan, rounds(0.79)) > 20 >= objective_value(plan, rounds(*[0.1] * 19, 0.8))


def test_the_studies_whose_values_are_others_now_are_other_studies() -> None:
    before = dict(zip(Objective, ("ed164b90", "9f656cd7", "f79e6da8", "14841a06"), strict=True))
    for objective, earlier in before.items():
        plan = ROUNDS if objective is ROUNDS.objective else made_plan(objective=objective)
        assert (earlier == identity(plan, "d", "cpu", 2)[:8]) == (objective is Objective.LOSS)


# In a study


def tiny_rounds(folder: Path, trials: int, **changes: Any) -> Plan:
    """A study of the rounds to an accuracy of 0.5, of at most eight, with one seed."""
    plan = tiny_plan(folder, trials, objective=Objective.ROUNDS_TO_TARGET, target=0.5, seeds=(0,), **changes)
    return replace(plan, spec=plan.spec.replace({"rounds": 8, "learning_rate": 0.1, "local_epochs": 5}))


def test_trials_that_fall_behind_are_pruned_in_later_rounds_too(tmp_path: Path) -> None:
    space = (Axis(field="learning_rate", low=0.02, high=0.5, log=True),)
    trials = computed(tiny_rounds(tmp_path, 8, space=space), storage_in(tmp_path))
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert max(len(trial.rounds) for trial in pruned) > 1
    assert all(trial.value and trial.value > 8 for trial in pruned)
    assert {len(trial.rounds) for trial in trials if trial.value and trial.value <= 8} - {8}  # ended at the target


def test_the_default_is_never_pruned_also_if_it_is_tried_again_after_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trial, "should_prune", lambda _: True)
    trials = computed(tiny_plan(tmp_path, 2), storage_in(tmp_path))
    assert ["complete", "pruned"] == [trial.state for trial in trials]


def test_a_rate_that_diverges_is_worst_for_the_sampler_too(tmp_path: Path) -> None:
    space = (Axis(field="learning_rate", choices=(0.1, 1e30)),)
    plan = tiny_rounds(tmp_path, 2, space=space, pruning=False)
    good, bad = computed(plan, storage_in(tmp_path))
    assert (Verdict.DIVERGED, math.inf, 1) == (bad.verdict, bad.value, len(bad.rounds))
    assert [good.value, math.inf] == [trial.value for trial in study_of(tiny_work(plan, storage_in(tmp_path))).trials]
    assert best_trial(plan, [bad, good]) == good
