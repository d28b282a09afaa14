"""One process works on a run: what claims say, who goes first, and what becomes of the runs of dead processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import psutil
import pytest
import torch
from tiny_store import write_suite

from fedbench.datasets import load_dataset
from fedbench.executors import in_process
from fedbench.measures import TIMES, RunResult, Verdict
from fedbench.models import build_model
from fedbench.runs.data import DataSource
from fedbench.runs.events import Event, Job
from fedbench.runs.suite_run import run_suite
from fedbench.runs.work import RunWork
from fedbench.suites.fields import COMMON
from fedbench.suites.schema import CellSpec, RunSpec, Suite
from fedbench.tracking.mlflow import claims, ownership
from fedbench.tracking.mlflow import tracker as mlflow
from fedbench.tracking.mlflow.claims import DEAD_AFTER_SECONDS, Claim, Decision, claims_of, decide
from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker

SUITE = """
name: tiny
question: Who works on it?
seeds: [0, 1]
scenarios: [{name: a, examples_per_client: 10, rounds: 3, local_epochs: 1, interpolation: true}]
"""
RUN = RunSpec(suite="tiny", scenario="a", cell="a", spec=CellSpec(rounds=3), seed=0)
METRICS = {"accuracy": 0.5, "balanced_accuracy": 0.4, "loss": 1.0, "majority_rate": 0.1}
RESULT = RunResult(Verdict.OK, None, METRICS)


def claim(name: str = "m", **changes: Any) -> Claim:
    return replace(replace(Claim.of_this_process(), name=name), **changes)


# What a claim says


def test_a_claim_comes_back_from_its_tag() -> None:
    mine = claim(state="owned")
    (found,) = claims_of({mine.tag: mine.text(), "fedbench.seed": "0"})
    assert mine == found


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"pid": 1}', '{"more": 1}'])
def test_what_is_no_claim_of_ours_is_left_out(text: str) -> None:
    assert [] == claims_of({"fedbench.claim.x": text})


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], Decision.OWN),
        ([("a", "wanted")], Decision.LEAVE),
        ([("z", "wanted")], Decision.WAIT),
        ([("a", "owned")], Decision.LEAVE),
        ([("z", "owned")], Decision.LEAVE),
        ([("y", "wanted"), ("z", "wanted")], Decision.WAIT),
        ([("a", "wanted"), ("z", "wanted")], Decision.LEAVE),
        ([("y", "wanted"), ("z", "owned")], Decision.LEAVE),
    ],
)
def test_the_smaller_name_goes_first_and_what_is_owned_is_left(others: Any, expected: Decision) -> None:
    """Seen by the process of the name m."""
    assert expected is decide(claim("m"), [claim(name, state=state) for name, state in others])


# Who is alive


def test_a_process_that_runs_is_alive_whatever_its_heartbeat() -> None:
    assert claim().is_alive()
    assert claim(heartbeat=0.0).is_alive()
    assert claim(pid=os.getppid(), started=psutil.Process(os.getppid()).create_time()).is_alive()


@pytest.fixture
def ended() -> tuple[int, float]:
    """The number and the start of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
    return process.pid, started


def test_a_process_that_has_ended_is_dead_at_once(ended: tuple[int, float]) -> None:
    assert not claim(pid=ended[0], started=ended[1], heartbeat=time.time()).is_alive()


def test_a_process_that_has_the_number_of_one_that_ended_is_another() -> None:
    assert not claim(started=time.time() - 1e6).is_alive()


