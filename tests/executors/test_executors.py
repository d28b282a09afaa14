"""Where runs are computed must not be seen in their results; and a worker may die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ctypes import c_int
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch

from fedbench.core import model_with
from fedbench.executors import choose_executor, in_process, workers
from fedbench.measures import TIMES, RunResult, Verdict
from fedbench.runs.checkpoints import load_checkpoint
from fedbench.runs.data import DataSource
from fedbench.runs.events import Event, Job, RoundDone, RunDone
from fedbench.runs.suite_run import run_suite
from fedbench.suites.schema import CellSpec, RunSpec
from fedbench.tracking.memory import MemoryTracker

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}


def tell_threads(connection: Connection, folder: Path, device: str, num_threads: c_int) -> None:
    """As a worker that computes nothing and tells, as a metric of its rounds, how many threads it may use.

    Seed 1 says in `folder` that it has told of a round, and goes on when seed 0, which waits for that, has ended.
    """
    del device
    with suppress(EOFError, OSError):
        while True:
            run = connection.recv().run
            for t in range(1, run.spec.rounds + 1):
                connection.send(RoundDone(run, t, {"threads": num_threads.value}))
                (folder / f"{run.seed} told").touch()
                wait_for(folder / ("1 told" if run.seed == 0 else "0 ended"))
            connection.send(RunDone(run, RunResult(Verdict.OK)))


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def work_or_die(connection: Connection, folder: Path, device: str, num_threads: c_int) -> None:
    """As a worker, but killed, as by want of memory, at a run of so many examples while the file ``deaths`` says so.

    The file holds the number of examples and how many deaths are left.
    """
    examples, times = map(int, (folder / "deaths").read_text().split())
    connection.poll(None)  # the job is there
    job = connection.recv()
    if times and job.run.spec.examples_per_client == examples:
        (folder / "deaths").write_text(f"{examples} {times - 1}")
        os.kill(os.getpid(), signal.SIGKILL)
    for event in in_process.execute([job], DataSource(None, device)):
        connection.send(event)
    real_work(connection, folder, device, num_threads)


real_work = workers._work


def make_runs(count: int, **fields: Any) -> list[RunSpec]:
    return [RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**(TINY | fields)), seed=i) for i in range(count)]


def make_jobs(count: int, folder: Path | None = None, **fields: Any) -> list[Job]:
    """Jobs of such runs, with their checkpoints in `folder`."""
    paths = [folder / f"{i}.ckpt" if folder else None for i in range(count)]
    return [Job(run, f"f{run.seed}", "c", path) for run, path in zip(make_runs(count, **fields), paths, strict=True)]


def untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMES}


def ends(events: list[Event]) -> dict[int, RunDone]:
    return {event.run.seed: event for event in events if isinstance(event, RunDone)}


def assert_equal_ends(one: RunDone, other: RunDone) -> None:
    """Equal to the last bit in all but the times."""
    assert one.result == other.result
    assert one.final is not None
    assert other.final is not None
    assert list(map(untimed, one.final.history)) == list(map(untimed, other.final.history))
    assert torch.equal(one.final.server.model.vector, other.final.server.model.vector)


@pytest.fixture(scope="module")
def computed() -> dict[str, list[Event]]:
    """The same three runs in this process and in two workers."""
    jobs = make_jobs(3, init="independent", batch_size=7)
    return {
        "in_process": list(in_process.execute(jobs, DataSource())),
        "workers": list(workers.execute(jobs, DataSource(), num_workers=2)),
    }


def test_workers_give_the_bits_of_this_process(computed: dict[str, list[Event]]) -> None:
    here, there = ends(computed["in_process"]), ends(computed["workers"])
    assert {0, 1, 2} == set(here) == set(there)
    for seed, done in here.items():
        assert_equal_ends(done, there[seed])


@pytest.mark.parametrize("executor", ["in_process", "workers"])
def test_of_each_run_come_its_rounds_in_order_and_its_end(computed: dict[str, list[Event]], executor: str) -> None:
    for seed in range(3):
        events = [event for event in computed[executor] if event.run.seed == seed]
        assert [RoundDone, RoundDone, RunDone] == [type(event) for event in events]
        assert [1, 2] == [event.round for event in events if isinstance(event, RoundDone)]


def test_no_process_is_left(computed: dict[str, list[Event]]) -> None:
    assert computed
    assert [] == multiprocessing.active_children()


def test_one_worker_or_one_run_is_computed_here_and_more_are_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def used(count: int | None, num_jobs: int) -> str:
        called.clear()
        assert [] == list(choose_executor(count)(make_jobs(num_jobs), DataSource()))
        (name,) = called
        return name

    def here(jobs: Iterable[Job], _: DataSource, num_threads: Callable[[], int]) -> Iterator[Event]:
        called.append(f"{len(list(jobs))} here by {num_threads()}")
        return iter(())

    def in_workers(jobs: Iterable[Job], _: DataSource, count: int) -> Iterator[Event]:
        called.append(f"{len(list(jobs))} by {count} workers")
        return iter(())

    called: list[str] = []
    monkeypatch.setattr(in_process, "execute", here)
    monkeypatch.setattr(workers, "execute", in_workers)
    assert ["3 here by 1", "3 by 3 workers", "2 by 3 workers"] == [used(1, 3), used(3, 3), used(3, 2)]
    assert ["1 here by 3", "0 here by 3"] == [used(3, 1), used(3, 0)]
    for cores, expected in ((1, "4 here by 1"), (2, "4 by 2 workers")):
        monkeypatch.setattr(workers, "default_workers", lambda cores=cores: cores)
        assert expected == used(None, 4)


def test_clients_in_several_threads_give_the_bits_of_one(computed: dict[str, list[Event]]) -> None:
    jobs = make_jobs(3, init="independent", batch_size=7)
    at_once = ends(list(in_process.execute(jobs, DataSource(), num_threads=lambda: 3)))
    for seed, end in ends(computed["in_process"]).items():
        assert_equal_ends(end, at_once[seed])


def test_the_last_run_gets_the_cores_of_the_workers_that_have_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker has one core while both are busy and both when it is alone."""
    monkeypatch.setattr(workers, "_work", tell_threads)
    threads: dict[int, list[float]] = {0: [], 1: []}
    for event in workers.execute(make_jobs(2), DataSource(tmp_path), 2):
        if isinstance(event, RoundDone):
            threads[event.run.seed].append(event.metrics["threads"])
        elif event.run.seed == 0:
            Timer(0.5, (tmp_path / "0 ended").touch).start()  # the executor has looked who is busy meanwhile
    assert [1, 2] == threads[1]


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_is_asked_for_only_when_it_can_be_computed(count: int) -> None:
    """So that in the store there is never a run that waits."""
    asked: list[int] = []

    def jobs() -> Iterator[Job]:
        for job in make_jobs(4):
            asked.append(job.run.seed)
            yield job

    ended = 0
    for event in choose_executor(count)(jobs(), DataSource()):
        assert len(asked) <= ended + count
        ended += isinstance(event, RunDone)
    assert (4, [0, 1, 2, 3]) == (ended, asked)


