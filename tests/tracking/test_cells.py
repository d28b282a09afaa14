"""A cell's own run: the numbers over its seeds, and that there is exactly one, of the runs that count."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from tiny_store import write_suite

from fedbench.datasets import load_dataset
from fedbench.measures import RunResult, Verdict
from fedbench.suites.schema import RunSpec, Suite
from fedbench.tracking import FinalRecord
from fedbench.tracking.mlflow import cells
from fedbench.tracking.mlflow.cells import summary
from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker
from fedbench.tracking.records import confusion_csv, sum_confusions
from fedbench.util.locks import lock

SUITE = """
name: tiny
question: What is the mean over the seeds?
seeds: [0, 1, 2, 3]
scenarios: [{name: a, rounds: [2], examples_per_client: 10}]
"""


# The numbers, by hand


def test_three_seeds_have_mean_deviation_and_interval_by_students_t() -> None:
    # Deviations from 0.5: -0.3, -0.1, 0.4, whose squares sum to 0.26; s = sqrt(0.26 / 2) = 0.360555.
    # t of 97.5 % with 2 degrees of freedom is 4.302653; half the interval: 4.302653 * 0.360555 / sqrt(3) = 0.895669.
    found = summary([{"accuracy": {1: value}} for value in (0.2, 0.4, 0.9)])
    expected = {"mean": 0.5, "std": 0.360555, "ci95_low": -0.395669, "ci95_high": 1.395669}
    assert {f"accuracy/{name}" for name in expected} == set(found)
    for name, value in expected.items():
        assert {1: pytest.approx(value, abs=1e-6)} == found[f"accuracy/{name}"], name


def test_every_step_has_its_own_numbers() -> None:
    found = summary([{"loss": {1: 2.0, 2: 1.0}}, {"loss": {1: 4.0, 2: 1.0}}])
    assert {1: 3.0, 2: 1.0} == found["loss/mean"]
    assert {1: pytest.approx(math.sqrt(2)), 2: 0.0} == found["loss/std"]


def test_one_seed_has_a_mean_only() -> None:
    assert {"loss/mean": {1: 2.0, 2: 1.0}} == summary([{"loss": {1: 2.0, 2: 1.0}}])


def test_a_seed_that_diverged_counts_with_its_last_values_in_the_rounds_that_it_missed() -> None:
    diverged = {"accuracy": {1: 0.2, 2: 0.1}, "loss": {1: 2.0, 2: math.inf}, "averaging_gain": {2: -0.3}}
    went_on = {
        "accuracy": {1: 0.4, 2: 0.5, 3: 0.6},
        "loss": {1: 1.0, 2: 0.8, 3: 0.6},
        "averaging_gain": {3: 0.1},
    }
    found = summary([diverged, went_on])
    assert {1: pytest.approx(0.3), 2: pytest.approx(0.3), 3: pytest.approx(0.35)} == found["accuracy/mean"]
    assert {1: 1.5, 2: math.inf, 3: math.inf} == found["loss/mean"]
    assert math.isnan(found["loss/std"][3])
    assert {3: pytest.approx(-0.1)} == found["averaging_gain/mean"]  # at step 2 there is nothing yet to average


def test_what_is_recovered_is_summarised_as_a_ratio_of_means() -> None:
    """Of gaps of 20, 10 and 15 points 18, 7 and 11 are recovered: 36 of 45, not the mean of 0.90, 0.70 and 0.73."""
    seeds = [
        {"averaging_gain": {1: 0.0, 2: gain}, "plain_gain": {2: -gap}, "recovered": {2: (gap + gain) / gap}}
        for gap, gain in ((0.20, -0.02), (0.10, -0.03), (0.15, -0.04))
    ]
    found = summary(seeds)
    assert {2: pytest.approx(0.8)} == found["recovered/mean"]
    assert found["recovered/ci95_low"][2] < 0.8 < found["recovered/ci95_high"][2]
    assert "recovered/std" not in found
    no_gap = summary([each | {"plain_gain": {2: 0.01}} for each in seeds])
    assert not any(name.startswith("recovered") for name in no_gap)
    assert not any(name.startswith("recovered") for name in summary(seeds[:1]))


def test_what_one_seed_lacks_and_what_numbers_clients_is_left_out() -> None:
    one = {"loss": {1: 1.0}, "gain": {1: 0.5}, "client_accuracy/0": {1: 0.5}, "client_drift/0": {1: 2.0}}
    two = {"loss": {1: 3.0}, "client_accuracy/0": {1: 0.5}, "client_drift/0": {1: 2.0}, "client_drift": {1: 2.0}}
    assert {"loss/mean", "loss/std", "loss/ci95_low", "loss/ci95_high"} == set(summary([one, two]))
    assert "client_drift/mean" in summary([two, two])


def test_confusion_matrices_are_added_class_by_class() -> None:
    names = ["a", "b, or c"]
    one, two = np.array([[1, 2], [3, 4]]), np.array([[10, 0], [0, 10]])
    texts = [confusion_csv(one, names), confusion_csv(two, names)]
    assert 'true class,a,"b, or c"\na,1,2\n"b, or c",3,4\n' == texts[0]
    found, matrix = sum_confusions(texts)
    assert (names, [[11, 2], [3, 14]]) == (found, matrix.tolist())


# In a store


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return write_suite(tmp_path, SUITE)


@pytest.fixture
def uri(tmp_path: Path, empty_store: bytes) -> str:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(empty_store)
    return f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def open_tracker(suite: Suite, uri: str) -> MlflowTracker:
    """As a command does: it looks first at what is there."""
    tracker = MlflowTracker(suite, uri)
    tracker.finished_runs()
    return tracker


def record(
    tracker: MlflowTracker,
    seed: int,
    accuracies: Sequence[float] = (0.25, 0.5),
    verdict: Verdict = Verdict.OK,
    reason: str | None = None,
    fresh: bool = False,
    torch: str = "",
) -> str:
    """Record a seed's run with such accuracies after its rounds; its id."""
    run: RunSpec = tracker.suite.cells[0].runs()[seed]
    tracked = tracker.start_run(run, f"f{seed}", "c", load_dataset("mnist-5k"), 0, fresh)
    assert isinstance(tracked, MlflowRun)
    metrics: Mapping[str, float] = {}
    for step, accuracy in enumerate(accuracies, start=1):
        loss = math.inf if verdict is Verdict.DIVERGED and step == len(accuracies) else 1 - accuracy
        metrics = {"accuracy": accuracy, "balanced_accuracy": accuracy, "loss": loss, "majority_rate": 0.1}
        tracked.log_round(step, metrics)
    tracked.log_final(FinalRecord(("cat", "dog"), np.array([[seed, 1], [2, 3]])))
    tracked.finish(RunResult(verdict, reason, metrics, computed_by={"fedbench.torch": torch} if torch else {}))
    return tracked.run_id