def test_a_process_that_was_killed_and_that_nobody_waited_for_is_dead() -> None:
    """A zombie, as in a container whose first process waits for nobody."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = claim(pid=process.pid, started=psutil.Process(process.pid).create_time())
    assert found.is_alive()
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not found.is_alive()
    process.communicate()


@pytest.mark.parametrize(("age", "alive"), [(0, True), (DEAD_AFTER_SECONDS - 5, True), (DEAD_AFTER_SECONDS + 5, False)])
def test_a_process_of_another_machine_is_alive_while_its_heart_beats(age: float, alive: bool) -> None:
    """Whether this machine has a process of that number says nothing."""
    assert alive == claim(host="elsewhere", heartbeat=time.time() - age).is_alive()


# In a store


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return write_suite(tmp_path, SUITE)


@pytest.fixture
def uri(tmp_path: Path, empty_store: bytes) -> str:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(empty_store)
    return f"sqlite:///{tmp_path}/mlruns/mlflow.db"


@pytest.fixture
def one(suite: Suite, uri: str) -> MlflowTracker:
    return MlflowTracker(suite, uri)


@pytest.fixture
def other(suite: Suite, uri: str) -> MlflowTracker:
    return MlflowTracker(suite, uri)


def start(tracker: MlflowTracker, rounds: int = 0, fresh: bool = False, fingerprint: str = "f") -> Any:
    return tracker.start_run(RUN, fingerprint, "c", load_dataset("mnist-5k"), rounds, fresh)


def begun(tracker: MlflowTracker, rounds: int = 0, fresh: bool = False) -> MlflowRun:
    tracked = start(tracker, rounds, fresh)
    assert isinstance(tracked, MlflowRun)
    return tracked


def die(tracker: MlflowTracker, tracked: MlflowRun, ended: tuple[int, float]) -> None:
    """Make a run look as if its process had been killed."""
    tracker.ownership._own.clear()
    tracker.ownership._seen.clear()
    dead = replace(tracker.ownership.claim, state="owned", pid=ended[0], started=ended[1])
    tracker.client.set_tag(tracked.run_id, dead.tag, dead.text())


def active(tracker: MlflowTracker) -> list[tuple[str, str, str]]:
    """Id, status and kind of all runs."""
    found = tracker.client.search_runs([tracker.experiment_id], order_by=["attributes.start_time"])
    return [(run.info.run_id, run.info.status, run.data.tags["fedbench.kind"]) for run in found]


def steps(tracker: MlflowTracker, run_id: str, name: str = "accuracy") -> list[int]:
    return [metric.step for metric in tracker.client.get_metric_history(run_id, name)]


def test_a_run_of_a_live_process_is_left_to_it(one: MlflowTracker, other: MlflowTracker) -> None:
    tracked = begun(one)
    assert start(other) is None
    assert start(other, rounds=3) is None
    assert start(other, fresh=True) is None
    assert [(tracked.run_id, "RUNNING", "run")] == active(one)
    assert tracked.is_ours()
    assert 1 == len(claims_of(one.client.get_run(tracked.run_id).data.tags))


def test_a_run_that_another_command_finished_since_the_beginning_is_not_begun_and_from_then_on_it_is_asked_first(
    one: MlflowTracker, other: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {} == dict(one.finished_runs())
    for fingerprint in ("f", "g"):
        tracked = start(other, fingerprint=fingerprint)
        tracked.log_round(1, METRICS)
        tracked.finish(RESULT)
    asked: list[str] = []
    create = one.client.create_run
    monkeypatch.setattr(one.client, "create_run", lambda *arguments: asked.append("create") or create(*arguments))
    assert [RESULT, RESULT] == [start(one, fingerprint=fingerprint) for fingerprint in ("f", "g")]
    assert ["create"] == asked  # in vain, and withdrawn
    assert ["FINISHED", "FINISHED"] == [status for _, status, _ in active(one)]


def test_whether_a_run_is_still_ours_is_not_asked_twice_in_a_moment(
    one: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = begun(one)
    looks: list[str] = []
    get_run = one.client.get_run
    monkeypatch.setattr(one.client, "get_run", lambda run_id: looks.append(run_id) or get_run(run_id))
    assert tracked.is_ours()
    assert [] == looks
    later = time.time() + ownership.SURE_SECONDS
    monkeypatch.setattr(time, "time", lambda: later)  # it slept
    assert tracked.is_ours()
    assert [tracked.run_id] == looks


def test_a_run_of_a_dead_process_is_taken_up_under_the_same_id(
    one: MlflowTracker, other: MlflowTracker, ended: tuple[int, float]
) -> None:
    tracked = begun(one)
    die(one, tracked, ended)
    again = begun(other)
    assert tracked.run_id == again.run_id
    assert [(tracked.run_id, "RUNNING", "run")] == active(other)
    (found,) = claims_of(other.client.get_run(again.run_id).data.tags)
    assert (other.ownership.claim.name, "owned") == (found.name, found.state)
    assert (False, True) == (tracked.is_ours(), again.is_ours())


def test_rounds_that_are_recorded_are_not_recorded_again(
    one: MlflowTracker, other: MlflowTracker, ended: tuple[int, float]
) -> None:
    tracked = begun(one)
    for step in (1, 2):
        tracked.log_round(step, METRICS)
    tracked._flush()
    die(one, tracked, ended)
    again = begun(other, rounds=2)
    assert tracked.run_id == again.run_id
    for step in (1, 2, 3):
        again.log_round(step, METRICS)
    again.finish(RESULT)
    assert [1, 2, 3] == steps(other, again.run_id)
    assert [(again.run_id, "FINISHED", "run")] == active(other)
    assert [] == claims_of(other.client.get_run(again.run_id).data.tags)


def test_a_run_of_which_rounds_are_recorded_but_none_is_kept_is_superseded_by_another(
    one: MlflowTracker, other: MlflowTracker, ended: tuple[int, float]
) -> None:
    """As when the checkpoint is damaged: it may have been made elsewhere, to other bits."""
    tracked = begun(one)
    for step in (1, 2):
        tracked.log_round(step, METRICS)
    tracked._flush()
    die(one, tracked, ended)
    again = begun(other, rounds=0)
    assert [(tracked.run_id, "KILLED", "superseded"), (again.run_id, "RUNNING", "run")] == active(other)


def test_rounds_recorded_after_the_checkpoint_are_not_recorded_twice(
    one: MlflowTracker, other: MlflowTracker, ended: tuple[int, float]
) -> None:
    """As when checkpoints are large and therefore rare."""
    tracked = begun(one)
    for step in (1, 2, 3):
        tracked.log_round(step, METRICS)
    tracked._flush()
    die(one, tracked, ended)
    again = begun(other, rounds=1)
    assert tracked.run_id == again.run_id
    for step in (1, 2, 3, 4):
        again.log_round(step, METRICS)
    again.finish(RESULT)
    assert [1, 2, 3, 4] == steps(other, again.run_id)


def test_an_interrupted_run_is_taken_up_and_its_reason_is_gone(one: MlflowTracker, other: MlflowTracker) -> None:
    tracked = begun(one)
    tracked.log_round(1, METRICS)
    tracked.kill("interrupted")
    assert [(tracked.run_id, "KILLED", "run")] == active(one)
    again = begun(other, rounds=1)
    assert tracked.run_id == again.run_id
    run = other.client.get_run(again.run_id)
    assert ("RUNNING", None) == (run.info.status, run.data.tags.get("fedbench.reason"))
    again.log_round(1, METRICS)
    again.log_round(2, METRICS)
    again.finish(RESULT)
    assert [1, 2] == steps(other, again.run_id)


def test_the_run_that_is_taken_up_says_what_computes_it_now(
    one: MlflowTracker, other: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(one).kill("interrupted")
    monkeypatch.setattr(mlflow, "environment_tags", lambda: {"fedbench.version": "99.0"})
    assert "99.0" == other.client.get_run(begun(other).run_id).data.tags["fedbench.version"]


def test_a_run_whose_process_died_while_it_was_begun_gets_what_it_lacks(
    one: MlflowTracker, other: MlflowTracker, ended: tuple[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the run was made, before its parameters and its dataset were recorded."""
    with monkeypatch.context() as patch:
        patch.setattr("fedbench.tracking.mlflow.tracker._params", lambda _: [])
        patch.setattr(MlflowTracker, "_log_input", lambda *_: None)
        tracked = begun(one)
    die(one, tracked, ended)
    assert {} == one.client.get_run(tracked.run_id).data.params
    again = begun(other)
    assert tracked.run_id == again.run_id
    run = other.client.get_run(again.run_id)
    assert {"seed", *COMMON} == set(run.data.params)
    assert ["mnist-5k/stratified"] == [each.dataset.name for each in run.inputs.dataset_inputs]
    again.kill("interrupted")
    run = other.client.get_run(begun(one).run_id)
    assert 1 == len(run.inputs.dataset_inputs)  # and it is not recorded twice


