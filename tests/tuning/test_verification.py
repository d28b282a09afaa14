"""What is said of the best against the default, with numbers that a reader can check; and what is saved of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_store import write_suite
from tiny_study import tiny_plan

from fedbench.measures import Verdict
from fedbench.stats import spread
from fedbench.suites.loading import load_suite
from fedbench.suites.tune import Objective
from fedbench.tuning.plan import Plan, make_plan
from fedbench.tuning.results import Answer, Candidate, TrialResult
from fedbench.tuning.save import require_new_file, save_suite
from fedbench.tuning.verification import answer, best_trial, tuning_suite
from fedbench.util.errors import SuiteError

OWN = """
name: own
question: Is it saved?
seeds: [0, 1, 2]
scenarios: [{name: a, %s}]
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return tiny_plan(tmp_path)


def trial(number: int, value: float | None = 0.5, **changes: Any) -> TrialResult:
    params = {"local_epochs": 1 + number % 3, "learning_rate": 0.01 * (number + 1)}
    values = () if value is None else (value, value)
    made = TrialResult(number, "complete", params, (), values, value, Verdict.OK, None, 6, 0.1)
    return replace(made, **changes)


def candidate(plan: Plan, of: TrialResult, *test: float) -> Candidate:
    tested = spread(test) if test else None
    return Candidate(of.number, of.params, plan.spec_of(of.params), spread(of.values), tested, Verdict.OK, None, 6)


def test_the_best_is_the_sound_complete_trial_with_the_highest_value(plan: Plan) -> None:
    trials = [
        trial(0, 0.5),
        trial(1, 0.9, state="pruned"),
        trial(2, 0.9, verdict=Verdict.COLLAPSED),
        trial(3, 0.7),
        trial(4, 0.7),
        trial(5, None, state="failed", verdict=Verdict.FAILED),
        trial(6, 0.9, verdict=Verdict.DIVERGED),
    ]
    best = best_trial(plan, trials)
    assert best is not None
    assert 3 == best.number


@pytest.mark.parametrize("objective", Objective)
def test_a_trial_below_the_majority_rate_is_an_answer_for_the_balanced_accuracy_alone(
    plan: Plan, objective: Objective
) -> None:
    best = best_trial(replace(plan, objective=objective), [trial(0, verdict=Verdict.BELOW_MAJORITY)])
    assert (best is not None) == (objective is Objective.BALANCED_ACCURACY)


@pytest.mark.parametrize("objective", [Objective.LOSS, Objective.ROUNDS_TO_TARGET])
def test_or_the_lowest_where_that_is_better(plan: Plan, objective: Objective) -> None:
    best = best_trial(replace(plan, objective=objective), [trial(0, 0.5), trial(1, 0.4)])
    assert best is not None
    assert 1 == best.number


@pytest.mark.parametrize(
    ("objective", "best", "default", "answered", "gain"),
    [
        # each seed gained 0.2: no spread
        (Objective.ACCURACY, (0.3, 0.4, 0.5), (0.1, 0.2, 0.3), Answer.BETTER, (0.2, 0.2, 0.2)),
        # gains of 0.2, 0.1 and -0.1: 1/15, and its interval includes zero
        (Objective.ACCURACY, (0.3, 0.3, 0.3), (0.1, 0.2, 0.4), Answer.UNCLEAR, (1 / 15, -0.3128, 0.4461)),
        (Objective.ACCURACY, (0.1, 0.2, 0.3), (0.3, 0.4, 0.5), Answer.WORSE, (-0.2, -0.2, -0.2)),
        (Objective.LOSS, (1.0, 1.1, 1.2), (2.0, 2.1, 2.2), Answer.BETTER, (1.0, 1.0, 1.0)),
    ],
)
def test_the_gain_is_paired_by_seed_with_its_interval(
    plan: Plan,
    objective: Objective,
    best: tuple[float, ...],
    default: tuple[float, ...],
    answered: Answer,
    gain: tuple[float, ...],
) -> None:
    plan, trials = replace(plan, objective=objective), [trial(0), trial(1, 0.6)]
    result = answer(plan, trials, candidate(plan, trials[1], *best), candidate(plan, trials[0], *default), 1.0)
    assert answered is result.answer
    assert (answered is Answer.UNCLEAR) == (result.reason == "the interval of the gain includes zero")
    assert result.gain is not None
    assert pytest.approx(gain, abs=1e-4) == (result.gain[0], *result.gain[1])


