"""What is in the MLflow store after a suite has run, seen by MLflow's own client."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pytest
import requests
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from tiny_store import Store

from fedbench.components import built_in_options
from fedbench.datasets import load_dataset
from fedbench.measures import RunResult, Verdict
from fedbench.models import build_model
from fedbench.partitions.table import label_skew, parse_partition
from fedbench.suites.fields import COMMON
from fedbench.suites.schema import CellSpec, RunSpec, Suite
from fedbench.tracking import FinalRecord
from fedbench.tracking.mlflow import models
from fedbench.tracking.mlflow.store import checkpoint_folder, local_folder, require_space
from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker
from fedbench.util.errors import StoreError

METRICS = {
    *("accuracy", "balanced_accuracy", "loss", "majority_rate", "train_loss"),
    *("client_drift", "client_drift/0", "client_drift/1", "training_seconds", "evaluation_seconds"),
    *(f"recall/{digit}" for digit in range(10)),
}


def test_a_suite_is_an_experiment_with_its_question_and_schema(store: Store) -> None:
    experiment = store.client.get_experiment_by_name("tiny")
    assert experiment is not None
    assert "2" == experiment.tags["fedbench.schema"]
    assert experiment.tags["mlflow.note.content"].startswith("Does it track?\n\n**How to read it.**")
    assert (store.folder / "artifacts" / "tiny").as_uri() == experiment.artifact_location


def test_everything_is_written_in_the_stores_folder(store: Store) -> None:
    assert {"mlflow.db", "artifacts", "checkpoints"} == {path.name for path in store.folder.iterdir()}
    assert {"mlruns", "tiny.yaml"} == {path.name for path in store.folder.parent.iterdir()}
    assert [] == list((store.folder / "checkpoints").iterdir())


def test_every_run_is_a_run_with_its_cells_label_and_seed(store: Store) -> None:
    expected = [(f"{run.cell} seed={run.seed}", run.cell, str(run.seed)) for run in store.suite.runs]
    found = [(run.info.run_name, run.data.tags["fedbench.cell"], run.data.tags["fedbench.seed"]) for run in store.runs]
    assert sorted(expected) == sorted(found)


def test_all_seeds_of_a_cell_share_the_tag_that_groups_them(store: Store) -> None:
    cells = [run.data.tags["fedbench.cell"] for run in store.runs]
    assert {"pair init=shared", "pair init=independent", "dozen", "hopeless"} == set(cells)
    assert all(2 == cells.count(cell) for cell in cells)


def test_tags_say_what_was_run_by_what(store: Store) -> None:
    tags = store.run("dozen").data.tags
    expected = {"schema": "2", "kind": "run", "suite": "tiny", "scenario": "dozen"}
    assert {f"fedbench.{name}": value for name, value in expected.items()}.items() <= tags.items()
    for name in ("version", "python", "torch", "processor", "verdict"):
        assert tags[f"fedbench.{name}"], name
    assert 64 == len(tags["fedbench.fingerprint"]) == len(tags["fedbench.cell_fingerprint"])


def test_parameters_are_the_seed_and_every_field_of_the_cell(store: Store) -> None:
    params = store.run("dozen").data.params
    options = (*built_in_options("optimiser"), *built_in_options("model"))
    null = {"clip_norm", "require_accuracy", "target_accuracy"}
    assert {"seed", *COMMON, *options} - null == set(params)
    expected = {"seed": "0", "num_clients": "12", "learning_rate": "0.1", "init": "shared"}
    assert expected.items() <= params.items()


def test_every_rounds_metrics_are_there_with_the_round_as_the_step(store: Store) -> None:
    run_id = store.run("pair", cell="pair init=shared").info.run_id
    for name in METRICS:
        history = store.client.get_metric_history(run_id, name)
        assert [1, 2, 3] == [metric.step for metric in sorted(history, key=lambda metric: metric.step)], name


@pytest.mark.parametrize("name", ["client_accuracy/0", "client_accuracy/1", "averaging_gain", "tracking_seconds"])
def test_what_is_measured_once_belongs_to_the_last_round(store: Store, name: str) -> None:
    run_id = store.run("pair", cell="pair init=shared").info.run_id
    (metric,) = store.client.get_metric_history(run_id, name)
    assert 3 == metric.step


def test_the_models_between_two_clients_have_a_hundred_theta_as_the_step(store: Store) -> None:
    run = store.run("pair", cell="pair init=independent")
    line = {
        name: {each.step: each.value for each in store.client.get_metric_history(run.info.run_id, name)}
        for name in ("interpolation/accuracy", "interpolation/loss")
    }
    assert list(range(-20, 121, 5)) == sorted(line["interpolation/accuracy"]) == sorted(line["interpolation/loss"])
    ends = [line["interpolation/accuracy"][step] for step in (100, 0)]
    assert [run.data.metrics[f"client_accuracy/{client}"] for client in (0, 1)] == ends


def test_the_confusion_matrix_is_a_table_with_a_row_for_each_true_class(store: Store) -> None:
    run = store.run("pair", cell="pair init=shared")
    text = Path(unquote(urlsplit(run.info.artifact_uri).path), "confusion.csv").read_text()
    head, *rows = [line.split(",") for line in text.splitlines()]
    assert ["true class", *"0123456789"] == head
    assert list("0123456789") == [row[0] for row in rows]
    counts = np.array([row[1:] for row in rows]).astype(int)
    assert [100] * 10 == counts.sum(axis=1).tolist()
    assert run.data.metrics["accuracy"] == counts.trace() / 1000
    assert run.data.metrics["recall/7"] == counts[7, 7] / 100


def test_who_has_what_is_a_table_and_how_skewed_that_is_a_metric_of_the_last_round(store: Store) -> None:
    run = store.run("dozen")
    text = Path(unquote(urlsplit(run.info.artifact_uri).path), "partition.csv").read_text()
    table = parse_partition(text)
    assert [str(k) for k in range(12)] == table.clients
    assert list("0123456789") == table.class_names
    assert (12, 10) == table.counts.shape
    (metric,) = store.client.get_metric_history(run.info.run_id, "label_skew")
    assert int(run.data.params["rounds"]) == metric.step
    assert label_skew(table.counts) == metric.value


def test_the_dataset_is_an_input_with_its_digest(store: Store) -> None:
    dataset = load_dataset("mnist-5k")
    ((found),) = store.run("dozen").inputs.dataset_inputs
    assert ("mnist-5k/stratified", dataset.digest[:36]) == (found.dataset.name, found.dataset.digest)
    profile = json.loads(found.dataset.profile)
    assert {"num_train": 4000, "num_test": 1000, "split": "stratified"} == profile


def test_every_model_loads_and_scores_the_logged_accuracy_again(store: Store) -> None:
    """In MLflow's own flavour, on all 1,000 test images: the same number of right answers, each model its own."""
    mlflow.set_tracking_uri(store.uri)
    dataset = load_dataset("mnist-5k")
    inputs, labels = dataset.normalise(dataset.test_images).numpy(), dataset.test_labels.numpy()
    assert 1000 == len(labels)
    outputs = []
    for run in (run for run in store.runs if run.data.tags["fedbench.scenario"] == "pair"):
        (output,) = run.outputs.model_outputs
        outputs.append(mlflow.pyfunc.load_model(f"models:/{output.model_id}").predict(inputs))
        assert run.data.metrics["accuracy"] == np.sum(outputs[-1].argmax(axis=1) == labels) / 1000
    assert 4 == len(outputs)
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(outputs, 2))