def test_a_model_that_a_dead_process_stored_is_replaced_by_one(
    one: MlflowTracker, other: MlflowTracker, ended: tuple[int, float]
) -> None:
    dataset = load_dataset("mnist-5k")
    example = dataset.normalise(dataset.test_images[:2]).numpy()
    tracked = begun(one)
    tracked.log_model("simple-cnn", build_model("simple-cnn"), example, 10)
    die(one, tracked, ended)
    again = begun(other)
    again.log_model("simple-cnn", build_model("simple-cnn"), example, 10)
    again.finish(RESULT)
    models = other.client.search_logged_models([other.experiment_id])
    assert [again.run_id] == [model.source_run_id for model in models]


def test_a_run_that_another_process_finished_meanwhile_is_its_result(one: MlflowTracker, other: MlflowTracker) -> None:
    tracked = begun(one)
    tracked.log_round(1, METRICS)
    tracked.finish(RESULT)
    assert start(other) == RESULT
    assert [(tracked.run_id, "FINISHED", "run")] == active(other)


def test_fresh_makes_another_run_of_what_is_finished(one: MlflowTracker, other: MlflowTracker) -> None:
    tracked = begun(one)
    tracked.log_round(1, METRICS)
    tracked.finish(RESULT)
    again = begun(other, fresh=True)
    assert [(tracked.run_id, "FINISHED", "run"), (again.run_id, "RUNNING", "run")] == active(other)


