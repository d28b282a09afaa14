"""Jobs are computed in several processes of this machine, each job in one of them."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ctypes import c_int
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Thread
from typing import Any, Generic, cast

import psutil
import torch

from fedbench.executors import THREADS, E, J, Work, in_process
from fedbench.executors.processes import cause_of_death, end_with_parent, without_ctrl_c, without_the_script
from fedbench.util.environment import usable_cores
from fedbench.util.errors import FedbenchError

MEMORY_PER_WORKER = 1 << 30  # bytes; with PyTorch, MNIST and a small model a process was seen to take about half
TRIES = 2  # of a job whose worker dies


def default_workers() -> int:
    """As many workers as this process has cores and free memory for, at least one."""
    return max(1, min(usable_cores(), psutil.virtual_memory().available // MEMORY_PER_WORKER))


def execute(jobs: Iterable[J], work: Work[J, E], num_workers: int, num_cores: int | None = None) -> Iterator[E]:
    """Compute the jobs in `num_workers` processes; see `fedbench.executors`.

    A job whose worker dies is tried once more, then it has failed.

    Parameters
    ----------
    num_cores
        How many cores the jobs under way share; None: one per worker.
    """
    torch.set_num_threads(THREADS)  # this process has little to do, alongside as many busy ones as there are cores
    Thread(target=work.warm_up, daemon=True).start()
    jobs = iter(jobs)
    again: list[J] = []
    deaths: Counter[J] = Counter()
    workers: list[_Worker[J]] = []
    num_threads = multiprocessing.get_context("spawn").RawValue("i", 1)  # for each job under way
    try:
        while True:
            idle = [worker for worker in workers if worker.job is None]
            while idle or len(workers) < num_workers:
                job = again.pop() if again else next(jobs, None)
                if job is None:
                    break
                if not idle:
                    workers.append(worker := _Worker(work, num_threads))
                    worker.start()
                    idle.append(worker)
                idle.pop().begin(job)
            busy = {worker.connection: worker for worker in workers if worker.job is not None}
            if not busy:
                return
            num_threads.value = max((num_cores or num_workers) // len(busy), 1)
            for connection in wait(list(busy)):
                worker = busy[cast(Connection, connection)]
                job = cast(J, worker.job)
                try:
                    event = worker.connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    death = worker.stop()
                    deaths[job] += 1
                    if deaths[job] < TRIES:
                        again.append(job)
                    else:
                        yield work.failed(job, f"its worker process died {TRIES} times ({death})")
                    continue
                if isinstance(event, FedbenchError):
                    raise event
                if work.is_last(event):
                    worker.job = None
                yield event
    finally:
        for worker in workers:
            worker.stop()


class _Worker(Generic[J]):
    """A process that computes one job at a time."""

    def __init__(self, work: Work[J, Any], num_threads: c_int) -> None:
        self.job: J | None = None
        context = multiprocessing.get_context("spawn")
        self.connection, self._theirs = context.Pipe()
        arguments = (self._theirs, work, num_threads)
        self.process: SpawnProcess = context.Process(target=_serve, args=arguments, daemon=True)

    def start(self) -> None:
        with without_ctrl_c(), without_the_script():
            self.process.start()
        self._theirs.close()  # so that the end of the process is the end of the pipe

    def begin(self, job: J) -> None:
        self.job = job
        with suppress(OSError):  # a dead process is found when its event is awaited
            self.connection.send(job)

    def stop(self) -> str:
        """End the process, if it is not dead already, and say how it ended."""
        self.connection.close()
        if self.process.is_alive():
            self.process.terminate()
        if self.process.pid is not None:  # it was started
            self.process.join()
        return cause_of_death(self.process.exitcode or 0)


def _serve(connection: Connection, work: Work[Any, Any], num_threads: c_int) -> None:
    """Compute the jobs that come through `connection` until it ends."""
    end_with_parent()
    with suppress(EOFError, OSError):  # the parent has gone
        while True:
            try:
                for event in in_process.execute([connection.recv()], work, lambda: num_threads.value):
                    connection.send(event)
            except FedbenchError as error:
                connection.send(error)