def test_the_jobs_that_are_left_are_asked_for_while_others_are_computed() -> None:
    """A run that turns out to be another process's is passed over: the next job takes its place."""
    jobs: Sequence[Job] = make_jobs(3)
    events = list(workers.execute((job for job in jobs if job.run.seed != 1), DataSource(), num_workers=1))
    assert {0, 2} == set(ends(events))


def test_the_default_is_at_least_one_worker_and_at_most_one_a_core() -> None:
    assert 1 <= workers.default_workers() <= (os.cpu_count() or 1)


def test_no_runs_need_no_worker() -> None:
    assert [] == list(workers.execute([], DataSource(), num_workers=2))


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False], ids=["with checkpoints", "without"])
def test_a_run_whose_worker_is_killed_once_goes_on_in_the_same_record_and_ends_with_the_same_bits(
    tmp_path: Path, kept: bool
) -> None:
    tracker = MemoryTracker(checkpoints=tmp_path / "checkpoints" if kept else None)
    told: list[tuple[int, int]] = []
    at_death = 0

    def kill_once(given: Any, data: DataSource) -> Any:
        nonlocal at_death
        for event in workers.execute(given, data, num_workers=1):
            if isinstance(event, RoundDone):
                told.append((event.run.seed, event.round))
            yield event
            if isinstance(event, RoundDone) and event.round == 2 and not at_death:
                (worker,) = multiprocessing.active_children()
                os.kill(worker.pid or 0, signal.SIGKILL)
                worker.join()
                paths = list((tmp_path / "checkpoints").glob("*.ckpt"))
                assert kept == bool(paths)
                checkpoint = load_checkpoint(paths[0], paths[0].stem) if paths else None
                at_death = checkpoint.round if checkpoint else 2

    # Long enough that the worker cannot end the run before it is killed.
    runs = make_runs(2, rounds=20)
    expected = ends(list(in_process.execute([Job(run) for run in runs], DataSource())))
    outcomes = list(run_suite(runs, DataSource(), tracker, kill_once))
    assert 2 <= at_death < 20
    assert {seed: done.result for seed, done in expected.items()} == {each.run.seed: each.result for each in outcomes}
    assert [None, None] == [run.killed for run in tracker.runs]
    assert [20, 20] == [len(run.rounds) for run in tracker.runs]
    for tracked in tracker.runs:
        final = expected[tracked.run.seed].final
        assert final is not None
        assert list(map(untimed, final.history)) == list(map(untimed, tracked.rounds))
        assert tracked.model is not None
        expected_model = model_with(final.server.model, like=tracked.model).state_dict()
        assert all(torch.equal(expected_model[name], each) for name, each in tracked.model.state_dict().items())
    assert [1, 2] == [told.count((0, 20)), told.count((0, 1))]  # the rounds before its death were told again
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
    events = list(workers.execute(make_jobs(1), DataSource(tmp_path), num_workers=1))
    assert [RoundDone, RoundDone, RunDone] == [type(event) for event in events]
    assert (tmp_path / "deaths").read_text() == "20 0"


def test_ctrl_c_while_a_worker_is_started_is_not_lost_and_does_not_reach_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocked: list[str] = []

    def start(process: SpawnProcess) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real(process)
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        blocked.extend(line.split()[1] for line in status if line.startswith("SigBlk:"))

    real = SpawnProcess.start
    monkeypatch.setattr(SpawnProcess, "start", start)
    with pytest.raises(KeyboardInterrupt):
        list(workers.execute(make_jobs(1), DataSource(), num_workers=1))
    assert [True] == [bool(int(mask, 16) >> (signal.SIGINT - 1) & 1) for mask in blocked]
    assert [] == multiprocessing.active_children()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.slow
def test_a_consumer_that_stops_leaves_no_process() -> None:
    events = workers.execute(make_jobs(2, rounds=1000), DataSource(), num_workers=2)
    next(events)
    assert 2 == len(multiprocessing.active_children())
    events.close()  # type: ignore[attr-defined]
    assert [] == multiprocessing.active_children()
