"""Where runs are computed.

An executor takes jobs and a `DataSource` and yields the events of `fedbench.events`: of each run its rounds in
order and `RunDone`; the runs themselves in any order. It asks for a job when it can begin to compute it, not before.
Every executor holds PyTorch to one thread a run: how a sum is split over threads is part of its last bits, and a result
must not depend on the number of cores. A run that a dead worker began may tell of some rounds twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.events import Event, Job
    from fedbench.runner import DataSource, Executor


def choose_executor(num_workers: int | None = None) -> Executor:
    """In this process for one worker, else in that many; None takes what the machine carries.

    PyTorch is imported when the first job is asked for.
    """

    def execute(jobs: Iterable[Job], data: DataSource) -> Iterator[Event]:
        from fedbench.executors import in_process, workers

        count = workers.default_workers() if num_workers is None else num_workers
        yield from in_process.execute(jobs, data) if count == 1 else workers.execute(jobs, data, count)

    return execute
