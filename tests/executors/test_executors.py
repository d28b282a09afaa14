"""Where runs are computed must not be seen in their results; and a worker may die."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedbench.executors import choose_executor, in_process, workers
from fedbench.measures import Verdict
from fedbench.runner import DataSource, run_suite
from fedbench.simulation import Event, RoundDone, RunDone, Started
from fedbench.specs import CellSpec, RunSpec
from fedbench.tracking.memory import MemoryTracker

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}


def work_or_die(connection: Connection, folder: Path, device: str) -> None:
    """As a worker, but killed, as by want of memory, at a run of so many examples while the file ``deaths`` says so.

    The file holds the number of examples and how many deaths are left.
    """
    examples, times = map(int, (folder / "deaths").read_text().split())
    connection.poll(None)  # the run is there
    run = connection.recv()
    if times and run.spec.examples_per_client == examples:
        (folder / "deaths").write_text(f"{examples} {times - 1}")
        os.kill(os.getpid(), signal.SIGKILL)
    for event in in_process.execute([run], DataSource(None, device)):
        connection.send(event)
    real_work(connection, folder, device)


real_work = workers._work


def make_runs(count: int, **fields: Any) -> list[RunSpec]:
    return [RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**(TINY | fields)), seed=i) for i in range(count)]


def ends(events: list[Event]) -> dict[int, RunDone]:
    return {event.run.seed: event for event in events if isinstance(event, RunDone)}


@pytest.fixture(scope="module")
def computed() -> dict[str, list[Event]]:
    """The same three runs in this process and in two workers."""
    runs = make_runs(3, init="independent", batch_size=7)
    return {
        "in_process": list(in_process.execute(runs, DataSource())),
        "workers": list(workers.execute(runs, DataSource(), num_workers=2)),
    }


def test_workers_give_the_bits_of_this_process(computed: dict[str, list[Event]]) -> None:
    here, there = ends(computed["in_process"]), ends(computed["workers"])
    assert {0, 1, 2} == set(here) == set(there)
    for seed, done in here.items():
        assert done.result == there[seed].result
        assert done.state is not None
        assert there[seed].state is not None
        for name, array in done.state.items():
            assert np.array_equal(array, there[seed].state[name]), (seed, name)


@pytest.mark.parametrize("executor", ["in_process", "workers"])
def test_of_each_run_come_its_start_its_rounds_in_order_and_its_end(
    computed: dict[str, list[Event]], executor: str
) -> None:
    for seed in range(3):
        events = [event for event in computed[executor] if event.run.seed == seed]
        assert [Started, RoundDone, RoundDone, RunDone] == [type(event) for event in events]
        assert [1, 2] == [event.round for event in events if isinstance(event, RoundDone)]


def test_no_process_is_left(computed: dict[str, list[Event]]) -> None:
    assert computed
    assert [] == multiprocessing.active_children()


def test_one_worker_is_this_process_and_more_are_processes() -> None:
    assert in_process.execute is choose_executor(1)
    executor = choose_executor(3)
    assert isinstance(executor, partial)
    assert (workers.execute, {"num_workers": 3}) == (executor.func, executor.keywords)


def test_the_default_is_at_least_one_worker_and_at_most_one_a_core() -> None:
    assert 1 <= workers.default_workers() <= (os.cpu_count() or 1)


def test_no_runs_need_no_worker() -> None:
    assert [] == list(workers.execute([], DataSource(), num_workers=2))


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_once_is_tried_again_and_finishes(tmp_path: Path) -> None:
    tracker = MemoryTracker()
    died = False

    def kill_once(given: Any, data: DataSource) -> Any:
        nonlocal died
        for event in workers.execute(given, data, num_workers=1):
            yield event
            if isinstance(event, RoundDone) and not died:
                died = True
                (worker,) = multiprocessing.active_children()
                os.kill(worker.pid or 0, signal.SIGKILL)

    # Long enough that the worker cannot end the run before it is killed.
    runs = make_runs(2, rounds=20)
    expected = ends(list(in_process.execute(runs, DataSource())))
    outcomes = list(run_suite(runs, DataSource(tmp_path), tracker, kill_once))
    assert died
    assert {seed: done.result for seed, done in expected.items()} == {each.run.seed: each.result for each in outcomes}
    assert ["the worker process died; the run was started again", None, None] == [run.killed for run in tracker.runs]
    assert [] == multiprocessing.active_children()


@pytest.mark.slow
def test_a_run_whose_worker_dies_each_time_has_failed_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before the run has started, as for want of memory when the data is loaded."""
    monkeypatch.setattr(workers, "_work", work_or_die)
    (tmp_path / "deaths").write_text("21 99")
    good, bad = make_runs(2), make_runs(1, examples_per_client=21)
    tracker = MemoryTracker()
    execute = partial(workers.execute, num_workers=2)
    outcomes = list(run_suite([*bad, *good], DataSource(tmp_path), tracker, execute))
    results = {(each.run.spec.examples_per_client, each.run.seed): each.result for each in outcomes}
    assert {(21, 0), (20, 0), (20, 1)} == set(results)
    assert Verdict.FAILED is results[21, 0].verdict
    reason = "its worker process died 2 times (signal SIGKILL, perhaps for want of memory)"
    assert reason == results[21, 0].reason
    assert [2, 2] == [len(run.rounds) for run in tracker.runs if run.run in good]
    assert (tmp_path / "deaths").read_text() == "21 97"  # tried twice, no more


@pytest.mark.slow
def test_a_worker_that_dies_before_a_run_has_started_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_work", work_or_die)
    (tmp_path / "deaths").write_text("20 1")
    (run,) = make_runs(1)
    events = list(workers.execute([run], DataSource(tmp_path), num_workers=1))
    assert [Started, RoundDone, RoundDone, RunDone] == [type(event) for event in events]
    assert (tmp_path / "deaths").read_text() == "20 0"


@pytest.mark.slow
def test_a_consumer_that_stops_leaves_no_process() -> None:
    events = workers.execute(make_runs(2, rounds=1000), DataSource(), num_workers=2)
    next(events)
    assert 2 == len(multiprocessing.active_children())
    events.close()  # type: ignore[attr-defined]
    assert [] == multiprocessing.active_children()