def test_a_failed_run_is_not_taken_up_but_run_again(one: MlflowTracker, other: MlflowTracker) -> None:
    tracked = begun(one)
    tracked.finish(RunResult(Verdict.FAILED, "RuntimeError: no memory"))
    assert tracked.run_id != begun(other).run_id


def test_the_heart_does_not_claim_again_what_another_process_took_up(
    one: MlflowTracker, other: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process was asleep for minutes, on another machine than the one that took the run up."""
    monkeypatch.setattr(ownership, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(ownership, "SURE_SECONDS", 0.0)
    tracked = begun(one)
    asleep = replace(
        one.ownership.claim, state="owned", host="elsewhere", heartbeat=time.time() - 2 * DEAD_AFTER_SECONDS
    )
    with one.ownership._owning:
        one.client.set_tag(tracked.run_id, asleep.tag, asleep.text())
        again = begun(other)
    assert tracked.run_id == again.run_id
    time.sleep(0.5)
    one.close()
    tags = one.client.get_run(again.run_id).data.tags
    assert [other.ownership.claim.name] == [found.name for found in claims_of(tags)]
    assert (False, True) == (tracked.is_ours(), again.is_ours())
    tracked.log_round(1, {"accuracy": 0.25})
    tracked.kill("interrupted")  # says nothing of a run that is another's
    again.log_round(1, METRICS)
    again.finish(RESULT)
    assert [(again.run_id, "FINISHED", "run")] == active(other)
    assert [1] == steps(other, again.run_id)


def test_the_heart_beats_while_a_run_is_under_way(one: MlflowTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "HEARTBEAT_SECONDS", 0.05)
    tracked = begun(one)

    def heartbeat() -> float:
        (found,) = claims_of(one.client.get_run(tracked.run_id).data.tags)
        assert "owned" == found.state
        return found.heartbeat

    first = heartbeat()
    deadline = time.monotonic() + 10
    while heartbeat() == first:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tracked.finish(RESULT)
    time.sleep(0.2)
    assert [] == claims_of(one.client.get_run(tracked.run_id).data.tags)
    one.close()
    assert one.ownership._heart is not None
    assert not one.ownership._heart.is_alive()


def test_one_waits_for_a_smaller_claim_that_is_dead_no_longer_than_it_is_seen(
    one: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two want a run; the one that goes first dies before it decides."""
    tracked = begun(one)
    tracked.kill("interrupted")
    rival = claim("0" * 16, host="elsewhere", state="wanted")
    one.client.set_tag(tracked.run_id, rival.tag, rival.text())
    assert start(one) is None
    monkeypatch.setattr(claims, "DEAD_AFTER_SECONDS", 0.0)
    assert tracked.run_id == begun(one).run_id


# Ctrl-C while something is recorded


def interrupting(function: Any) -> Any:
    """The same function, and a Ctrl-C before it ends."""

    def call(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments, **options)

    return call


@pytest.mark.parametrize("step", ["create_run", "log_inputs", "log_batch"])
def test_a_run_that_ctrl_c_meets_while_it_is_begun_is_killed_and_taken_up(
    suite: Suite, uri: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tracker = MlflowTracker(suite, uri)
    with monkeypatch.context() as patch:
        patch.setattr(tracker.client, step, interrupting(getattr(tracker.client, step)))
        with pytest.raises(KeyboardInterrupt):
            list(run_suite(suite.runs[:1], DataSource(), tracker, in_process.execute))
    ((run_id, status, _),) = active(tracker)
    assert ("KILLED", []) == (status, claims_of(tracker.client.get_run(run_id).data.tags))
    (outcome,) = run_suite(suite.runs[:1], DataSource(), MlflowTracker(suite, uri), in_process.execute)
    assert outcome.executed
    assert [(run_id, "FINISHED", "run")] == [each for each in active(tracker) if each[2] == "run"]


@pytest.mark.parametrize("step", ["log_batch", "set_terminated"])
def test_a_run_that_ctrl_c_meets_while_its_end_is_recorded_is_finished(
    one: MlflowTracker, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tracked = begun(one)
    tracked.log_round(1, METRICS)
    with monkeypatch.context() as patch:
        patch.setattr(one.client, step, interrupting(getattr(one.client, step)))
        with pytest.raises(KeyboardInterrupt):
            tracked.finish(RESULT)
    tracked.kill("interrupted")  # as the runner does with what it still holds
    one.close()
    assert [(tracked.run_id, "FINISHED", "run")] == active(one)
    assert {"f"} == set(one.finished_runs())
    tags = one.client.get_run(tracked.run_id).data.tags
    assert ([], None) == (claims_of(tags), tags.get("fedbench.reason"))


# Races


def race(trackers: list[MlflowTracker], fingerprint: str) -> list[Any]:
    """Let each want the run at the same time, in threads; what came of it for each."""
    barrier, found = Barrier(len(trackers)), {}

    def want(number: int) -> None:
        barrier.wait()
        found[number] = start(trackers[number], fingerprint=fingerprint)

    threads = [Thread(target=want, args=(number,)) for number in range(len(trackers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(trackers))]


@pytest.mark.parametrize("kind", ["new", "killed"])
def test_of_several_that_want_a_run_at_once_exactly_one_owns_it(
    one: MlflowTracker, other: MlflowTracker, suite: Suite, uri: str, kind: str
) -> None:
    trackers = [one, other, MlflowTracker(suite, uri)]
    for number in range(5):
        if kind == "killed":
            start(one, fingerprint=f"f{number}").kill("interrupted")
        found = race(trackers, f"f{number}")
        owners = [each for each in found if each is not None]
        assert 1 == len(owners)
        found_in_store = one.client.search_runs([one.experiment_id], f"tags.`fedbench.fingerprint` = 'f{number}'")
        assert [owners[0].run_id] == [run.info.run_id for run in found_in_store]
        assert owners[0].is_ours()
        owners[0].kill("interrupted")


def want_all(suite: Suite, uri: str, count: int, barrier: Any, results: Any) -> None:
    """A process that wants so many runs, each at the same time as the others."""
    tracker = MlflowTracker(suite, uri)
    owned = []
    for number in range(count):
        barrier.wait(60)
        tracked = start(tracker, fingerprint=f"f{number}")
        if tracked is not None:
            owned.append(number)
        barrier.wait(60)
        if tracked is not None:
            tracked.log_round(1, METRICS)
            tracked.finish(RESULT)
    tracker.close()
    results.put(owned)


@pytest.mark.slow
def test_of_several_processes_that_want_a_run_at_once_exactly_one_owns_it(
    one: MlflowTracker, suite: Suite, uri: str
) -> None:
    count, context = 8, multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=want_all, args=(suite, uri, count, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    owned = Counter(number for _ in processes for number in results.get(timeout=120))
    for process in processes:
        process.join()
    assert dict.fromkeys(range(count), 1) == dict(sorted(owned.items()))
    assert Counter({"FINISHED": count}) == Counter(status for _, status, _ in active(one))


# A suite that is interrupted


def interrupted_after(events: int) -> Any:
    def execute(jobs: Iterable[Job], work: RunWork) -> Iterator[Event]:
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
    tracker = MlflowTracker(write_suite(folder, SUITE), f"sqlite:///{folder}/mlflow.db")
    list(run_suite(tracker.suite.runs, DataSource(), tracker, in_process.execute))
    return tracker


@pytest.mark.parametrize("rounds", [0, 2, 3])
def test_a_suite_that_was_interrupted_ends_in_the_same_runs_with_the_same_numbers(
    expected: MlflowTracker, suite: Suite, uri: str, tmp_path: Path, rounds: int
) -> None:
    """After so many rounds of the second run, of three; after the last one only the end is missing."""
    with pytest.raises(KeyboardInterrupt):
        list(run_suite(suite.runs, DataSource(), MlflowTracker(suite, uri), interrupted_after(4 + rounds)))
    tracker = MlflowTracker(suite, uri)
    before = active(tracker)
    assert ["FINISHED", "KILLED"] == [status for _, status, _ in before]
    list(run_suite(suite.runs, DataSource(), tracker, in_process.execute))
    assert {run_id for run_id, _, _ in before} <= {run_id for run_id, _, kind in active(tracker) if kind == "run"}

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
        assert "FINISHED" == same.info.status
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