def finish(tracker: MlflowTracker) -> None:
    tracker.finish_cell("c")


def runs_of(tracker: MlflowTracker, kind: str) -> list[Any]:
    wanted = f"tags.`fedbench.kind` = '{kind}'"
    return list(tracker.client.search_runs([tracker.experiment_id], wanted, order_by=["attributes.start_time"]))


def parent_of(tracker: MlflowTracker) -> Any:
    """The one run of the cell, below which the run of every seed is nested."""
    (parent,) = runs_of(tracker, "cell")
    nested = {run.data.tags.get("mlflow.parentRunId") for run in runs_of(tracker, "run")}
    assert {parent.info.run_id} == nested
    assert "FINISHED" == parent.info.status
    return parent


def history(tracker: MlflowTracker, run: Any, name: str) -> dict[int, float]:
    found = tracker.client.get_metric_history(run.info.run_id, name)
    assert len(found) == len({metric.step for metric in found})
    return {metric.step: metric.value for metric in found}


def confusion_of(run: Any) -> str:
    return Path(unquote(urlsplit(run.info.artifact_uri).path), "confusion.csv").read_text()


@pytest.fixture(params=["the same command", "a later command"])
def recorded(request: pytest.FixtureRequest, suite: Suite, uri: str) -> MlflowTracker:
    """Three seeds, and the cell brought up to date by the command that recorded them or by one that reads them."""
    tracker = open_tracker(suite, uri)
    for seed, accuracy in enumerate((0.2, 0.4, 0.9)):
        record(tracker, seed, (0.1, accuracy))
    if request.param == "a later command":
        tracker = open_tracker(suite, uri)
    finish(tracker)
    return tracker


