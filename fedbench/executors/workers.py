"""Runs are computed in several processes of this machine, each run in one of them."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from ctypes import c_int
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, cast

import psutil
import torch

from fedbench.bench.yardsticks import usable_cores
from fedbench.executors.processes import end_with_parent, held_back, how_it_died
from fedbench.measures import RunResult, Verdict
from fedbench.runs.events import Event, Job, RunDone

if TYPE_CHECKING:
    from fedbench.runs.data import DataSource
    from fedbench.suites.schema import RunSpec

MEMORY_PER_WORKER = 1 << 30  # bytes; with PyTorch, MNIST and a small model a process was seen to take about half
TRIES = 2  # a run whose worker dies is tried once more


def default_workers() -> int:
    """As many workers as this process has cores and the free memory carries, at least one."""
    return max(1, min(usable_cores(), psutil.virtual_memory().available // MEMORY_PER_WORKER))


def execute(jobs: Iterable[Job], data: DataSource, num_workers: int) -> Iterator[Event]:
    """See `fedbench.executors`. A run whose worker dies is tried once more, then it has failed."""
    torch.set_num_threads(1)  # this process only stores models, beside as many busy ones as there are cores
    Thread(target=import_what_storing_models_takes, daemon=True).start()
    jobs = iter(jobs)
    again: list[Job] = []
    deaths: Counter[RunSpec] = Counter()
    workers: list[_Worker] = []
    num_threads = multiprocessing.get_context("spawn").RawValue("i", 1)  # for each run that is computed
    with ExitStack() as stack:
        while True:
            idle = [worker for worker in workers if worker.job is None]
            while idle or len(workers) < num_workers:
                job = again.pop() if again else next(jobs, None)
                if job is None:
                    break
                if not idle:
                    with held_back(signal.SIGINT):
                        workers.append(worker := _Worker(data, num_threads))
                        stack.callback(worker.stop)
                    idle.append(worker)
                idle.pop().begin(job)
            busy = {worker.connection: worker for worker in workers if worker.job}
            if not busy:
                return
            num_threads.value = max(num_workers // len(busy), 1)
            for connection in wait(list(busy)):
                worker = busy[cast(Connection, connection)]
                job = cast(Job, worker.job)
                event = worker.receive()
                if event is not None:
                    yield event
                    continue
                death = worker.restart(data, num_threads)
                deaths[job.run] += 1
                if deaths[job.run] < TRIES:
                    again.append(job)
                else:
                    reason = f"its worker process died {TRIES} times ({death})"
                    yield RunDone(job.run, RunResult(Verdict.FAILED, reason))


def import_what_storing_models_takes() -> None:
    """Import what takes seconds when the first run ends. Until then this process has nothing else to do."""
    import torch._dynamo
    import torch.export._trace  # noqa: F401


class _Worker:
    """A process that computes one run at a time."""

    def __init__(self, data: DataSource, num_threads: c_int) -> None:
        self.job: Job | None = None
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_work, args=(theirs, data.folder, data.device, num_threads), daemon=True
        )
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def begin(self, job: Job) -> None:
        self.job = job
        with suppress(OSError):  # a dead process is found by `receive`
            self.connection.send(job)

    def receive(self) -> Event | None:
        """The next event, or None if the process died."""
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(event, RunDone):
            self.job = None
        return event

    def restart(self, data: DataSource, num_threads: c_int) -> str:
        """Replace a dead process; says how it died."""
        self.process.join()
        code = self.process.exitcode or 0
        self.connection.close()
        with held_back(signal.SIGINT):
            self.__init__(data, num_threads)  # type: ignore[misc]
        return how_it_died(code)

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _work(connection: Connection, data_folder: Path | None, device: str, num_threads: c_int) -> None:
    """Compute the runs that come through `connection` until it ends."""
    end_with_parent()
    from fedbench.executors.in_process import execute as execute_here
    from fedbench.runs.data import DataSource

    data = DataSource(data_folder, device)  # each process loads for itself
    with suppress(EOFError, OSError):  # the parent has gone
        while True:
            for event in execute_here([connection.recv()], data, lambda: num_threads.value):
                connection.send(event)