INF = float("inf")


@pytest.mark.parametrize(
    ("default", "best", "answered", "reason"),
    [
        ((INF, INF, INF), (1.0, 1.1, 1.2), Answer.BETTER, "the default diverged on 3 of 3 fresh seeds, the best on 0"),
        ((1.0, 1.1, 1.2), (INF, INF, INF), Answer.WORSE, "the default diverged on 0 of 3 fresh seeds, the best on 3"),
        ((1.0, INF, 1.2), (0.5, 0.5, 0.5), Answer.UNCLEAR, "1 of 3 fresh seeds, the best on 0, so the gain is not"),
        ((INF, INF, INF), (1.0, INF, 1.2), Answer.UNCLEAR, "3 of 3 fresh seeds, the best on 1, so the gain is not"),
        ((INF,), (1.0,), Answer.UNCLEAR, "the default diverged on 1 of 1 fresh seeds"),
        ((2.0,), (1.0,), Answer.UNCLEAR, "a single fresh seed gives no interval of the gain"),
    ],
)
def test_where_there_is_no_gain_with_an_interval_it_is_said_why(
    plan: Plan, default: tuple[float, ...], best: tuple[float, ...], answered: Answer, reason: str
) -> None:
    plan, trials = replace(plan, objective=Objective.LOSS), [trial(0), trial(1, 0.4)]
    result = answer(plan, trials, candidate(plan, trials[1], *best), candidate(plan, trials[0], *default), 1.0)
    assert (answered, None) == (result.answer, result.gain)
    assert reason in result.reason


def test_where_no_seed_reached_the_target_there_is_no_number_of_rounds_to_gain(plan: Plan) -> None:
    plan = replace(plan, objective=Objective.ROUNDS_TO_TARGET, target=0.9)  # of three rounds
    trials = [trial(0, 4.5), trial(1, 4.1)]
    default, best = candidate(plan, trials[0], 4.5, 4.5, 4.6), candidate(plan, trials[1], 4.1, 4.1, 4.2)
    result = answer(plan, trials, best, default, 1.0)
    assert (Answer.UNCLEAR, None) == (result.answer, result.gain)
    assert result.reason.startswith("no seed of either reached the target on the test set")
    assert answer(plan, trials, default, default, 1.0).reason.endswith("1 trials; no seed of it reached the target")
    reached = answer(plan, trials, candidate(plan, trials[1], 2.1, 2.0, 2.2), default, 1.0)
    assert Answer.BETTER is reached.answer


def test_where_the_default_is_best_the_search_bought_nothing(plan: Plan) -> None:
    trials = [trial(0, 0.6), trial(1)]
    default = candidate(plan, trials[0], 0.3, 0.4, 0.5)
    result = answer(plan, trials, default, default, 1.0)
    assert (Answer.SAME, None) == (result.answer, result.gain)  # nothing was compared


def test_a_best_that_collapsed_on_fresh_seeds_is_named_in_the_answer(plan: Plan) -> None:
    trials = [trial(0), trial(1, 0.6)]
    default, best = candidate(plan, trials[0], 0.1, 0.2, 0.3), candidate(plan, trials[1], 0.3, 0.4, 0.5)
    reason = "1 of 3 seeds: predicts class 7 for every image"
    lost = replace(best, verdict=Verdict.COLLAPSED, reason=reason)
    result = answer(plan, trials, lost, default, 1.0)
    assert Answer.BETTER is result.answer
    assert result.reason.endswith("better than the default; but the best collapsed in 1 of 3 fresh seeds")
    same = replace(default, verdict=Verdict.DIVERGED, reason="3 of 3 seeds: the loss is not finite")
    assert answer(plan, trials, same, same, 1.0).reason.endswith("but the default diverged in 3 of 3 fresh seeds")


def test_where_no_trial_is_sound_there_is_no_answer_and_it_is_said_why(plan: Plan) -> None:
    trials = [
        trial(0, state="pruned"),
        trial(1, None, state="failed", verdict=Verdict.FAILED, reason="RuntimeError: no memory"),
        trial(2, verdict=Verdict.COLLAPSED),
    ]
    result = answer(plan, trials, best_trial(plan, trials), None, 1.0)  # type: ignore[arg-type]
    assert Answer.NONE is result.answer
    assert (
        "of 3 trials 1 pruned, 1 failed, 1 collapsed (RuntimeError: no memory): widen the space of local_epochs or "
        "learning_rate, or raise rounds or data" == result.reason
    )