def test_a_cells_run_is_tagged_and_has_its_seeds_nested(recorded: MlflowTracker) -> None:
    parent = parent_of(recorded)
    expected = {
        "kind": "cell",
        "schema": "2",
        "suite": "tiny",
        "scenario": "a",
        "cell": "a rounds=2",
        "cell_fingerprint": "c",
        "seeds": "0,1,2",
        "verdict": "ok",
    }
    assert {f"fedbench.{name}": value for name, value in expected.items()}.items() <= parent.data.tags.items()
    assert "a rounds=2" == parent.info.run_name
    for absent in ("fedbench.seed", "fedbench.fingerprint", "fedbench.reason"):
        assert absent not in parent.data.tags


def test_the_tags_say_what_computed_the_runs(suite: Suite, uri: str) -> None:
    """A worker on another machine may have another PyTorch than the command that records its run."""
    tracker = open_tracker(suite, uri)
    for seed, torch in enumerate(("2.0.1", "2.0.0", "2.0.1")):
        record(tracker, seed, torch=torch)
    finish(tracker)
    assert ["2.0.1", "2.0.0", "2.0.1"] == [run.data.tags["fedbench.torch"] for run in runs_of(tracker, "run")]
    assert "2.0.0, 2.0.1" == parent_of(tracker).data.tags["fedbench.torch"]
    found = open_tracker(suite, uri).finished_runs().values()
    assert ["2.0.1", "2.0.0", "2.0.1"] == [result.computed_by["fedbench.torch"] for result in found]


def test_a_cells_run_has_the_cells_parameters_without_the_seed(recorded: MlflowTracker) -> None:
    values = recorded.suite.cells[0].spec.model_dump()
    expected = {key: str(value) for key, value in values.items() if value is not None}
    assert expected == parent_of(recorded).data.params


def test_a_cells_run_has_the_spread_over_the_seeds_at_every_round(recorded: MlflowTracker) -> None:
    parent = parent_of(recorded)
    names = {"accuracy", "balanced_accuracy", "loss", "majority_rate", "tracking_seconds"}
    parts = {"mean", "std", "ci95_low", "ci95_high"}
    assert {f"{name}/{part}" for name in names for part in parts} == set(parent.data.metrics)
    assert {1: pytest.approx(0.1), 2: pytest.approx(0.5)} == history(recorded, parent, "accuracy/mean")
    expected = {1: pytest.approx(0, abs=1e-12), 2: pytest.approx(0.360555, abs=1e-6)}
    assert expected == history(recorded, parent, "accuracy/std")
    assert pytest.approx(-0.395669, abs=1e-6) == history(recorded, parent, "accuracy/ci95_low")[2]
    assert pytest.approx(1.395669, abs=1e-6) == history(recorded, parent, "accuracy/ci95_high")[2]
    assert {2} == set(history(recorded, parent, "tracking_seconds/mean"))


def test_a_cells_run_has_the_sum_of_the_confusion_matrices(recorded: MlflowTracker) -> None:
    # rows (0, 1), (1, 1) and (2, 1) of cats; (2, 3) thrice of dogs
    assert "true class,cat,dog\ncat,3,3\ndog,6,9\n" == confusion_of(parent_of(recorded))


