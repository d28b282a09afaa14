"""The results of a suite just run, for machines and for people."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from made_suite import made_suite, shown

from fedbench.measures import MEANINGS, RunResult, Verdict
from fedbench.reports.layout import percent
from fedbench.reports.results import cell_results, count_runs, results_table, suite_json
from fedbench.runs.suite_run import Outcome
from fedbench.stats import Spread
from fedbench.suites.schema import Suite

TEXT = """
name: made
question: What is shown?
seeds: [0, 1]
scenarios:
  - {name: grid, num_clients: [2, 3], examples_per_client: 20}
  - {name: large, examples_per_client: 9000}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return made_suite(tmp_path, TEXT)


def result(accuracy: float, verdict: Verdict = Verdict.OK, reason: str | None = None, loss: float = 0.5) -> RunResult:
    metrics = {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "loss": loss,
        "majority_rate": 0.1,
        "train_loss": 1.0,
    }
    return RunResult(verdict, reason, metrics, {0: accuracy - 0.1, 1: accuracy - 0.3})


def outcomes(suite: Suite, *results: RunResult, executed: bool = True) -> list[Outcome]:
    return [Outcome(run, each, executed) for run, each in zip(suite.runs, results, strict=False)]


def show(suite: Suite, outcomes: list[Outcome]) -> str:
    return shown(results_table(suite.name, suite.question, cell_results(suite, outcomes)))


SKIPPED = RunResult(Verdict.SKIPPED, "needs 2 x 9000 = 18000 training examples; mnist-5k has 4000")


def test_the_json_object_is_the_one_of_the_documentation(suite: Suite) -> None:
    found = suite_json(suite, outcomes(suite, result(0.8), result(0.9)))
    assert ["suite", "executed", "skipped", "failed", "computed_elsewhere", "cells", "answers"] == list(found)
    assert ("made", 2, 0, 0, 0) == tuple(found.values())[:5]
    (cell,) = found["cells"]
    expected = {
        "scenario": "grid",
        "label": "grid num_clients=2",
        "seeds": [0, 1],
        "verdict": "ok",
        "reason": None,
        "accuracy": {
            "mean": pytest.approx(0.85),
            "std": pytest.approx(0.0707107, abs=1e-6),
            # half the width: 12.7062 (t of 97.5 % with one degree of freedom) * 0.0707107 / sqrt(2) = 0.63531
            "ci95": [pytest.approx(0.21469, abs=1e-5), pytest.approx(1.48531, abs=1e-5)],
            "values": [0.8, 0.9],
        },
        "loss": {"mean": 0.5, "std": 0.0, "ci95": [0.5, 0.5], "values": [0.5, 0.5]},
        "majority_rate": {
            "mean": pytest.approx(0.1),
            "std": pytest.approx(0),
            "ci95": pytest.approx([0.1, 0.1]),
            "values": [0.1, 0.1],
        },
    }
    assert expected == {key: cell[key] for key in expected}
    assert cell["accuracy"] == cell["balanced_accuracy"]
    assert {*expected, "params", "balanced_accuracy", "client_accuracy", "rounds_to_target", "recovered"} == set(cell)


def test_parameters_are_every_field_of_the_cell(suite: Suite) -> None:
    (cell,) = suite_json(suite, outcomes(suite, result(0.8)))["cells"]
    assert suite.cells[0].spec.values == cell["params"]
    assert 2 == cell["params"]["num_clients"]


def test_client_accuracies_are_averaged_client_by_client(suite: Suite) -> None:
    (cell,) = suite_json(suite, outcomes(suite, result(0.8), result(0.6)))["cells"]
    assert [pytest.approx([0.7, 0.5]), pytest.approx([0.5, 0.3])] == cell["client_accuracy"]["values"]
    assert pytest.approx([0.6, 0.4]) == cell["client_accuracy"]["mean"]


def test_there_is_no_mean_over_seeds_that_measured_different_clients(suite: Suite) -> None:
    first, second = result(0.8), replace(result(0.6), client_accuracy={0: 0.5, 2: 0.3})
    (cell,) = suite_json(suite, outcomes(suite, first, second))["cells"]
    assert [] == cell["client_accuracy"]["mean"]
    assert [pytest.approx([0.7, 0.5]), [0.5, 0.3]] == cell["client_accuracy"]["values"]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_is_not_finite_is_null_and_the_text_is_strict_json(suite: Suite, loss: float) -> None:
    diverged = result(0.1, Verdict.DIVERGED, "the loss is not finite", loss)
    found = suite_json(suite, outcomes(suite, diverged, result(0.9)))
    text = json.dumps(found, allow_nan=False)
    (cell,) = json.loads(text)["cells"]
    assert {"mean": None, "std": None, "ci95": [None, None], "values": [None, 0.5]} == cell["loss"]
    assert [0.1, 0.9] == cell["accuracy"]["values"]
    assert ("diverged", "1 of 2 seeds: the loss is not finite") == (cell["verdict"], cell["reason"])