def test_a_model_with_buffers_outside_its_state_is_exported_each_time(tmp_path: Path) -> None:
    class Shift(torch.nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.register_buffer("by", torch.tensor(by), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight + self.by

    for by in (1.0, 2.0):
        path = tmp_path / str(by)
        models._save(path, "shift", Shift(by), np.zeros((2, 3), np.float32), 3)
        assert by == mlflow.pytorch.load_model(str(path))(torch.zeros(2, 3))[0, 0].item()


def test_no_artifact_is_a_pickle(store: Store) -> None:
    files = [path for path in (store.folder / "artifacts").rglob("*") if path.is_file()]
    assert any(path.suffix == ".pt2" for path in files)
    suspects = [path for path in files if path.suffix in (".pkl", ".pickle", ".pth", ".pt", ".joblib")]
    assert [] == suspects
    assert [] == [path for path in files if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05")]


def test_the_model_asks_for_a_version_of_torch_that_an_index_has(store: Store) -> None:
    (requirements,) = {path.read_text() for path in (store.folder / "artifacts").rglob("requirements.txt")}
    assert ["mlflow", "torch"] == [line.partition("==")[0] for line in requirements.split()]
    assert "+" not in requirements


def test_a_run_that_ended_well_is_finished_and_has_its_verdict(store: Store) -> None:
    for scenario in ("pair", "dozen"):
        for run in (run for run in store.runs if run.data.tags["fedbench.scenario"] == scenario):
            assert "FINISHED" == run.info.status
            assert run.data.tags["fedbench.verdict"] in ("ok", "below majority", "collapsed")


def test_a_run_that_missed_its_requirement_is_failed_with_its_reason(store: Store) -> None:
    run = store.run("hopeless")
    reason = f"accuracy {run.data.metrics['accuracy']:.1%} is below the required 100.0%"
    assert "FAILED" == run.info.status
    assert ("failed", reason) == (run.data.tags["fedbench.verdict"], run.data.tags["fedbench.reason"])
    assert f"failed: {reason}" == run.data.tags["mlflow.note.content"]


def test_finished_runs_give_back_the_results_to_the_last_bit(store: Store) -> None:
    """In the order of the clients too, of which there are twelve: 10 does not come after 1."""
    finished = MlflowTracker(store.suite, store.uri).finished_runs()
    by_fingerprint = {run.data.tags["fedbench.fingerprint"]: run.data.tags for run in store.runs}
    expected = {
        (each.run.cell, each.run.seed): each.result
        for each in store.outcomes
        if each.result.verdict is not Verdict.FAILED
    }
    found = {
        (by_fingerprint[key]["fedbench.cell"], int(by_fingerprint[key]["fedbench.seed"])): result
        for key, result in finished.items()
    }
    assert expected == found
    assert list(range(12)) == list(found["dozen", 0].client_accuracy)
    assert len(set(found["dozen", 0].client_accuracy.values())) > 3


@pytest.fixture
def tracker(store: Store) -> MlflowTracker:
    """The tracker of another suite in the same store."""
    return MlflowTracker(Suite(name="other", question="?", seeds=(0,), scenarios=(), path=store.folder), store.uri)


FINAL = {"accuracy": 0.5, "balanced_accuracy": 0.4, "loss": 1.0, "majority_rate": 0.1}
RUN = RunSpec(suite="other", scenario="a", cell="a", spec=CellSpec(rounds=1), seed=0)


def start(tracker: MlflowTracker, fingerprint: str, rounds: int = 0) -> MlflowRun:
    tracked = tracker.start_run(RUN, fingerprint, "of the cell", load_dataset("mnist-5k"), rounds, fresh=False)
    assert isinstance(tracked, MlflowRun)
    return tracked


def track(tracker: MlflowTracker, fingerprint: str, result: RunResult | None, kill: str = "") -> Any:
    tracked = start(tracker, fingerprint)
    if result is not None:
        by_client = {f"client_accuracy/{client}": value for client, value in result.client_accuracy.items()}
        tracked.log_round(1, {**result.metrics, **by_client})
        tracked.finish(result)
    elif kill:
        tracked.log_round(1, {"accuracy": 0.25})
        tracked.kill(kill)
    return tracker.client.get_run(tracked.run_id)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_comes_back_so(tracker: MlflowTracker, loss: float) -> None:
    result = RunResult(Verdict.DIVERGED, "the loss is not finite", FINAL | {"accuracy": 0.1, "loss": loss})
    track(tracker, f"diverged {loss}", result)
    found = tracker.finished_runs()[f"diverged {loss}"]
    assert (result.verdict, result.reason, 0.1) == (found.verdict, found.reason, found.metrics["accuracy"])
    assert not math.isfinite(found.metrics["loss"])


def test_a_killed_run_has_its_metrics_and_its_reason_and_is_not_finished(tracker: MlflowTracker) -> None:
    run = track(tracker, "killed", None, kill="interrupted")
    assert ("KILLED", "interrupted") == (run.info.status, run.data.tags["fedbench.reason"])
    assert "fedbench.verdict" not in run.data.tags
    assert 0.25 == run.data.metrics["accuracy"]
    assert "killed" not in tracker.finished_runs()


def test_a_command_whose_run_another_one_took_up_while_it_was_asleep_writes_nothing_more(
    tracker: MlflowTracker, store: Store
) -> None:
    asleep = start(tracker, "taken up")
    asleep.log_round(1, {"accuracy": 0.25})
    other = start(MlflowTracker(tracker.suite, store.uri), "taken up")
    assert asleep.run_id == other.run_id
    before = tracker.client.get_run(other.run_id).to_dictionary()
    final = FinalRecord(["a", "b"], np.eye(2, dtype=np.int64), lines={"": ((0.5, 1.0, 0.5),)})
    for late in (lambda: asleep.log_final(final), lambda: asleep.finish(RunResult(Verdict.OK, None, FINAL))):
        with pytest.raises(StoreError, match="was taken up or deleted by another command"):
            late()
    asleep.kill("interrupted")
    assert before == tracker.client.get_run(other.run_id).to_dictionary()
    other.log_round(1, FINAL)
    assert Verdict.OK is other.finish(RunResult(Verdict.OK, None, FINAL)).verdict
    asleep.kill("interrupted")
    assert "FINISHED" == tracker.client.get_run(other.run_id).info.status


def test_a_run_still_under_way_is_not_finished(tracker: MlflowTracker) -> None:
    run = track(tracker, "under way", None)
    assert "RUNNING" == run.info.status
    assert "under way" not in tracker.finished_runs()


def test_of_a_creation_that_a_hanging_server_takes_up_late_one_run_is_left(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt times out, and is only executed once the second one has looked for its run."""
    create, answers = MlflowClient.create_run, iter([requests.Timeout(), None])

    def late(*arguments: Any) -> Any:
        if error := next(answers):
            raise error
        create(*arguments)
        return create(*arguments)

    monkeypatch.setattr(MlflowClient, "create_run", late)
    monkeypatch.setattr(tracker.client, "_is_remote", True)
    track(tracker, "late", RunResult(Verdict.OK, None, FINAL))
    (run,) = tracker.client.search_runs([tracker.experiment_id], "tags.`fedbench.fingerprint` = 'late'")
    assert "FINISHED" == run.info.status


@contextmanager
def interrupted_after(step: str, tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is done here is interrupted right after a request: the store has it, and the command does not know."""
    request = getattr(tracker.client, step)

    def interrupted(*arguments: Any, **options: Any) -> None:
        request(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tracker.client, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize("step", ["create_run", "log_batch", "log_inputs"])
def test_a_run_that_is_interrupted_while_it_is_begun_is_not_left(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with interrupted_after(step, tracker, monkeypatch):
        track(tracker, f"interrupted at {step}", None)
    wanted = f"tags.`fedbench.fingerprint` = 'interrupted at {step}'"
    assert [] == list(tracker.client.search_runs([tracker.experiment_id], wanted))


@pytest.mark.parametrize("step", ["update_run", "log_batch"])
def test_a_run_that_is_interrupted_while_it_resumes_is_killed(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    name = f"interrupted again at {step}"
    first = track(tracker, name, None, kill="interrupted")
    with interrupted_after(step, tracker, monkeypatch):
        start(tracker, name, rounds=1)
    assert "KILLED" == tracker.client.get_run(first.info.run_id).info.status


def test_a_failed_run_is_not_finished(tracker: MlflowTracker) -> None:
    run = track(tracker, "failed", RunResult(Verdict.FAILED, "RuntimeError: no memory"))
    assert "FAILED" == run.info.status
    assert "failed" not in tracker.finished_runs()


def test_clients_keep_their_numbers_and_order(tracker: MlflowTracker) -> None:
    by_client = {2: 0.5, 9: 0.25, 10: 0.75, 100: 0.125}
    track(tracker, "some clients", RunResult(Verdict.OK, None, FINAL, by_client))
    assert list(by_client.items()) == list(tracker.finished_runs()["some clients"].client_accuracy.items())


def test_runs_of_other_origin_in_the_experiment_are_left_alone(tracker: MlflowTracker) -> None:
    run = tracker.client.create_run(tracker.experiment_id, run_name="by hand")
    tracker.client.set_terminated(run.info.run_id, "FINISHED")
    assert all(isinstance(result, RunResult) for result in tracker.finished_runs().values())


def test_a_suites_finished_runs_are_its_own(store: Store, tracker: MlflowTracker) -> None:
    track(tracker, "mine", RunResult(Verdict.OK, None, FINAL))
    assert "mine" in tracker.finished_runs()
    assert "mine" not in MlflowTracker(store.suite, store.uri).finished_runs()


def test_a_second_tracker_opens_the_same_experiment(store: Store) -> None:
    first, second = (MlflowTracker(store.suite, store.uri) for _ in range(2))
    assert first.experiment_id == second.experiment_id


@pytest.mark.parametrize("lost", sorted(FINAL))
def test_a_run_that_lacks_a_number_is_not_finished(tracker: MlflowTracker, lost: str) -> None:
    metrics = {name: value for name, value in FINAL.items() if name != lost}
    track(tracker, f"without {lost}", RunResult(Verdict.OK, None, metrics))
    assert f"without {lost}" not in tracker.finished_runs()


def test_a_run_whose_verdict_was_changed_to_nonsense_is_not_finished(tracker: MlflowTracker) -> None:
    run = track(tracker, "nonsense", RunResult(Verdict.OK, None, FINAL))
    tracker.client.set_tag(run.info.run_id, "fedbench.verdict", "great")
    assert "nonsense" not in tracker.finished_runs()


def test_storing_the_model_does_not_finish_the_run(tracker: MlflowTracker) -> None:
    """If the process dies before the result is written, the run must not count as finished."""
    dataset = load_dataset("mnist-5k")
    tracked = start(tracker, "stored")
    example = dataset.normalise(dataset.test_images[:2]).numpy()
    model = build_model("simple-cnn")
    tracked.log_final(FinalRecord(dataset.class_names, model=model, model_name="simple-cnn", example=example))
    run = tracker.client.get_run(tracked.run_id)
    assert "RUNNING" == run.info.status
    (model,) = run.outputs.model_outputs
    assert tracker.experiment_id == mlflow.get_logged_model(model.model_id).experiment_id


def test_metrics_that_are_more_than_a_batch_are_all_recorded(tracker: MlflowTracker) -> None:
    tracked = start(tracker, "many")
    by_client = {f"client_drift/{client}": client / 7 for client in range(700)}
    for step in (1, 2, 3):
        tracked.log_round(step, FINAL | by_client)
    tracked.finish(RunResult(Verdict.OK, None, FINAL))
    run = tracker.client.get_run(tracked.run_id)
    assert {name: run.data.metrics[name] for name in by_client} == by_client
    assert [1, 2, 3] == [each.step for each in tracker.client.get_metric_history(tracked.run_id, "client_drift/699")]


def test_a_store_that_fails_is_one_line(tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MlflowException("disk I/O error\n[SQL: INSERT]")

    tracked = start(tracker, "fails")
    tracked.log_round(1, FINAL)
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "log_batch", fails)
        with pytest.raises(StoreError, match=r"^tracking store sqlite:.* failed \(disk I/O error\): check that"):
            tracked.finish(RunResult(Verdict.OK, None, FINAL))
    tracked.finish(RunResult(Verdict.OK, None, FINAL))
    assert "fails" in tracker.finished_runs()


# Where it is refused to begin, and stores of other schemas


def test_on_a_disk_that_is_nearly_full_nothing_is_begun(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(tracker.client.search_runs([tracker.experiment_id]))
    usage = shutil.disk_usage(".")._replace(free=99 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreError) as caught:
        start(tracker, "no room")
    folder = local_folder(tracker.uri)
    expected = (
        f"only 99 MB are free on the disk of {folder}: make room (at least 100 MB), then the same command resumes"
    )
    assert expected == str(caught.value)
    assert before == len(tracker.client.search_runs([tracker.experiment_id]))


def test_the_disk_of_a_store_elsewhere_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(shutil, "disk_usage")
    require_space("http://127.0.0.1:5000")


def test_checkpoints_are_next_to_a_sqlite_store_and_else_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path("/somewhere/checkpoints") == checkpoint_folder("sqlite:////somewhere/mlflow.db")
    assert tmp_path / "mlruns" / "checkpoints" == checkpoint_folder("http://127.0.0.1:5000")