def test_where_no_trial_has_ended_there_is_no_answer(plan: Plan) -> None:
    assert "no trial has ended: give the search more time" == answer(plan, [], None, None, 1.0).reason


def test_a_default_that_failed_leaves_no_answer(plan: Plan) -> None:
    trials = [trial(0, None, state="failed", verdict=Verdict.FAILED), trial(1)]
    result = answer(plan, trials, candidate(plan, trials[1], 0.5, 0.5, 0.6), None, 1.0)
    assert (Answer.NONE, "the default configuration could not be tested") == (result.answer, result.reason)


def test_the_tests_are_a_suite_of_the_fresh_seeds(plan: Plan) -> None:
    suite = tuning_suite(plan, [trial(0), trial(1)], plan.fresh_seeds)
    assert "tiny.tuning" == suite.name
    assert ["pair local_epochs=1 learning_rate=0.01", "pair local_epochs=2 learning_rate=0.02"] == [
        cell.label for cell in suite.cells
    ]
    assert {10, 11, 12} == {run.seed for run in suite.runs}
    assert not {*plan.fresh_seeds} & {*plan.seeds}


def test_what_is_saved_is_a_suite_with_the_best_values_exactly(plan: Plan, tmp_path: Path) -> None:
    found = trial(1, params={"local_epochs": 3, "learning_rate": 0.06940364732004282})
    best = candidate(plan, found, 0.5, 0.5, 0.6)
    path = tmp_path / "best.yaml"
    save_suite(path, answer(plan, [trial(0), found], best, candidate(plan, trial(0), 0.1, 0.1, 0.1), 1.0), best, (4, 5))
    (cell,) = load_suite(path).cells
    assert (best.spec, (4, 5)) == (cell.spec, cell.seeds)


def test_what_was_saved_may_be_replaced(plan: Plan, tmp_path: Path) -> None:
    best = candidate(plan, trial(1), 0.5, 0.5, 0.6)
    for _ in range(2):
        require_new_file(tmp_path / "best.yaml")
        save_suite(tmp_path / "best.yaml", answer(plan, [trial(1)], best, None, 1.0), best, (0,))


def test_null_values_are_saved_too(plan: Plan, tmp_path: Path) -> None:
    found = trial(1, params={"batch_size": None})
    best = candidate(plan, found, 0.5, 0.5, 0.6)
    save_suite(tmp_path / "best.yaml", answer(plan, [found], best, None, 1.0), best, (0,))
    assert load_suite(tmp_path / "best.yaml").cells[0].spec.batch_size is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best.txt", "a suite file ends in .yaml"),
        ("there.yaml", "the file is there already; name a new one"),
        ("no/best.yaml", "there is no folder"),
    ],
)
def test_a_file_that_cannot_be_saved_is_refused_before_the_search(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "there.yaml").touch()
    with pytest.raises(SuiteError, match=message):
        require_new_file(tmp_path / name)


def test_a_saved_suite_names_own_parts_from_its_own_folder(tmp_path: Path) -> None:
    for folder in ("suites", "parts", "saved"):
        (tmp_path / folder).mkdir()
    (tmp_path / "parts/net.py").write_text("from torch import nn\ndef net(width=1, **more): ...\n")
    np.savez(tmp_path / "parts/d.npz", x_train=np.zeros((60, 2)), y_train=[0, 1] * 30, x_test=[[0.0, 0]], y_test=[0])
    fields = "dataset: ../parts/d.npz, model: {use: '../parts/net.py:net', width: 3, depth: 4}, examples_per_client: 10"
    plan = make_plan(write_suite(tmp_path / "suites", OWN % fields))
    best = candidate(plan, trial(1), 0.5, 0.1, 0.1)
    save_suite(tmp_path / "saved/best.yaml", answer(plan, [trial(1)], best, None, 1.0), best, (0,))
    (cell,) = load_suite(tmp_path / "saved/best.yaml").cells
    assert {"use": "../parts/net.py:net", "width": 3, "depth": 4} == yaml.safe_load(
        (tmp_path / "saved/best.yaml").read_text()
    )["scenarios"][0]["model"]
    assert ("../parts/d.npz", 3, 4) == (cell.spec.dataset, cell.spec.get("width"), cell.spec.get("depth"))