def test_runs_are_counted_as_executed_skipped_and_failed(suite: Suite) -> None:
    made = outcomes(
        suite, result(0.8), RunResult(Verdict.FAILED, "RuntimeError: no"), result(0.7), result(0.6), SKIPPED
    )
    made[2] = Outcome(made[2].run, made[2].result, executed=False)
    made[4] = Outcome(made[4].run, made[4].result, executed=False)
    found = suite_json(suite, made)
    assert (3, 2, 1) == (found["executed"], found["skipped"], found["failed"])


def test_failed_runs_have_no_numbers_and_the_other_seeds_keep_theirs(suite: Suite) -> None:
    made = outcomes(suite, RunResult(Verdict.FAILED, "RuntimeError: no"), result(0.7))
    (cell,) = suite_json(suite, made)["cells"]
    assert ([1], [0.7]) == (cell["seeds"], cell["accuracy"]["values"])
    assert ("failed", "1 of 2 seeds: RuntimeError: no") == (cell["verdict"], cell["reason"])


def test_a_cell_without_numbers_has_nulls_and_empty_lists(suite: Suite) -> None:
    made = [Outcome(run, SKIPPED, executed=False) for run in suite.runs[4:]]
    (cell,) = suite_json(suite, made)["cells"]
    assert ("large", "skipped", []) == (cell["scenario"], cell["verdict"], cell["seeds"])
    assert {"mean": None, "std": None, "ci95": [], "values": []} == cell["accuracy"]
    assert {"mean": [], "std": [], "values": []} == cell["client_accuracy"]


def test_seeds_are_in_the_suites_order_whatever_the_order_of_the_ends(suite: Suite) -> None:
    made = outcomes(suite, result(0.8), result(0.9), result(0.3), result(0.4))
    first, second = suite_json(suite, made[::-1])["cells"]
    assert ([0, 1], [0.8, 0.9]) == (first["seeds"], first["accuracy"]["values"])
    assert ([0, 1], [0.3, 0.4]) == (second["seeds"], second["accuracy"]["values"])


def test_the_table_shows_percent_with_the_spread_over_seeds(suite: Suite) -> None:
    text = show(suite, outcomes(suite, result(0.8), result(0.9)))
    # mean 85 %; deviations of 5 % each: sqrt(2 * 25 / 1) = 7.07
    assert "85.0 ± 7.1" in text
    assert "made" in text
    assert "What is shown?" in text
    assert "65.0" in text  # clients alone: the mean of 0.7, 0.5, 0.8 and 0.6


def test_one_seed_has_no_spread(suite: Suite) -> None:
    text = show(suite, outcomes(suite, result(0.8)))
    assert "80.0" in text
    assert "±" not in text
    assert "one seed, so no spread" in text


@pytest.mark.parametrize("verdict", [Verdict.BELOW_MAJORITY, Verdict.COLLAPSED, Verdict.DIVERGED, Verdict.FAILED])
def test_a_verdict_that_is_not_ok_is_shown_with_its_meaning(suite: Suite, verdict: Verdict) -> None:
    text = " ".join(show(suite, outcomes(suite, result(0.1, verdict, "one class"), result(0.9))).split())
    assert f"{verdict} 1/2" in text
    assert f"{verdict}: {MEANINGS[verdict]}." in text


def test_a_suite_that_went_well_explains_no_verdict(suite: Suite) -> None:
    text = show(suite, outcomes(suite, result(0.8), result(0.9)))
    assert not any(meaning[:40] in text for meaning in MEANINGS.values())


def test_a_skipped_cell_is_shown_with_the_numbers(suite: Suite) -> None:
    made = [Outcome(run, SKIPPED, executed=False) for run in suite.runs[4:]]
    text = show(suite, made)
    assert "needs 2 x 9000 = 18000 training examples; mnist-5k has 4000" in text


def test_a_loss_that_is_not_finite_does_not_break_the_table(suite: Suite) -> None:
    assert "10.0" in show(suite, outcomes(suite, result(0.1, Verdict.DIVERGED, "the loss is not finite", math.nan)))


def test_percent() -> None:
    assert "82.4 ± 1.3" == percent(Spread(0.824, 0.0131, (0.8, 0.9)))
    assert "82.4" == percent(Spread(0.824, None, (0.824,)))


def test_a_single_seed_has_no_interval(suite: Suite) -> None:
    (cell,) = suite_json(suite, outcomes(suite, result(0.8)))["cells"]
    assert {"mean": 0.8, "std": None, "ci95": [], "values": [0.8]} == cell["accuracy"]


def test_the_runs_are_counted_in_words(suite: Suite) -> None:
    ok, failed, short = result(0.5), RunResult(Verdict.FAILED), RunResult(Verdict.SKIPPED)
    made = [*outcomes(suite, ok, failed), *outcomes(suite, ok, ok, ok, short, executed=False)]
    assert "1 run executed." == count_runs(made[:1])
    assert "2 runs executed, 3 were already finished, 1 skipped for lack of data, 1 failed." == count_runs(made)
