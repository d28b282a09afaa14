"""Where jobs are computed does not show in their results; a worker may die."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch
from jobs import WORK, assert_equal_ends, ends, make_jobs, make_runs, untimed

from fedbench.core import model_with
from fedbench.executors import Work, choose_executor, in_process, workers
from fedbench.executors.processes import import_ahead
from fedbench.measures import Verdict
from fedbench.runs.checkpoints import load_checkpoint
from fedbench.runs.computing import bits_depend_on, computed_with
from fedbench.runs.data import DataSource
from fedbench.runs.events import Event, Job, RoundDone, RunDone
from fedbench.runs.suite_run import run_suite
from fedbench.runs.work import RunWork
from fedbench.tracking.memory import MemoryTracker
from fedbench.util.errors import StoreError

Said = tuple[str, object]  # a job's name and its event


@dataclass(frozen=True)
class Toy(Work[str, Said]):
    """Jobs that compute nothing; `folder` holds how often each has died."""

    folder: Path

    def compute(self, job: str, num_threads: Callable[[], int]) -> Iterator[Said]:
        died = self.folder / f"{job} died"
        times = len(died.read_text()) if died.exists() else 0
        if job.startswith("dies") and times < int(job.split()[1]):
            died.write_text("x" * (times + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "raises":
            raise StoreError("the store is gone")
        if job == "unsendable":
            yield job, lambda: None
        if job == "faulty":
            raise KeyError("what no part foresees")
        if job == "tensor":
            yield job, torch.ones(3)
        if job == "variable":
            yield job, os.environ.get("FEDBENCH_TEST_VARIABLE")
        if job == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if job == "second":
            wait_for(self.folder / "first began")
        yield job, num_threads()
        if job == "first":
            (self.folder / "first began").touch()
            wait_for(self.folder / "second ended")
            yield job, num_threads()
        yield job, "end"

    def is_last(self, event: Said) -> bool:
        return event[1] == "end" or str(event[1]).startswith("its worker")

    def failed(self, job: str, reason: str) -> Said:
        return job, reason


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


@pytest.fixture(scope="module")
def computed() -> dict[str, list[Event]]:
    """The same three runs in this process and in two workers."""
    jobs = make_jobs(3, init="independent", batch_size=7)
    return {
        "in_process": list(in_process.execute(jobs, WORK)),
        "workers": list(workers.execute(jobs, WORK, num_workers=2)),
    }


def test_workers_and_threads_give_the_bits_of_this_process(computed: dict[str, list[Event]]) -> None:
    here, there = ends(computed["in_process"]), ends(computed["workers"])
    jobs = make_jobs(3, init="independent", batch_size=7)
    threads = ends(in_process.execute(jobs, WORK, num_threads=lambda: 3))
    assert {0, 1, 2} == set(here) == set(there)
    for seed, done in here.items():
        assert_equal_ends(done, there[seed])
        assert_equal_ends(done, threads[seed])
    assert [] == multiprocessing.active_children()


@pytest.mark.parametrize("executor", ["in_process", "workers"])
def test_a_run_yields_its_rounds_in_order_and_its_end(computed: dict[str, list[Event]], executor: str) -> None:
    for seed in range(3):
        events = [event for event in computed[executor] if event.run.seed == seed]
        assert [RoundDone, RoundDone, RunDone] == [type(event) for event in events]
        assert [1, 2] == [event.round for event in events if isinstance(event, RoundDone)]


def test_one_worker_or_one_job_is_computed_here_and_more_in_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def here(jobs: Iterable[str], _: object, num_threads: Callable[[], int]) -> Iterator[Said]:
        called.append(f"{len(list(jobs))} here on {num_threads()}")
        return iter(())

    def in_workers(jobs: Iterable[str], _: object, count: int, cores: int) -> Iterator[Said]:
        called.append(f"{len(list(jobs))} by {count} on {cores}")
        return iter(())

    called: list[str] = []
    monkeypatch.setattr(in_process, "execute", here)
    monkeypatch.setattr(workers, "execute", in_workers)
    monkeypatch.setattr(workers, "default_workers", lambda: 2)
    for count, cores, jobs in ((1, None, "abc"), (3, None, "ab"), (3, None, "a"), (3, 8, "ab"), (None, None, "abc")):
        assert [] == list(choose_executor(count, cores)(list(jobs), Toy(tmp_path)))
    assert ["3 here on 1", "2 by 3 on 3", "1 here on 3", "2 by 3 on 8", "3 by 2 on 2"] == called


def test_the_last_job_gets_the_cores_of_idle_workers(tmp_path: Path) -> None:
    """Each has one core while both are busy, and the last one has both."""
    threads = []
    for job, event in workers.execute(["first", "second"], Toy(tmp_path), 2):
        if job == "first" and event != "end":
            threads.append(event)
        elif event == "end":
            Timer(0.5, (tmp_path / "second ended").touch).start()  # the executor has counted the busy workers by then
    assert [1, 2] == threads


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_is_asked_for_only_when_it_can_be_computed(count: int, tmp_path: Path) -> None:
    """So that the store never holds a run that waits."""
    asked: list[str] = []

    def jobs() -> Iterator[str]:
        for job in "abcd":
            asked.append(job)
            yield job

    ended = 0
    for _, event in choose_executor(count)(jobs(), Toy(tmp_path)):
        assert len(asked) <= ended + count
        ended += event == "end"
    assert (4, [*"abcd"]) == (ended, asked)


def test_the_default_is_at_least_one_worker_and_at_most_one_per_core() -> None:
    assert 1 <= workers.default_workers() <= (os.cpu_count() or 1)


def test_no_jobs_need_no_worker(tmp_path: Path) -> None:
    assert [] == list(workers.execute([], Toy(tmp_path), num_workers=2))


def test_a_job_whose_worker_dies_is_tried_once_more_then_it_has_failed(tmp_path: Path) -> None:
    last = dict(workers.execute(["dies 99 times", "lives"], Toy(tmp_path), 1))
    died = "its worker process died 2 times (signal SIGKILL, perhaps out of memory)"
    assert {"dies 99 times": died, "lives": "end"} == last
    assert "xx" == (tmp_path / "dies 99 times died").read_text()
    assert [] == multiprocessing.active_children()


def test_a_worker_needs_no_temporary_folder_says_what_it_cannot_answer_and_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No socket in a folder whose path is too long for one, and nothing left there."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(workers, "STOP_SECONDS", 0.2)
    events = workers.execute(["unsendable", "faulty", "tensor", "stubborn", "next"], Toy(tmp_path), 1)
    said = [next(events) for _ in range(6)]
    events.close()  # type: ignore[attr-defined]
    assert ["unsendable", "faulty", "tensor", "tensor", "tensor", "stubborn"] == [job for job, _ in said]
    reasons = [str(event) for _, event in said]
    assert reasons[0].startswith("its worker process failed (")
    assert "local object" in reasons[0]
    assert "its worker process failed (KeyError: 'what no part foresees')" == reasons[1]
    tensor: Any = said[2][1]
    assert torch.equal(torch.ones(3), tensor)
    assert not tensor.is_shared()  # it did not come through /dev/shm
    assert [] == multiprocessing.active_children()
    assert [] == [each for each in folder.iterdir() if not each.name.startswith("pymp-")]  # removed when Python ends
    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize("folder", ["missing", "x" * 100])
def test_workers_are_spawned_where_the_socket_to_fork_them_cannot_be_made(folder: str, tmp_path: Path) -> None:
    """In a process of its own: what workers are forked from starts once in each."""
    temporary = tmp_path / folder
    if folder != "missing":
        temporary.mkdir()
    script = "from fedbench.executors.processes import SPAWN, import_ahead as start; print(start() is SPAWN)"
    code = f"import tempfile; tempfile.tempdir = {str(temporary)!r}; {script}"
    assert "True\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="workers are not forked here")
def test_a_worker_is_spawned_where_the_socket_to_fork_it_was_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(process: Any) -> None:
        raise FileNotFoundError(process)

    monkeypatch.setattr(import_ahead().Process, "start", gone)
    assert [("lives", "end")] == list(workers.execute(["lives"], Toy(tmp_path), 1))[-1:]


def test_an_error_that_a_user_can_fix_ends_all_jobs_in_the_parent(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the store is gone"):
        list(workers.execute(["raises", "first"], Toy(tmp_path), 2))
    assert [] == multiprocessing.active_children()


def test_a_failed_run_says_why() -> None:
    (job,) = make_jobs(1)
    done = WORK.failed(job, "its worker process died")
    assert (Verdict.FAILED, "its worker process died") == (done.result.verdict, done.result.reason)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kept", [True, pytest.param(False, marks=pytest.mark.nightly)], ids=["with checkpoints", "without"]
)
def test_a_run_whose_worker_is_killed_resumes_in_the_same_record_with_the_same_bits(tmp_path: Path, kept: bool) -> None:
    tracker = MemoryTracker(checkpoints=tmp_path / "checkpoints" if kept else None)
    emitted: list[tuple[int, int]] = []
    at_death = 0

    def kill_once(given: Any, work: RunWork) -> Any:
        nonlocal at_death
        for event in workers.execute(given, work, num_workers=1):
            if isinstance(event, RoundDone):
                emitted.append((event.run.seed, event.round))
            yield event
            if isinstance(event, RoundDone) and event.round == 2 and not at_death:
                (worker,) = multiprocessing.active_children()
                os.kill(worker.pid or 0, signal.SIGKILL)
                worker.join()
                paths = list((tmp_path / "checkpoints").glob("*.ckpt"))
                assert kept == bool(paths)
                checkpoint = load_checkpoint(paths[0], paths[0].stem, made_by) if paths else None
                at_death = checkpoint.round if checkpoint else 2

    # Long enough that the worker cannot end the run before it is killed.
    runs = make_runs(2, rounds=60)
    made_by = bits_depend_on(computed_with(runs[0].spec, "cpu"))
    expected = ends(in_process.execute([Job(run) for run in runs], WORK))
    outcomes = list(run_suite(runs, DataSource(), tracker, kill_once))
    assert 2 <= at_death < 60
    assert {seed: done.result for seed, done in expected.items()} == {each.run.seed: each.result for each in outcomes}
    assert [None, None] == [run.killed for run in tracker.runs]
    for tracked in tracker.runs:
        final = expected[tracked.run.seed].final
        assert final is not None
        assert list(map(untimed, final.history)) == list(map(untimed, tracked.rounds))
        assert tracked.final.model is not None
        model = model_with(final.server.model, like=tracked.final.model).state_dict()
        assert all(torch.equal(model[name], each) for name, each in tracked.final.model.state_dict().items())
    assert [1, 2] == [emitted.count((0, 60)), emitted.count((0, 1))]  # the rounds before its death are re-emitted


def test_workers_have_the_environment_of_when_they_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = []
    for value in ("one", "two"):
        monkeypatch.setenv("FEDBENCH_TEST_VARIABLE", value)
        values += [next(iter(workers.execute(["variable"], Toy(tmp_path), 1)))]
    monkeypatch.delenv("FEDBENCH_TEST_VARIABLE")
    values += [next(iter(workers.execute(["variable"], Toy(tmp_path), 1)))]
    assert ["one", "two", None] == [value for _, value in values]


def test_ctrl_c_while_a_worker_starts_is_not_lost_and_does_not_reach_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked: list[str] = []

    def start(process: Any) -> None:
        real(process)
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        blocked.extend(line.split()[1] for line in status if line.startswith("SigBlk:"))
        os.kill(os.getpid(), signal.SIGINT)

    started = import_ahead().Process
    real = started.start
    monkeypatch.setattr(started, "start", start)
    gc.disable()  # an exception in a callback of the garbage collector would be lost
    try:
        with pytest.raises(KeyboardInterrupt):
            list(workers.execute(["a"], Toy(tmp_path), num_workers=1))
    finally:
        gc.enable()
    assert [True] == [bool(int(mask, 16) >> (signal.SIGINT - 1) & 1) for mask in blocked]
    assert [] == multiprocessing.active_children()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.slow
def test_a_consumer_that_stops_leaves_no_process(tmp_path: Path) -> None:
    events = workers.execute(["first", "second"], Toy(tmp_path), num_workers=2)
    next(events)  # of the first; the second ends, and the first waits for ever
    assert 2 == len(multiprocessing.active_children())
    events.close()  # type: ignore[attr-defined]
    assert [] == multiprocessing.active_children()


def test_what_is_imported_beforehand_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of a command that is quicker than the import."""
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    WORK.warm_up()
