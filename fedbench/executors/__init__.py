"""Where jobs are computed: in this process, in several, or on a Ray cluster.

An executor takes jobs and a `Work`, which knows how to compute them, and yields the events of the jobs: those of one
job in order, the jobs themselves in any order. It asks for a job when it can begin to compute it, not before. If the
process that computes a job dies, the job is tried again, so that some of its events may come twice.

Every executor limits PyTorch to one thread per job: how a sum is split over threads affects its last bits, and a result
must not depend on the number of cores. Spare cores train clients of the jobs under way, each in one thread.
"""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fedbench.util.environment import usable_cores
from fedbench.util.errors import ClusterError

if TYPE_CHECKING:
    from fedbench.executors.needs import Needs

THREADS = 1  # of PyTorch, in the computation of a job

J = TypeVar("J")  # a job: hashable and picklable
E = TypeVar("E")  # an event of a job: picklable
Compute = Callable[[J, Callable[[], int]], Iterator[E]]


class Work(ABC, Generic[J, E]):
    """What is done with jobs. It is pickled into every process that computes some, without what it has loaded."""

    @abstractmethod
    def compute(self, job: J, num_threads: Callable[[], int]) -> Iterator[E]:
        """Compute one job on `num_threads()` cores, asked for now and then, and yield its events.

        A `FedbenchError` ends the execution of all jobs.
        """

    @abstractmethod
    def is_last(self, event: E) -> bool:
        """Whether a job's last event is this one."""

    @abstractmethod
    def failed(self, job: J, reason: str) -> E:
        """The last event of a job whose process died too often."""

    def warm_up(self) -> None:
        """Import what the parent of worker processes will need later, in a thread, while they start."""


class PortableWork(Work[J, E]):
    """Work that can be sent to machines without its data."""

    @abstractmethod
    def portable(self) -> AbstractContextManager[Callable[[J], tuple[str, Compute[J, E]]]]:
        """Give a function from a job to a picklable `compute` with the data inside, and the data's name.

        What has the same name is sent once.
        """

    @abstractmethod
    def depends_on_processor(self, job: J) -> bool:
        """Whether another kind of processor would give a job's result other bits."""


class Executor(Protocol):
    """What computes jobs; see the module."""

    def __call__(self, jobs: Iterable[J], work: Work[J, E], /) -> Iterator[E]:
        """Compute the jobs and yield their events."""


def choose_executor(
    num_workers: int | None = None, num_cores: int | None = None, imports_ahead: bool = False
) -> Executor:
    """Compute in this process for one worker or a single job, else in that many, or as many as the machine allows.

    The jobs share `num_cores`, or one core a worker. PyTorch is imported when the first job is asked for; with
    `imports_ahead`, for several jobs, what workers need is imported while this process does other things.
    """
    if imports_ahead and num_workers != 1 and usable_cores() > 1:
        from fedbench.executors.processes import import_ahead

        import_ahead()

    def execute(jobs: Iterable[J], work: Work[J, E], /) -> Iterator[E]:
        from fedbench.executors import in_process, workers

        count = workers.default_workers() if num_workers is None else num_workers
        cores = count if num_cores is None else num_cores
        jobs = iter(jobs)
        first = list(islice(jobs, min(count, 2)))
        if len(first) < 2:
            yield from in_process.execute(chain(first, jobs), work, num_threads=lambda: cores)
        else:
            yield from workers.execute(chain(first, jobs), work, count, cores)

    return execute


def cluster_executor(address: str | None, needs: Needs, num_workers: int | None = None) -> Executor:
    """Compute on the Ray cluster at `address`, else at ``RAY_ADDRESS``, else on a Ray started on this machine.

    The work must be a `PortableWork`; at most `num_workers` jobs are computed at once, or as many as the cluster has
    room for. Raises `ClusterError` if Ray is not installed.
    """
    if find_spec("ray") is None:
        raise ClusterError('--executor ray needs Ray: pip install "fedbench-mlflow[ray]"')

    def execute(jobs: Iterable[J], work: Work[J, E], /) -> Iterator[E]:
        there = address or os.environ.get("RAY_ADDRESS")
        if not there:
            _close_own_ray()
        from fedbench.executors import ray_cluster

        if not isinstance(work, PortableWork):
            raise TypeError(f"{type(work).__name__} cannot be sent to a cluster")
        yield from ray_cluster.execute(jobs, work, there, needs, num_workers)

    return execute


def _close_own_ray() -> None:
    """Let a Ray that this process starts listen on loopback only, for whoever has its token.

    Ray reads these settings when it is imported; what a user has set stays.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on every system; no node can join
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    own = os.environ.get("RAY_AUTH_TOKEN_PATH", f"{os.environ.get('HOME')}/.ray/auth_token")
    if not os.access(own, os.R_OK):  # Ray would save one there
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
