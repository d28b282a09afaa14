"""Results read back from a store alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from empty_store import put_empty_store
from made_store import address, made_suite, metrics_of, record

from fedbench.measures import Verdict
from fedbench.reports.reading import StoredSuite, read_suite
from fedbench.reports.suite_results import stored_json
from fedbench.suites.schema import RunSpec
from fedbench.tracking.mlflow.store import open_store
from fedbench.util.errors import StoreError


@pytest.fixture(scope="module")
def stored(made: str) -> StoredSuite:
    return read_suite("made", made)


def test_the_suites_question_seeds_and_cells_are_read(stored: StoredSuite) -> None:
    assert ("made", "What is shown?", (0, 1, 2)) == (stored.suite.name, stored.suite.question, stored.suite.seeds)
    expected = [
        "grid num_clients=2 examples_per_client=20",
        "grid num_clients=2 examples_per_client=50",
        "grid num_clients=3 examples_per_client=20",
        "grid num_clients=3 examples_per_client=50",
        "pair init=shared",
        "pair init=independent",
    ]
    assert expected == [cell.cell.label for cell in stored.cells]
    assert 0 == stored.left_out


def test_fields_have_their_types_again(stored: StoredSuite) -> None:
    spec = stored.cells[0].cell.spec
    assert (2, 20, 0.01, "mnist-5k", None, False) == (
        spec.num_clients,
        spec.examples_per_client,
        spec.learning_rate,
        spec.dataset,
        spec.require_accuracy,
        spec.interpolation,
    )


def test_final_numbers_are_the_last_rounds_over_the_seeds(stored: StoredSuite) -> None:
    accuracy = stored.cells[2].final("accuracy")
    assert accuracy is not None
    assert pytest.approx((0.80, 0.81, 0.82)) == accuracy.values
    assert pytest.approx(0.81) == accuracy.mean
    assert pytest.approx(0.01) == accuracy.std
    assert stored.cells[2].final("nonsense") is None


def test_a_curve_is_by_round_over_the_seeds(stored: StoredSuite) -> None:
    curve = stored.curve(stored.cells[0], "accuracy")
    assert pytest.approx({1: 0.61, 2: 0.71}) == {step: spread.mean for step, spread in curve.items()}
    assert {} == stored.curve(stored.cells[0], "nonsense")
    line = stored.curve(stored.cells[4], "interpolation/loss")
    assert pytest.approx({-20: 2.0, 50: 1.1, 120: 3.0}) == {step: spread.mean for step, spread in line.items()}


def test_the_json_object_is_that_of_a_run(stored: StoredSuite) -> None:
    found = stored_json(stored.suite, [cell.result for cell in stored.cells])
    assert (0, 18, 0, 0) == tuple(found[key] for key in ("executed", "skipped", "failed", "left"))
    assert pytest.approx([0.70, 0.71, 0.72]) == found["cells"][0]["accuracy"]["values"]
    assert pytest.approx([0.70, 0.68]) == found["cells"][0]["client_accuracy"]["mean"]


def test_a_suite_that_never_ran_and_an_empty_store_are_one_line(made: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^suite nosuch has no runs in .*: fedbench run nosuch$"):
        read_suite("nosuch", made)
    client = open_store(put_empty_store(address(tmp_path)))
    client.create_experiment("made", tags={"fedbench.schema": "2"})
    with pytest.raises(StoreError, match=r"^suite made has no finished runs in .*: fedbench run made$"):
        read_suite("made", address(tmp_path))


@pytest.mark.parametrize("tag", ["fedbench.scenario", "fedbench.cell", "fedbench.seed", "fedbench.verdict"])
def test_a_run_that_somebody_changed_by_hand_is_left_out(tmp_path: Path, tag: str) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 1}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    stored = read_suite("made", address(tmp_path))
    stored.client.set_tag(stored.cells[0].runs[0].info.run_id, "fedbench.seed", "first")
    stored.client.delete_tag(stored.cells[0].runs[0].info.run_id, tag)
    (cell,) = read_suite("made", address(tmp_path)).cells
    assert (1,) == cell.cell.seeds


@pytest.mark.parametrize(("tags", "line"), [({}, "was not made by fedbench"), ({"fedbench.schema": "9"}, "upgrade")])
def test_an_experiment_of_another_schema_is_one_line(tmp_path: Path, tags: dict[str, str], line: str) -> None:
    open_store(put_empty_store(address(tmp_path))).create_experiment("made", tags=tags)
    with pytest.raises(StoreError, match=line):
        read_suite("made", address(tmp_path))


def test_a_deleted_experiment_says_how_to_restore_it(tmp_path: Path) -> None:
    client = open_store(put_empty_store(address(tmp_path)))
    client.delete_experiment(client.create_experiment("made", tags={"fedbench.schema": "2"}))
    with pytest.raises(StoreError, match="was deleted: restore it"):
        read_suite("made", address(tmp_path))


def test_cells_of_one_label_but_other_fields_are_told_apart(tmp_path: Path) -> None:
    """As after a suite's file was edited."""
    text = "name: made\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, learning_rate: RATE, rounds: 2}]\n"
    for rate in ("0.1", "0.2"):
        record(made_suite(tmp_path, text.replace("RATE", rate)), address(tmp_path))
    labels = [cell.cell.label for cell in read_suite("made", address(tmp_path)).cells]
    assert ["a learning_rate=0.1", "a learning_rate=0.2"] == labels


def test_a_seed_that_ran_anew_counts_once_with_its_newest_numbers(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 1}]\n"
    suite = made_suite(tmp_path, text)
    record(suite, address(tmp_path))

    def better(run: RunSpec, step: int) -> dict[str, float]:
        return metrics_of(run, step) | {"accuracy": 0.9}

    record(suite, address(tmp_path), better, fresh=True)
    (cell,) = read_suite("made", address(tmp_path)).cells
    assert (0, 1) == cell.cell.seeds
    accuracy = cell.final("accuracy")
    assert accuracy is not None
    assert (0.9, 0.9) == accuracy.values


def test_verdicts_are_read_with_their_reasons_and_a_failed_seed_has_no_numbers(tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, rounds: 1}, {name: b, rounds: 1}]\n"

    def verdict(run: RunSpec) -> tuple[Verdict, str | None]:
        if run.scenario == "b":
            return Verdict.COLLAPSED, "predicts class 0 for every image"
        return (Verdict.FAILED, "too low") if run.seed else (Verdict.OK, None)

    record(made_suite(tmp_path, text), address(tmp_path), verdict=verdict)
    failed, collapsed = read_suite("made", address(tmp_path)).cells
    assert (Verdict.FAILED, "1 of 2 seeds: too low", (0,)) == (
        failed.result.verdict,
        failed.result.reason,
        failed.result.seeds,
    )
    assert (Verdict.COLLAPSED, (0, 1)) == (collapsed.result.verdict, collapsed.result.seeds)
