"""Interrupted runs resume in the store as the same runs, and of two commands one computes a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch
from empty_store import put_empty_store
from tiny_store import write_suite

from fedbench.datasets import load_dataset
from fedbench.executors import in_process
from fedbench.measures import TIMES, RunResult, Verdict
from fedbench.models import build_model
from fedbench.runs.data import DataSource
from fedbench.runs.suite_run import run_suite
from fedbench.suites.schema import CellSpec, RunSpec, Suite
from fedbench.tracking import FinalRecord
from fedbench.tracking.mlflow import run as mlflow_run
from fedbench.tracking.mlflow import tracker as mlflow
from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker
from fedbench.util.locks import lock

SUITE = """
name: tiny
question: Does it resume?
seeds: [0, 1]
scenarios: [{name: a, examples_per_client: 10, rounds: 3, local_epochs: 1, interpolation: true}]
"""
RUN = RunSpec(suite="tiny", scenario="a", cell="a", spec=CellSpec(rounds=3), seed=0)
METRICS = {"accuracy": 0.5, "balanced_accuracy": 0.4, "loss": 1.0, "majority_rate": 0.1}
RESULT = RunResult(Verdict.OK, None, METRICS)
OK = "FINISHED"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return write_suite(tmp_path, SUITE)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return put_empty_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db")


@pytest.fixture
def one(suite: Suite, uri: str) -> MlflowTracker:
    return MlflowTracker(suite, uri)


@pytest.fixture
def other(suite: Suite, uri: str) -> MlflowTracker:
    return MlflowTracker(suite, uri)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store counts as a server's, which other machines use too."""
    for module in (mlflow, mlflow_run):
        monkeypatch.setattr(module, "local_folder", lambda _: None)


def start(tracker: MlflowTracker, rounds: int = 0, fresh: bool = False, key: str = "k") -> MlflowRun | RunResult:
    return tracker.start_run(RUN, "f", "c", load_dataset("mnist-5k"), rounds, fresh, key)


def begun(tracker: MlflowTracker, rounds: int = 0, fresh: bool = False, key: str = "k") -> MlflowRun:
    tracked = start(tracker, rounds, fresh, key)
    assert isinstance(tracked, MlflowRun)
    return tracked


def recorded(tracker: MlflowTracker, rounds: int, key: str = "k") -> MlflowRun:
    """A run of which so many rounds are in the store, as a process leaves it that is killed."""
    tracked = begun(tracker, key=key)
    for step in range(1, rounds + 1):
        tracked.log_round(step, METRICS)
    tracked._flush()
    return tracked


def active(tracker: MlflowTracker) -> list[tuple[str, str]]:
    """Id and status of the seeds' runs."""
    wanted = "tags.`fedbench.kind` = 'run'"
    found = tracker.client.search_runs([tracker.experiment_id], wanted, order_by=["attributes.start_time"])
    return [(run.info.run_id, run.info.status) for run in found]


def steps(tracker: MlflowTracker, run_id: str, name: str = "accuracy") -> list[int]:
    return [metric.step for metric in tracker.client.get_metric_history(run_id, name)]


# Which run is resumed


@pytest.mark.parametrize(("in_store", "kept"), [(0, 0), (2, 2), (3, 1)])
def test_a_run_of_a_killed_process_resumes_and_no_round_is_recorded_twice(
    one: MlflowTracker, other: MlflowTracker, in_store: int, kept: int
) -> None:
    """With so many rounds in the store and in the checkpoint; of large models checkpoints are rare."""
    tracked = recorded(one, in_store)
    again = begun(other, rounds=kept)
    assert tracked.run_id == again.run_id
    for step in (1, 2, 3, 4):
        again.log_round(step, METRICS)
    assert RESULT == again.finish(RESULT)
    assert [1, 2, 3, 4] == steps(other, again.run_id)
    assert [(again.run_id, OK)] == active(other)


def test_what_was_interrupted_although_it_had_finished_before_does_not_stay(
    one: MlflowTracker, other: MlflowTracker
) -> None:
    """A plain command after one with --fresh; but a run that is being computed stays."""
    finished = recorded(one, 3)
    finished.finish(RESULT)
    again = begun(one, fresh=True)
    held = lock(one.checkpoints / "f.lock")
    other.finished_runs()
    assert [(finished.run_id, OK), (again.run_id, "RUNNING")] == active(one)
    again.kill("interrupted")
    held.release()
    other.finished_runs()
    assert [(finished.run_id, OK)] == active(one)
    assert [] == list(one.checkpoints.iterdir())