def test_a_cell_that_is_up_to_date_is_not_written(
    recorded: MlflowTracker, suite: Suite, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_of(recorded)
    tracker = open_tracker(suite, uri)
    for name in ("create_run", "log_batch", "set_tag", "delete_tag", "delete_run", "log_text", "set_terminated"):
        monkeypatch.delattr(type(tracker.client), name)
    finish(tracker)
    monkeypatch.undo()
    assert parent.info.run_id == parent_of(recorded).info.run_id


def test_a_new_seed_gives_a_new_run_of_the_cell_in_place_of_the_earlier(
    recorded: MlflowTracker, suite: Suite, uri: str
) -> None:
    before = parent_of(recorded).info.run_id
    tracker = open_tracker(suite, uri)
    record(tracker, 3, (0.1, 0.5))
    finish(tracker)
    parent = parent_of(tracker)  # with all four nested below it
    assert before != parent.info.run_id
    assert "0,1,2,3" == parent.data.tags["fedbench.seeds"]
    assert pytest.approx(0.5) == parent.data.metrics["accuracy/mean"]
    assert "deleted" == tracker.client.get_run(before).info.lifecycle_stage


@pytest.mark.usefixtures("recorded")
def test_of_a_seeds_finished_runs_the_latest_counts(suite: Suite, uri: str) -> None:
    tracker = open_tracker(suite, uri)
    record(tracker, 2, (0.1, 0.6), fresh=True)
    finish(tracker)
    (parent,) = runs_of(tracker, "cell")
    assert 4 == len(runs_of(tracker, "run"))
    assert pytest.approx(0.4) == parent.data.metrics["accuracy/mean"]  # 0.2, 0.4, 0.6
    assert {"f0", "f1", "f2"} == set(open_tracker(suite, uri).finished_runs())


def test_a_run_that_was_interrupted_is_not_counted_until_it_is_finished(suite: Suite, uri: str) -> None:
    tracker = open_tracker(suite, uri)
    record(tracker, 0)
    cut_off = tracker.start_run(suite.runs[1], "f1", "c", load_dataset("mnist-5k"), 0, False)
    assert isinstance(cut_off, MlflowRun)
    cut_off.kill("interrupted")
    finish(tracker)
    (parent,) = runs_of(tracker, "cell")
    assert "0" == parent.data.tags["fedbench.seeds"]
    assert 2 == len(runs_of(tracker, "run"))


def test_a_failed_seed_is_in_the_verdict_and_not_in_the_numbers(suite: Suite, uri: str) -> None:
    tracker = open_tracker(suite, uri)
    record(tracker, 0, (0.1, 0.5))
    record(tracker, 1, (0.1, 0.9), Verdict.FAILED, "accuracy 90.0% is below the required 99.0%")
    finish(tracker)
    parent = parent_of(tracker)
    reason = "1 of 2 seeds: accuracy 90.0% is below the required 99.0%"
    assert ("failed", reason) == tuple(parent.data.tags[f"fedbench.{name}"] for name in ("verdict", "reason"))
    assert parent.data.tags["mlflow.note.content"].endswith(f"Verdict: failed ({reason}).")
    assert ("0", 0.5) == (parent.data.tags["fedbench.seeds"], parent.data.metrics["accuracy/mean"])
    assert "accuracy/std" not in parent.data.metrics  # of one seed


def test_a_cell_whose_seeds_all_failed_has_no_run(suite: Suite, uri: str) -> None:
    tracker = open_tracker(suite, uri)
    record(tracker, 0, (), Verdict.FAILED, "RuntimeError: no")
    finish(tracker)
    assert [] == runs_of(tracker, "cell")


def test_a_failed_run_that_was_run_again_does_not_count_any_more(suite: Suite, uri: str) -> None:
    tracker = open_tracker(suite, uri)
    record(tracker, 0, (), Verdict.FAILED, "RuntimeError: no memory")
    record(tracker, 0)
    finish(tracker)
    (parent,) = runs_of(tracker, "cell")
    assert "ok" == parent.data.tags["fedbench.verdict"]


@pytest.mark.parametrize("command", ["the same", "a later"])
def test_a_diverged_seed_is_carried_forward(suite: Suite, uri: str, command: str) -> None:
    """The same from what was measured as from what was read back, where MLflow has no infinity."""
    tracker = open_tracker(suite, uri)
    record(tracker, 0, (0.1,), Verdict.DIVERGED, "the loss is not finite")
    record(tracker, 1, (0.3, 0.5))
    if command == "a later":
        tracker = open_tracker(suite, uri)
    finish(tracker)
    parent = parent_of(tracker)
    assert {1: pytest.approx(0.2), 2: pytest.approx(0.3)} == history(tracker, parent, "accuracy/mean")
    assert all(value > 1e300 for value in history(tracker, parent, "loss/mean").values())
    assert all(math.isnan(value) for value in history(tracker, parent, "loss/std").values())
    assert "1 of 2 seeds: the loss is not finite" == parent.data.tags["fedbench.reason"]


def test_a_summary_half_written_by_a_process_that_ended_is_replaced(suite: Suite, uri: str) -> None:
    tracker = open_tracker(suite, uri)
    for seed in (0, 1):
        record(tracker, seed)
    tags = {"fedbench.kind": "cell", "fedbench.cell_fingerprint": "c"}
    half = tracker.client.create_run(tracker.experiment_id, tags=tags)
    later = open_tracker(suite, uri)
    finish(later)
    assert half.info.run_id != parent_of(later).info.run_id


def test_one_command_at_a_time_summarises_a_cell(suite: Suite, uri: str) -> None:
    tracker, other = open_tracker(suite, uri), open_tracker(suite, uri)
    for seed in (0, 1):
        record(tracker, seed)
    held = lock(tracker.checkpoints / "c.lock")
    threads = [Thread(target=finish, args=(each,)) for each in (tracker, other)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert [] == runs_of(tracker, "cell")
    held.release()
    for thread in threads:
        thread.join()
    assert "0,1" == parent_of(tracker).data.tags["fedbench.seeds"]
    assert [] == list(tracker.checkpoints.glob("*.lock"))


@pytest.mark.parametrize("seed_of_other", [None, 2])
def test_two_machines_that_finish_a_cell_at_once_leave_one_run_of_all_seeds(
    suite: Suite, uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed_of_other: int | None
) -> None:
    """The other one looks, records and finishes while this one writes its summary; perhaps with one more seed."""
    tracker, other = open_tracker(suite, uri), open_tracker(suite, uri)
    for seed in (0, 1):
        record(tracker, seed)
    real = cells.summary
    turns = [True]

    def meanwhile(series: Any) -> Any:
        if turns:
            turns.pop()
            time.sleep(0.002)  # its run begins later
            with monkeypatch.context() as elsewhere:
                elsewhere.setenv("FEDBENCH_CHECKPOINT_DIR", str(tmp_path / "elsewhere"))
                elsewhere.setattr(cells, "local_folder", lambda _: None)  # on a server
                if seed_of_other is not None:
                    record(other, seed_of_other)
                other.cells.touch("c")
                finish(other)
        return real(series)

    monkeypatch.setattr(cells, "summary", meanwhile)
    finish(tracker)
    parent = parent_of(tracker)
    assert ("0,1" if seed_of_other is None else "0,1,2") == parent.data.tags["fedbench.seeds"]


def test_a_deleted_seed_takes_the_cells_run_with_it(suite: Suite, uri: str) -> None:
    tracker = open_tracker(suite, uri)
    run_id = record(tracker, 0)
    finish(tracker)
    tracker.client.delete_run(run_id)
    finish(tracker)
    assert [] == runs_of(tracker, "cell")
