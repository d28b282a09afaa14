"""Runs are computed in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from fedbench.events import Event, Job
from fedbench.simulation import simulate

if TYPE_CHECKING:
    from fedbench.runner import DataSource


def execute(jobs: Iterable[Job], data: DataSource) -> Iterator[Event]:
    """See `fedbench.executors`."""
    torch.set_num_threads(1)
    for job in jobs:
        yield from simulate(job, data.dataset(job.run.spec), data.device)
