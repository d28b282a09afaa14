"""Runs are computed in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from fedbench.executors import THREADS
from fedbench.executors.allocator import keep_freed_memory
from fedbench.runs.events import Event, Job
from fedbench.runs.simulation import simulate

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.runs.data import DataSource


def execute(jobs: Iterable[Job], data: DataSource, num_threads: Callable[[], int] = lambda: 1) -> Iterator[Event]:
    """See `fedbench.executors`. A run's clients are spread over `num_threads()` threads, asked for each round."""
    for job in jobs:
        yield from compute(job, data.dataset(job.run.spec), data.device, num_threads)


def compute(job: Job, dataset: Dataset, device: str, num_threads: Callable[[], int]) -> Iterator[Event]:
    """Compute one run."""
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    yield from simulate(job, dataset, device, num_threads)
