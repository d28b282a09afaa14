"""Jobs are computed in several processes of this machine, each job in one of them."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from threading import Thread
from typing import Any, Generic, cast

import psutil
import torch

from fedbench.executors import THREADS, E, J, Work, in_process
from fedbench.executors.processes import (
    SPAWN,
    cause_of_death,
    end_with_parent,
    import_ahead,
    without_ctrl_c,
    without_the_script,
)
from fedbench.util.environment import usable_cores
from fedbench.util.errors import FedbenchError, one_line

MEMORY_PER_WORKER = 1 << 30  # bytes; with PyTorch, MNIST and a small model a process was seen to take about half
TRIES = 2  # of a job whose worker dies
STOP_SECONDS = 5.0  # for a worker to end when it is asked to, before it is killed
KILL_SECONDS = 5.0  # for the system to end it; one that waits for a disk that has gone is left behind


def default_workers() -> int:
    """As many workers as this process has cores and free memory for, at least one."""
    return max(1, min(usable_cores(), psutil.virtual_memory().available // MEMORY_PER_WORKER))


def execute(jobs: Iterable[J], work: Work[J, E], num_workers: int, num_cores: int | None = None) -> Iterator[E]:
    """Compute the jobs in `num_workers` processes; see `fedbench.executors`.

    A job whose worker dies is tried once more, then it has failed. The jobs under way share `num_cores`, or one core a
    worker.
    """
    torch.set_num_threads(THREADS)  # this process has little to do, alongside as many busy ones as there are cores
    Thread(target=work.warm_up, daemon=True).start()
    jobs = iter(jobs)
    again: list[J] = []
    deaths: Counter[J] = Counter()
    workers: list[_Worker[J]] = []
    try:
        while True:
            idle = [worker for worker in workers if worker.job is None]
            while idle or len(workers) < num_workers:
                job = again.pop() if again else next(jobs, None)
                if job is None:
                    break
                if not idle:
                    workers.append(worker := _Worker(work))
                    worker.start()
                    idle.append(worker)
                idle.pop().begin(job)
            busy = {worker.connection: worker for worker in workers if worker.job is not None}
            if not busy:
                return
            for worker in busy.values():
                worker.set_threads(max((num_cores or num_workers) // len(busy), 1))
            for connection in wait(list(busy)):
                worker = busy[cast(Connection, connection)]
                job = cast(J, worker.job)
                try:
                    event = pickle.loads(worker.connection.recv_bytes())  # noqa: S301 - of our own process
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.process.join(STOP_SECONDS)  # so that its own end is what is said
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
    """A process that computes one job at a time.

    Everything goes through one pipe as bytes of the standard pickler. With `Connection.send`, PyTorch would pass each
    tensor as a descriptor of shared memory, through a socket in the folder for temporary files.
    """

    def __init__(self, work: Work[J, Any]) -> None:
        self.job: J | None = None
        self._num_threads = 1
        self.connection, self._theirs = SPAWN.Pipe()
        self._arguments = self._theirs, dict(os.environ), work
        self.process = self._made_by(SPAWN)

    def _made_by(self, context: ForkServerContext | SpawnContext) -> ForkServerProcess | SpawnProcess:
        return context.Process(target=_serve, args=self._arguments, daemon=True)

    def start(self) -> None:
        self.process = self._made_by(import_ahead())
        with without_ctrl_c(), without_the_script():
            try:
                self.process.start()
            except OSError:  # the socket of what it would be forked from was removed, as temporary files are
                self.process = self._made_by(SPAWN)
                self.process.start()
        self._theirs.close()  # so that the end of the process is the end of the pipe

    def begin(self, job: J) -> None:
        self.job = job
        self._send(job)

    def set_threads(self, number: int) -> None:
        """Let the job under way, and later ones, use so many threads."""
        if number != self._num_threads:
            self._num_threads = number
            self._send(None)

    def _send(self, job: J | None) -> None:
        with suppress(OSError):  # a dead process is found when its event is awaited
            self.connection.send_bytes(pickle.dumps((job, self._num_threads)))

    def stop(self) -> str:
        """End the process, if it is not dead already, and say how it ended."""
        self.connection.close()
        if self.process.pid is not None:  # it was started
            self.process.terminate()
            self.process.join(STOP_SECONDS)
            if self.process.is_alive():
                self.process.kill()
                self.process.join(KILL_SECONDS)
        return cause_of_death(self.process.exitcode or 0)


class _Parent:
    """The process that a worker computes for."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._num_threads = 1

    def jobs(self) -> Iterator[Any]:
        """The jobs that come, until the parent has gone."""
        with suppress(EOFError, OSError):
            while True:
                if (job := self._receive()) is not None:
                    yield job

    def num_threads(self) -> int:
        """How many threads a job may use now."""
        with suppress(EOFError, OSError):  # it has gone
            while self.connection.poll():
                self._receive()
        return self._num_threads

    def _receive(self) -> Any:
        job, self._num_threads = pickle.loads(self.connection.recv_bytes())  # noqa: S301 - of our own process
        return job

    def send(self, answer: object) -> None:
        self.connection.send_bytes(pickle.dumps(answer))


def _serve(connection: Connection, environment: Mapping[str, str], work: Work[Any, Any]) -> None:
    """Compute the jobs that come through `connection` until the parent has gone."""
    end_with_parent()
    os.environ.update(environment)  # what it was forked from may be older
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    parent = _Parent(connection)
    with suppress(BrokenPipeError, ConnectionResetError):  # it has gone while a job was computed
        for job in parent.jobs():
            try:
                for event in in_process.execute([job], work, parent.num_threads):
                    parent.send(event)
            except FedbenchError as error:
                parent.send(error)
            except Exception as error:  # of the work, or an event that cannot be pickled
                parent.send(work.failed(job, f"its worker process failed ({one_line(error)})"))
