"""Rounds to a target wherever they are shown, with numbers that can be worked out by hand.

The accuracy is 60, 70, 80 and 90 % in rounds 1 to 4, 10 points more with three clients, and one point more a seed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_store import address, record
from made_suite import made_suite, metrics_of, rounds_of, shown, stored_suite

from fedbench.measures import Verdict, rounds_to_target, run_result
from fedbench.reports.comparison import Change, compare, comparison_table
from fedbench.reports.figures import suite_figures
from fedbench.reports.page import make_report
from fedbench.reports.results import results_table, stored_json, suite_json
from fedbench.reports.tables import export_suite
from fedbench.runs.suite_run import Outcome
from fedbench.suites.schema import RunSpec, Suite
from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.tracking.records import StoredSuite

TEXT = """
name: soon
question: How soon?
seeds: [0, 1, 2]
scenarios:
  - {name: stop, num_clients: [2, 3], examples_per_client: 20, rounds: 4, target_accuracy: 0.715, stop_at_target: true}
  - {name: some, examples_per_client: 20, rounds: 4, target_accuracy: 0.915}
  - {name: none, examples_per_client: 20, rounds: 4, target_accuracy: 0.99, stop_at_target: true}
  - {name: without, examples_per_client: 20, rounds: 4}
"""
STOP, SOON, SOME, NONE, WITHOUT = range(5)


def counted(run: RunSpec, step: int) -> dict[str, float]:
    """The metrics, with the rounds to the target in each round that may be the last."""
    metrics = metrics_of(run, step)
    accuracies = [metrics_of(run, each)["accuracy"] for each in range(1, step + 1)]
    target = run.spec.target_accuracy
    reached = rounds_to_target(accuracies, target) if target else None
    is_last = step == run.spec.rounds or run.spec.stop_at_target
    return metrics if reached is None or not is_last else metrics | {"rounds_to_target": reached}


def sooner(run: RunSpec, step: int) -> dict[str, float]:
    """The same with half a round less."""
    metrics = counted(run, step)
    return metrics | {name: value - 0.5 for name, value in metrics.items() if name == "rounds_to_target"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return made_suite(tmp_path_factory.mktemp("suite"), TEXT)


@pytest.fixture(scope="module")
def stored(suite: Suite) -> StoredSuite:
    return stored_suite(suite, counted)


def cells_json(stored: StoredSuite) -> list[dict[str, Any]]:
    return list(json.loads(json.dumps(stored_json(stored), allow_nan=False))["cells"])


def test_the_json_has_the_target_and_the_spread_if_all_seeds_reached_it(stored: StoredSuite) -> None:
    found = [cell["rounds_to_target"] for cell in cells_json(stored)]
    # 71.5 % is crossed between 70 and 80, between 71 and 81, and between 62 and 72
    assert {
        "target": 0.715,
        "rounds": 4,
        "reached": 3,
        "mean": pytest.approx(2.05),
        "std": pytest.approx(0.1),
        "ci95": pytest.approx([2.05 - 0.248414, 2.05 + 0.248414], abs=1e-6),  # 4.303 · 0.1 / √3
        "values": pytest.approx([2.15, 2.05, 1.95]),
    } == found[STOP]
    assert pytest.approx([1.15, 1.05, 1.0]) == found[SOON]["values"]  # the last in round 1
    assert {"target": 0.915, "rounds": 4, "reached": 1, "mean": None, "std": None, "ci95": []} == {
        name: value for name, value in found[SOME].items() if name != "values"
    }
    assert [None, None, pytest.approx(3.95)] == found[SOME]["values"]
    assert (0, [None, None, None]) == (found[NONE]["reached"], found[NONE]["values"])
    assert found[WITHOUT] is None


def test_a_store_gives_the_same_as_the_run_just_executed(suite: Suite, stored: StoredSuite, tmp_path: Path) -> None:
    """And its own run of a cell has the spread if every seed reached the target."""
    outcomes = [Outcome(run, run_result(Verdict.OK, None, rounds_of(run, counted)[-1]), True) for run in suite.runs]
    executed = json.loads(json.dumps(suite_json(suite, outcomes)))["cells"]
    assert executed == cells_json(stored)
    record(suite, address(tmp_path), counted)
    assert executed == cells_json(read_suite("soon", address(tmp_path)))
    client = open_store(address(tmp_path))
    runs = client.search_runs([client.get_experiment_by_name("soon").experiment_id], "tags.`fedbench.kind` = 'cell'")
    metrics = {run.data.tags["fedbench.cell"]: run.data.metrics for run in runs}
    stop = metrics.pop("stop num_clients=2")
    assert (pytest.approx(2.05), pytest.approx(0.1)) == (stop["rounds_to_target/mean"], stop["rounds_to_target/std"])
    del metrics["stop num_clients=3"]
    assert not any(name.startswith("rounds_to_target") for of_cell in metrics.values() for name in of_cell)


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_has_a_column_and_explains_the_targets(stored: StoredSuite, width: int) -> None:
    text = shown(results_table(stored.name, stored.question, [cell.result for cell in stored.cells]), width)
    rows = {words[0]: line for line in text.splitlines() if (words := line.split())}
    assert "2.0 ± 0.1" in text or "2.1 ± 0.1" in text  # 2.05
    assert "1.1 ± 0.1" in text
    assert "1/3 in 4" in rows["some"]
    assert "not in 4" in rows["none"]
    assert " in 4" not in rows["without"]
    assert "Target: 71.5 % or 91.5 % or 99 % accuracy." in text.replace("\n", " ")
    assert "none did" in text
    assert "…" not in text
    without = shown(results_table("soon", "Why?", [stored.cells[WITHOUT].result]), width)
    assert "alone" in without
    assert "target" not in without.lower()


def test_a_seed_that_stopped_counts_in_later_rounds_with_its_last_accuracy(stored: StoredSuite) -> None:
    curve = stored.curve(stored.cells[STOP], "accuracy")
    assert pytest.approx({1: 0.61, 2: 0.71, 3: (0.80 + 0.81 + 0.72) / 3}) == {
        step: over.mean for step, over in curve.items()
    }


def test_the_figure_has_a_level_at_each_target_and_says_that_seeds_stopped(stored: StoredSuite) -> None:
    figures = {figure.name: figure for figure in suite_figures(stored)}
    levels = {panel: value for panel, value, label in figures["accuracy-by-round"].levels if "target" in label}
    assert {"stop": 71.5, "some": 91.5, "none": 99.0} == levels
    said = "A seed that stopped at its target before the others counts in later rounds with its last value."
    assert [True, True] == [said in figures[name].caption for name in ("accuracy-by-round", "loss-by-round")]
    others = replace(stored, cells=(stored.cells[SOME], stored.cells[NONE], stored.cells[WITHOUT]))
    assert not any("stopped" in figure.caption for figure in suite_figures(others))


def test_the_page_has_the_column(stored: StoredSuite, tmp_path: Path) -> None:
    text = make_report(stored, tmp_path).read_text()
    assert "rounds to target" in text
    for entry in ("1/3 in 4", "not in 4", "1.1 ±\u00a00.1"):
        assert f">{entry}<" in text


def test_fewer_rounds_are_better(suite: Suite, stored: StoredSuite) -> None:
    less = stored_suite(suite, sooner)
    there = compare([stored], [less], ("A", "B"), "rounds_to_target")
    back = compare([less], [stored], ("A", "B"), "rounds_to_target")
    assert {"stop num_clients=2", "stop num_clients=3"} == {cell.label for cell in there.cells}  # all seeds reached it
    assert {Change.BETTER} == {cell.change for cell in there.cells}
    assert {Change.WORSE} == {cell.change for cell in back.cells}
    assert pytest.approx(-0.5) == there.cells[0].difference.mean
    text = shown(comparison_table(there))
    assert "rounds_to_target in rounds, mean" in text
    assert " -0.5 " in text


def test_the_rounds_are_exported_in_the_last_row_of_a_run(stored: StoredSuite, tmp_path: Path) -> None:
    out = tmp_path / "targets.csv"
    export_suite(stored, out)
    table = pd.read_csv(out)
    last = table.groupby("run_id").tail(1)
    chosen = last[last.cell == "stop num_clients=2"].sort_values("seed")
    assert [3, 3, 2] == list(chosen["round"])
    assert pytest.approx([2.15, 2.05, 1.95]) == list(chosen.rounds_to_target)
    assert [0.715] * 3 == list(chosen.target_accuracy)
    assert last[last.cell == "none"].rounds_to_target.isna().all()
