"""Runs are computed on a Ray cluster, each in a task that declares the processors and the memory that it takes.

The command runs on a machine of the cluster. It alone writes to the tracking store; a node gets a job and its data, and
gives events back. As many runs are under way as the cluster has room for and a few more, so that no node waits for the
command, and a cluster that grows by demand sees some.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.exceptions import NodeDiedError, ObjectLostError, RayError, RayTaskError

from fedbench.executors.needs import Needs
from fedbench.executors.ray_connection import LOOK_SECONDS, Room, connected
from fedbench.executors.ray_task import Order, UnlikeNodeError, compute, pack, software
from fedbench.executors.workers import TRIES, import_what_storing_models_takes
from fedbench.measures import RunResult, Verdict
from fedbench.runs.events import Event, Job, RunDone
from fedbench.util.errors import ClusterError, one_line

if TYPE_CHECKING:
    from ray import ObjectRef, ObjectRefGenerator

    from fedbench.runs.data import DataSource
    from fedbench.suites.schema import RunSpec

AHEAD = 2  # runs that are handed out beyond the room that there is
REMEDY = "install the same on every node, then the same command goes on from here"
LOSSES = 10  # of nodes, after which a run has failed; it is seldom the run's doing


def execute(
    jobs: Iterable[Job], data: DataSource, address: str | None, needs: Needs, num_workers: int | None
) -> Iterator[Event]:
    """See `fedbench.executors.cluster_executor`. A run whose process or node dies is tried again, elsewhere if need be.

    Raises
    ------
    ClusterError
        If the cluster cannot be reached, has no node with room for a run, or has one that would give other bits.
    """
    torch.set_num_threads(1)  # this process only stores models
    Thread(target=import_what_storing_models_takes, daemon=True).start()
    with connected(address, num_workers and num_workers * needs.cpus):
        yield from _Execution(data, needs, num_workers).events(iter(jobs))


class _Execution:
    """The runs of one call of the executor, while it is connected."""

    def __init__(self, data: DataSource, needs: Needs, num_workers: int | None) -> None:
        self.data = data
        self.needs = needs
        self.num_workers = num_workers
        self.room = Room(needs)
        self.task: Any = ray.remote(
            num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.memory, max_retries=0, num_returns="streaming"
        )(compute)
        self.kept: dict[str, ObjectRef[Any]] = {}  # packed datasets, by digest
        self.under_way: dict[ObjectRefGenerator[Event], Job] = {}
        self.again: list[Job] = []
        self.deaths: Counter[tuple[RunSpec, bool]] = Counter()  # of a run's process, or of its node

    def events(self, jobs: Iterator[Job]) -> Iterator[Event]:
        with ExitStack() as stack:
            stack.callback(self._cancel)
            probe: Path | None = None
            while True:
                while len(self.under_way) < self._wanted():
                    job = self.again.pop() if self.again else next(jobs, None)
                    if job is None:
                        break
                    if probe is None and job.checkpoint:
                        probe = stack.enter_context(_probe(job.checkpoint.parent))
                    self.under_way[self.task.remote(self._order(job, probe))] = job
                if not self.under_way:
                    return
                for stream in self._ready():
                    yield from self._next_of(stream)

    def _wanted(self) -> int:
        """How many runs should be under way."""
        room = self.room.runs() + AHEAD
        return room if self.num_workers is None else min(room, self.num_workers)

    def _order(self, job: Job, probe: Path | None) -> Order:
        dataset = self.data.dataset(job.run.spec)
        if dataset.digest not in self.kept:
            self.kept[dataset.digest] = ray.put(pack(dataset))
        return Order(
            job, [self.kept[dataset.digest]], dataset.digest, self.data.device, self.needs.cpus, software(), probe
        )

    def _ready(self) -> list[ObjectRefGenerator[Event]]:
        """The runs that have something to tell; none if that takes long."""
        streams = list(self.under_way)
        ready, _ = ray.wait(streams, num_returns=1, timeout=LOOK_SECONDS)
        if ready:  # and whoever else is
            ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
        return ready

    def _next_of(self, stream: ObjectRefGenerator[Event]) -> Iterator[Event]:
        job = self.under_way[stream]
        try:
            event: Event = ray.get(next(stream))
        except (RayError, StopIteration) as error:
            del self.under_way[stream]
            yield from self._after_death(job, error)
        else:
            if isinstance(event, RunDone):
                del self.under_way[stream]
            yield event

    def _after_death(self, job: Job, error: RayError | StopIteration) -> Iterator[Event]:
        """Try a run again whose process or node died; with its last try it has failed."""
        cause = error.cause if isinstance(error, RayTaskError) else None
        if isinstance(cause, UnlikeNodeError):
            raise ClusterError(f"{cause}: bits may differ; {REMEDY}") from error
        if cause is not None and not isinstance(cause, RayError):
            raise ClusterError(f"a node cannot compute runs ({one_line(cause)}): {REMEDY}") from error
        was_node = isinstance(error, (NodeDiedError, ObjectLostError, RayTaskError))
        self.deaths[job.run, was_node] += 1
        tries = LOSSES if was_node else TRIES
        if self.deaths[job.run, was_node] < tries:
            self.again.append(job)
        else:
            what = "node" if was_node else "worker process"
            yield RunDone(job.run, RunResult(Verdict.FAILED, f"its {what} died {tries} times ({one_line(error)})"))

    def _cancel(self) -> None:
        for stream in self.under_way:
            with suppress(RayError, ValueError):
                ray.cancel(stream, force=True)


@contextmanager
def _probe(folder: Path) -> Iterator[Path]:
    """A file in `folder` while runs are under way, by which a node sees whether it shares the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".shared-{secrets.token_hex(8)}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
