"""Jobs are computed on a Ray cluster, each in a task that declares the processors and the memory that it takes.

The command runs on a machine of the cluster. It alone writes to the tracking store; a node receives a job and its data,
and sends events. As many jobs are under way as the cluster has room for and a few more, so that no node waits for the
command, and an autoscaling cluster sees demand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic

import ray
import torch
from ray.exceptions import NodeDiedError, ObjectLostError, RayError, RayTaskError

from fedbench.executors import THREADS, Compute, E, J, PortableWork
from fedbench.executors.needs import Needs
from fedbench.executors.ray_connection import LOOK_SECONDS, Room, connected
from fedbench.executors.ray_task import PROCESSOR, Order, UnlikeNodeError, compute, software
from fedbench.executors.workers import TRIES
from fedbench.util.errors import ClusterError, FedbenchError, one_line

if TYPE_CHECKING:
    from ray import ObjectRef, ObjectRefGenerator

AHEAD = 2  # jobs that are handed out beyond the room that there is
REMEDY = "install the same on every node; then the same command resumes"
LOSSES = 10  # of nodes, after which a job has failed; it is seldom the job's doing


def execute(
    jobs: Iterable[J], work: PortableWork[J, E], address: str | None, needs: Needs, num_workers: int | None
) -> Iterator[E]:
    """Compute the jobs; see `fedbench.executors.cluster_executor`. A job whose process or node dies is tried again.

    Raises `ClusterError` if the cluster cannot be reached, has no node with room for a job, or has one that would give
    different bits.
    """
    torch.set_num_threads(THREADS)  # this process has little to do
    Thread(target=work.warm_up, daemon=True).start()
    with connected(address, num_workers and num_workers * needs.cpus), work.portable() as portable:
        execution = _Execution(work, portable, needs, num_workers, is_own=not address)
        try:
            yield from execution.events(iter(jobs))
        finally:
            execution.cancel()


class _Execution(Generic[J, E]):
    """The jobs of one call of the executor, while it is connected."""

    def __init__(
        self,
        work: PortableWork[J, E],
        portable: Callable[[J], tuple[str, Compute[J, E]]],
        needs: Needs,
        num_workers: int | None,
        is_own: bool,
    ) -> None:
        self.work = work
        self.portable = portable
        self.needs = needs
        self.num_workers = num_workers
        self.room = Room(needs, is_own)
        self.task: Any = ray.remote(
            num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.memory, max_retries=0, num_returns="streaming"
        )(compute)
        self.sent: dict[str, ObjectRef[Any]] = {}  # work with its data, by the data's name
        self.under_way: dict[ObjectRefGenerator[E], J] = {}
        self.again: list[J] = []
        self.deaths: Counter[tuple[J, bool]] = Counter()  # of a job's process, or of its node

    def events(self, jobs: Iterator[J]) -> Iterator[E]:
        while True:
            while len(self.under_way) < self._wanted():
                job = self.again.pop() if self.again else next(jobs, None)
                if job is None:
                    break
                self.under_way[self.task.remote(self._order(job))] = job
            if not self.under_way:
                return
            for stream in self._ready():
                yield from self._next_of(stream)

    def _wanted(self) -> int:
        """How many jobs should be under way."""
        room = self.room.jobs() + AHEAD
        return room if self.num_workers is None else min(room, self.num_workers)

    def _order(self, job: J) -> Order:
        name, compute_portable = self.portable(job)
        if name not in self.sent:
            self.sent[name] = ray.put(compute_portable)
        wanted = dict(software())
        if not self.work.depends_on_processor(job):
            del wanted[PROCESSOR]
        return Order(job, [self.sent[name]], name, self.needs.cpus, wanted)

    def _ready(self) -> list[ObjectRefGenerator[E]]:
        """The jobs that have an event; none if that takes long."""
        streams = list(self.under_way)
        ready, _ = ray.wait(streams, num_returns=1, timeout=LOOK_SECONDS)
        if ready:  # and all others that have one now
            ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
        return ready

    def _next_of(self, stream: ObjectRefGenerator[E]) -> Iterator[E]:
        job = self.under_way[stream]
        try:
            event: E = ray.get(next(stream))
        except (RayError, StopIteration) as error:
            del self.under_way[stream]
            yield from self._after_death(job, error)
        else:
            if self.work.is_last(event):
                del self.under_way[stream]
            yield event

    def _after_death(self, job: J, error: RayError | StopIteration) -> Iterator[E]:
        """Try a job again whose process or node died; after its last try it has failed."""
        cause = error.cause if isinstance(error, RayTaskError) else None
        if isinstance(cause, UnlikeNodeError):
            raise ClusterError(f"{cause}: bits may differ; {REMEDY}") from error
        if isinstance(cause, FedbenchError):
            raise cause
        if cause is not None and not isinstance(cause, RayError):
            raise ClusterError(f"a node cannot compute ({one_line(cause)}): {REMEDY}") from error
        was_node = isinstance(error, (NodeDiedError, ObjectLostError, RayTaskError))
        self.deaths[job, was_node] += 1
        tries = LOSSES if was_node else TRIES
        if self.deaths[job, was_node] < tries:
            self.again.append(job)
        else:
            what = "node" if was_node else "worker process"
            yield self.work.failed(job, f"its {what} died {tries} times ({one_line(error)})")

    def cancel(self) -> None:
        for stream in self.under_way:
            with suppress(RayError, ValueError):
                ray.cancel(stream, force=True)
