"""What people read in MLflow of a cell and of a suite, from numbers that can be verified by hand."""

from __future__ import annotations

from typing import Any

import pytest
from made_store import address, record
from made_suite import made_suite
from mlflow.entities import Metric, Run, RunData, RunInfo, RunTag

from fedbench.measures import Verdict
from fedbench.tracking.mlflow.cells import summary
from fedbench.tracking.mlflow.describe import cell_note, describe_suite, suite_note
from fedbench.tracking.mlflow.door import param_texts, parameter
from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.tracking.mlflow.tracker import MlflowTracker
from fedbench.tracking.mlflow.views import MAX_TAG


def seed(accuracy: float, **more: float) -> dict[str, dict[int, float]]:
    last = {"accuracy": accuracy, "balanced_accuracy": accuracy, "loss": 0.5, "majority_rate": 0.1, **more}
    return {name: {1: 0.0, 2: value} for name, value in last.items()}


def test_a_cell_is_described_by_its_last_round() -> None:
    found = summary([seed(0.80, averaging_gain=0.02), seed(0.90, averaging_gain=0.04)])
    assert (
        # 97.5 % quantile of Student's t with one degree of freedom 12.706, times 0.0707 / √2: 0.635
        "**Accuracy 85.0 ± 7.1 %** on the test set, mean ± standard deviation over 2 seeds; 95 % interval of the mean "
        "21.5 to 100.0 %. Balanced accuracy 85.0 ± 7.1 %, loss 0.500 ± 0.000; always predicting the largest class "
        "gives 10.0 %. The average is 3.0 points better than the mean of the clients' own models before it. "
        "Verdict: ok."
    ) == cell_note(found, 2, Verdict.OK, None)


def test_one_seed_has_no_spread_and_a_lost_model_no_number() -> None:
    found = summary([seed(0.1, averaging_gain=-0.3) | {"loss": {2: float("inf")}}])
    text = cell_note(found, 1, Verdict.DIVERGED, "1 of 1 seeds: the loss is not finite")
    assert "**Accuracy 10.0 %** on the test set, one seed, so no spread." in text
    assert "loss not finite;" in text
    assert "The average is 30.0 points worse than" in text
    assert text.endswith("Verdict: diverged (1 of 1 seeds: the loss is not finite).")


def cell(label: str, accuracy: float | None, seeds: str = "0,1,2", **tags: str) -> Run:
    names = () if accuracy is None else ("accuracy/mean", "balanced_accuracy/mean")
    metrics = [Metric(name, accuracy or 0.0, 0, 1) for name in names]
    every = {"fedbench.cell": label, "fedbench.seeds": seeds, "fedbench.verdict": "ok", **tags}
    info = RunInfo("0", "1", "me", "FINISHED", 0, 1, "active", run_name=label)
    return Run(info, RunData(metrics, [], [RunTag(key, text) for key, text in every.items()]))


def test_a_suite_is_described_by_a_table_of_its_cells_in_their_natural_order() -> None:
    cells = [cell("grid num_clients=10", 0.8), cell("grid num_clients=2", 0.9), cell("a|b", None, "0")]
    question, _, _, _, *rows = suite_note("Why?", cells).splitlines()[:7]
    assert "Why?" == question
    assert [
        "| a\\|b | not finite | not finite | 1 | ok |",
        "| grid num_clients=2 | 90.0 | 90.0 | 3 | ok |",
        "| grid num_clients=10 | 80.0 | 80.0 | 3 | ok |",
    ] == rows
    assert "Cells have 1 to 3 seeds: the mean of fewer is less certain." in suite_note("Why?", cells)
    assert "seeds: the mean" not in suite_note("Why?", cells[:2])


def test_what_has_no_room_is_counted() -> None:
    text = suite_note("Why?", [cell(f"grid num_clients={index}", 0.5) for index in range(200)], ["no " * 400] * 4)
    assert len(text) <= MAX_TAG
    assert text.count("| grid") + int(text.partition(" more cells")[0].splitlines()[-1]) == 200


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ({"seed": 0, "target_accuracy": None, "batch_size": None}, {"seed": "0", "batch_size": "all"}),
        ({"target_accuracy": "None", "batch_size": "None"}, {"batch_size": "all"}),  # of an earlier version
        (
            {"batch_size": 50, "w": "all"},
            {"batch_size": "50", "w": "all"},
        ),
    ],
)
def test_null_is_not_recorded(values: dict[str, Any], texts: dict[str, str]) -> None:
    assert texts == param_texts(values) == param_texts(texts)
    assert parameter("batch_size", "all") is parameter("batch_size", "None") is None
    assert "all" == parameter("width", "all")


def test_a_store_of_an_earlier_version_has_the_same_cells(tmp_path: Any) -> None:
    """It has `None` for each null: the keys are the same, and a new run of the cell joins the old ones."""
    text = "name: made\nquestion: Why?\nseeds: [0, 1]\nscenarios: [{name: a, batch_size: null}]\n"
    suite = made_suite(tmp_path, text)
    record(suite, address(tmp_path))
    new = read_suite("made", address(tmp_path))
    client = open_store(address(tmp_path))
    (stored,) = new.cells
    assert not {"None", "null"} & set(stored.runs[0].params.values())
    for name in ("target_accuracy", "examples_per_client", "clip_norm", "require_accuracy"):
        client.log_param(stored.runs[1].run_id, name, "None")
    old = read_suite("made", address(tmp_path))
    assert [stored.key] == [each.key for each in old.cells]
    assert (None, "a") == (old.cells[0].spec.batch_size, old.cells[0].label)


def test_the_experiment_keeps_its_description_while_a_suite_runs(tmp_path: Any) -> None:
    suite = made_suite(tmp_path)
    record(suite, address(tmp_path))
    client = open_store(address(tmp_path))
    experiment_id = client.get_experiment_by_name("made").experiment_id
    describe_suite(client, experiment_id, "What is shown?", ["Two is better.", "Three is not."])

    def now() -> str:
        return str(client.get_experiment(experiment_id).tags["mlflow.note.content"])

    note = now()
    assert note.startswith("What is shown?\n\n**Two is better.**\n\n**Three is not.**\n\n| cell |")
    assert note.count("| grid") == 4
    MlflowTracker(suite, address(tmp_path))
    assert note == now()