def test_an_interrupted_run_resumes_and_says_what_computes_it_now(
    one: MlflowTracker, other: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = begun(one)
    tracked.log_round(1, METRICS)
    tracked.kill("interrupted")
    assert [(tracked.run_id, "KILLED")] == active(one)
    monkeypatch.setattr(mlflow, "environment_tags", lambda: {"fedbench.version": "99.0"})
    run = other.client.get_run(begun(other, rounds=1).run_id)
    assert (tracked.run_id, "RUNNING") == (run.info.run_id, run.info.status)
    assert "fedbench.reason" not in run.data.tags
    assert "99.0" == run.data.tags["fedbench.version"]


def test_recorded_rounds_without_a_checkpoint_are_deleted_and_the_run_starts_over(
    one: MlflowTracker, other: MlflowTracker
) -> None:
    """As when the checkpoint is damaged: the rounds may have been computed elsewhere, to other bits."""
    tracked = recorded(one, 2)
    again = begun(other, rounds=0)
    assert tracked.run_id != again.run_id
    assert [(again.run_id, "RUNNING")] == active(other)


def test_a_run_whose_process_died_while_it_was_begun_gets_what_it_lacks(
    one: MlflowTracker, other: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the run was made, before its parameters and its dataset were recorded."""
    with monkeypatch.context() as patch:
        patch.setattr(MlflowTracker, "_complete", lambda *_, **__: None)
        tracked = begun(one)
    assert {} == one.client.get_run(tracked.run_id).data.params
    again = begun(other)
    assert tracked.run_id == again.run_id
    run = other.client.get_run(again.run_id)
    assert {"seed", *(key for key, value in RUN.spec.values.items() if value is not None)} == set(run.data.params)
    assert ["mnist-5k/stratified"] == [each.dataset.name for each in run.inputs.dataset_inputs]
    again.kill("interrupted")
    run = other.client.get_run(begun(one).run_id)
    assert 1 == len(run.inputs.dataset_inputs)  # and it is not recorded twice


def test_a_model_that_a_killed_process_stored_is_replaced(one: MlflowTracker, other: MlflowTracker) -> None:
    dataset = load_dataset("mnist-5k")
    example = dataset.normalise(dataset.test_images[:2]).numpy()
    final = FinalRecord(dataset.class_names, model=build_model("simple-cnn"), model_name="simple", example=example)
    begun(one).log_final(final)
    again = begun(other)
    again.log_final(final)
    again.finish(RESULT)
    (model,) = other.client.search_logged_models([other.experiment_id])
    outputs = {output.model_id for output in other.client.get_run(again.run_id).outputs.model_outputs}
    assert again.run_id == model.source_run_id
    assert model.model_id in outputs


def test_what_is_finished_is_its_result_unless_a_fresh_run_is_wanted(one: MlflowTracker, other: MlflowTracker) -> None:
    tracked = recorded(one, 1)
    tracked.finish(RESULT)
    assert start(other) == RESULT
    again = begun(other, fresh=True)
    assert [(tracked.run_id, OK), (again.run_id, "RUNNING")] == active(other)


def test_a_failed_run_is_computed_again(one: MlflowTracker, other: MlflowTracker) -> None:
    tracked = begun(one)
    tracked.finish(RunResult(Verdict.FAILED, "RuntimeError: no memory"))
    assert tracked.run_id != begun(other).run_id


# Several machines on one server


@pytest.mark.usefixtures("server")
def test_on_a_server_only_the_run_of_the_checkpoint_here_is_resumed(one: MlflowTracker, other: MlflowTracker) -> None:
    theirs = recorded(one, 2, key="theirs")
    mine = begun(other, key="mine")
    assert theirs.run_id != mine.run_id
    mine.log_round(1, METRICS)
    mine.kill("interrupted")
    assert mine.run_id == begun(other, rounds=1, key="mine").run_id
    assert [(theirs.run_id, "RUNNING"), (mine.run_id, "RUNNING")] == active(one)


@pytest.mark.usefixtures("server")
def test_a_run_computed_on_two_machines_stays_in_the_store_once(one: MlflowTracker, other: MlflowTracker) -> None:
    first, second = recorded(one, 1, key="a"), recorded(other, 1, key="b")
    assert RESULT == second.finish(RESULT)
    assert RESULT == first.finish(RESULT)
    assert [(first.run_id, OK)] == active(one)  # it began first


# Ctrl-C while something is recorded


def interrupting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with a Ctrl-C before it ends."""

    def call(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments, **options)

    return call


@pytest.mark.parametrize(
    "step",
    ["create_run", "log_inputs", "log_batch", "log_text", "create_logged_model", "log_outputs", "set_terminated"],
)
def test_after_ctrl_c_at_any_request_the_same_command_ends_in_one_whole_run(
    suite: Suite, uri: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tracker = MlflowTracker(suite, uri)
    with monkeypatch.context() as patch:
        patch.setattr(tracker.client, step, interrupting(getattr(tracker.client, step)))
        with pytest.raises(KeyboardInterrupt):
            list(run_suite(suite.runs[:1], DataSource(), tracker, in_process.execute))
    (outcome,) = run_suite(suite.runs[:1], DataSource(), MlflowTracker(suite, uri), in_process.execute)
    ((run_id, status),) = active(tracker)
    assert (OK, True) == (status, outcome.result.verdict in (Verdict.OK, Verdict.BELOW_MAJORITY, Verdict.COLLAPSED))
    assert [1, 2, 3] == steps(tracker, run_id)
    assert 1 == len(tracker.client.search_logged_models([tracker.experiment_id]))


# A suite that is interrupted


def interrupted_after(events: int) -> Any:
    def execute(jobs: Iterable[Any], work: Any) -> Iterator[Any]:
        for count, event in enumerate(in_process.execute(jobs, work)):
            if count == events:
                raise KeyboardInterrupt
            yield event

    return execute


def histories(tracker: MlflowTracker, run: Any) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(each.step, each.value) for each in tracker.client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
        if name not in TIMES
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> MlflowTracker:
    """The store of the suite when nothing interrupts it."""
    folder = tmp_path_factory.mktemp("reference")
    tracker = MlflowTracker(write_suite(folder, SUITE), put_empty_store(f"sqlite:///{folder}/mlflow.db"))
    list(run_suite(tracker.suite.runs, DataSource(), tracker, in_process.execute))
    return tracker


@pytest.mark.parametrize("rounds", [0, 2, 3])
def test_an_interrupted_suite_ends_in_the_same_runs_with_the_same_numbers(
    expected: MlflowTracker, suite: Suite, uri: str, tmp_path: Path, rounds: int
) -> None:
    """After so many rounds of the second run, of three; after the last one only the end is missing."""
    with pytest.raises(KeyboardInterrupt):
        list(run_suite(suite.runs, DataSource(), MlflowTracker(suite, uri), interrupted_after(4 + rounds)))
    tracker = MlflowTracker(suite, uri)
    before = active(tracker)
    assert [OK, "KILLED"] == [status for _, status in before]
    list(run_suite(suite.runs, DataSource(), tracker, in_process.execute))
    assert [(run_id, OK) for run_id, _ in before] == active(tracker)

    runs = [
        {
            run.data.tags["fedbench.fingerprint"]: run
            for run in each.client.search_runs([each.experiment_id], "tags.`fedbench.kind` = 'run'")
        }
        for each in (expected, tracker)
    ]
    assert 2 == len(runs[0])
    assert runs[0].keys() == runs[1].keys()
    for fingerprint, run in runs[0].items():
        same = runs[1][fingerprint]
        assert histories(expected, run) == histories(tracker, same)
        assert run.data.params == same.data.params
        states = [state_of(each, found) for each, found in ((expected, run), (tracker, same))]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert [] == list((tmp_path / "mlruns" / "checkpoints").iterdir())
    assert 2 == len(tracker.client.search_logged_models([tracker.experiment_id]))


def state_of(tracker: MlflowTracker, run: Any) -> dict[str, torch.Tensor]:
    """The parameters of a run's stored model."""
    import mlflow as client

    client.set_tracking_uri(tracker.uri)
    (output,) = run.outputs.model_outputs
    state: dict[str, torch.Tensor] = client.pytorch.load_model(f"models:/{output.model_id}").state_dict()
    return state


# Two commands at once

COMMAND = """
import sys, time
from fedbench.executors import in_process
from fedbench.runs.data import DataSource
from fedbench.runs.suite_run import run_suite
from fedbench.suites.loading import load_suite
from fedbench.tracking.mlflow.tracker import MlflowTracker

suite = load_suite(sys.argv[1])
def slow(jobs, work):
    for event in in_process.execute(jobs, work):
        print("event", flush=True)
        time.sleep(float(sys.argv[3]))
        yield event
for outcome in run_suite(suite.runs, DataSource(), MlflowTracker(suite, sys.argv[2]), slow):
    print(outcome.run.seed, outcome.executed, flush=True)
"""


def command(suite: Suite, uri: str, seconds: float) -> subprocess.Popen[str]:
    """Run the suite in a process that takes so long after each round."""
    arguments = [sys.executable, "-c", COMMAND, str(suite.path), uri, str(seconds)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fate", [*(pytest.param(fate, marks=pytest.mark.nightly) for fate in ("finishes", "sleeps")), "is killed"]
)
def test_a_run_that_another_command_computes_is_waited_for_whatever_becomes_of_it(
    suite: Suite, uri: str, fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    with command(suite, uri, 1.0) as theirs:
        assert theirs.stdout is not None
        assert "event\n" == theirs.stdout.readline()
        if fate == "sleeps":
            theirs.send_signal(signal.SIGSTOP)
            Timer(5, theirs.send_signal, [signal.SIGCONT]).start()
        elif fate == "is killed":
            Timer(2, theirs.kill).start()
        tracker, began = MlflowTracker(suite, uri), time.monotonic()
        outcomes = list(run_suite(suite.runs, DataSource(), tracker, in_process.execute))
        seconds = time.monotonic() - began
    executed = {outcome.run.seed: outcome.executed for outcome in outcomes}
    assert {0: fate == "is killed", 1: True} == executed
    assert ["fedbench: waiting for runs that another command computes; Ctrl-C ends that"] == caplog.messages
    assert [OK, OK] == [status for _, status in active(tracker)]
    assert all([1, 2, 3] == steps(tracker, run_id) for run_id, _ in active(tracker))
    assert 2 == len(tracker.client.search_logged_models([tracker.experiment_id]))
    assert [] == list(tracker.checkpoints.iterdir())
    assert fate != "sleeps" or seconds > 4
