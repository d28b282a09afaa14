"""Runs are computed in several processes of this machine, each run in one of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, cast

import torch

from fedbench.measures import RunResult, Verdict
from fedbench.simulation import Event, RunDone

if TYPE_CHECKING:
    from fedbench.runner import DataSource
    from fedbench.specs import RunSpec

MEMORY_PER_WORKER = 1 << 30  # bytes; with PyTorch, MNIST and a small model a process was seen to take about half
TRIES = 2  # a run whose worker dies is tried once more


def default_workers() -> int:
    """As many workers as this process has cores and the free memory carries, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not every system tells
        return cores
    return max(1, min(cores, available // MEMORY_PER_WORKER))


def execute(runs: Sequence[RunSpec], data: DataSource, num_workers: int) -> Iterator[Event]:
    """See `fedbench.executors`. A run whose worker dies is tried once more, then it has failed."""
    torch.set_num_threads(1)  # this process only stores models, beside as many busy ones as there are cores
    waiting = list(reversed(runs))
    deaths = dict.fromkeys(runs, 0)
    workers = [_Worker(data) for _ in range(min(num_workers, len(runs)))]
    with ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.stop)
        while waiting or any(worker.run for worker in workers):
            for worker in workers:
                if waiting and worker.run is None:
                    worker.begin(waiting.pop())
            busy = {worker.connection: worker for worker in workers if worker.run}
            for connection in wait(list(busy)):
                worker = busy[cast(Connection, connection)]
                run = cast("RunSpec", worker.run)
                event = worker.receive()
                if event is not None:
                    yield event
                    continue
                death = worker.restart(data)
                deaths[run] += 1
                if deaths[run] < TRIES:
                    waiting.append(run)
                else:
                    yield RunDone(run, RunResult(Verdict.FAILED, f"its worker process died {TRIES} times ({death})"))


class _Worker:
    """A process that computes one run at a time."""

    def __init__(self, data: DataSource) -> None:
        self.run: RunSpec | None = None
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(theirs, data.folder, data.device), daemon=True)
        with _ignoring(signal.SIGINT):  # inherited: Ctrl-C reaches every process, and the parent decides what it means
            self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def begin(self, run: RunSpec) -> None:
        self.run = run
        with suppress(OSError):  # a dead process is found by `receive`
            self.connection.send(run)

    def receive(self) -> Event | None:
        """The next event, or None if the process died."""
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(event, RunDone):
            self.run = None
        return event

    def restart(self, data: DataSource) -> str:
        """Replace a dead process; says how it died."""
        self.process.join()
        code = self.process.exitcode or 0
        self.connection.close()
        self.__init__(data)  # type: ignore[misc]
        return f"signal {signal.Signals(-code).name}, perhaps for want of memory" if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


@contextmanager
def _ignoring(number: signal.Signals) -> Iterator[None]:
    handler = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, handler)


def _end_with_parent() -> None:
    """End this process when its parent does, even if that was killed in the middle of a long round."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(connection: Connection, data_folder: Path | None, device: str) -> None:
    """Compute the runs that come through `connection` until it ends."""
    Thread(target=_end_with_parent, daemon=True).start()
    from fedbench.executors.in_process import execute as execute_here
    from fedbench.runner import DataSource

    data = DataSource(data_folder, device)  # each process loads for itself
    with suppress(EOFError, OSError):  # the parent has gone
        while True:
            for event in execute_here([connection.recv()], data):
                connection.send(event)
