"""Jobs are computed in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fedbench.executors import E, J, Work
from fedbench.executors.processes import prepare_to_compute


def execute(jobs: Iterable[J], work: Work[J, E], num_threads: Callable[[], int] = lambda: 1) -> Iterator[E]:
    """Compute the jobs; see `fedbench.executors`."""
    for job in jobs:
        prepare_to_compute()
        yield from work.compute(job, num_threads)
