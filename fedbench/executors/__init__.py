"""Where runs are computed.

An executor takes jobs and a `DataSource` and yields the events of `fedbench.runs.events`: of each run its rounds in
order and `RunDone`; the runs themselves in any order. It asks for a job when it can begin to compute it, not before.
Every executor holds PyTorch to one thread a run: how a sum is split over threads is part of its last bits, and a result
must not depend on the number of cores. Cores that no run uses train clients of those that are computed, each in one
thread; its result does not depend on that. A run that a dead worker began may tell of some rounds twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain, islice
from typing import TYPE_CHECKING

from fedbench.util.errors import ClusterError

if TYPE_CHECKING:
    from fedbench.executors.needs import Needs
    from fedbench.runs.data import DataSource
    from fedbench.runs.events import Event, Job
    from fedbench.runs.suite_run import Executor

THREADS = 1  # of PyTorch, in the computation of a run


def choose_executor(num_workers: int | None = None) -> Executor:
    """In this process for one worker or a single run, else in that many; None takes what the machine carries.

    A number of workers is also the number of cores that are used. PyTorch is imported when the first job is asked for.
    """

    def execute(jobs: Iterable[Job], data: DataSource) -> Iterator[Event]:
        from fedbench.executors import in_process, workers

        count = workers.default_workers() if num_workers is None else num_workers
        jobs = iter(jobs)
        first = list(islice(jobs, min(count, 2)))
        if len(first) < 2:
            yield from in_process.execute(chain(first, jobs), data, num_threads=lambda: count)
        else:
            yield from workers.execute(chain(first, jobs), data, count)

    return execute


def cluster_executor(address: str | None, needs: Needs, num_workers: int | None = None) -> Executor:
    """On the Ray cluster at `address`, else at ``RAY_ADDRESS``, else on a Ray that is started on this machine.

    Parameters
    ----------
    needs
        What each run takes of a node.
    num_workers
        How many runs are computed at once at most; None takes what the cluster has room for.

    Raises
    ------
    ClusterError
        If Ray is not installed.
    """
    if find_spec("ray") is None:
        raise ClusterError('--executor ray needs Ray: pip install "fedbench-mlflow[ray]"')

    def execute(jobs: Iterable[Job], data: DataSource) -> Iterator[Event]:
        from fedbench.executors import ray_cluster

        yield from ray_cluster.execute(jobs, data, address or os.environ.get("RAY_ADDRESS"), needs, num_workers)

    return execute
