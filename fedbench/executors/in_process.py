"""Runs are computed in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from fedbench.simulation import Event, simulate

if TYPE_CHECKING:
    from fedbench.runner import DataSource
    from fedbench.specs import RunSpec


def execute(runs: Sequence[RunSpec], data: DataSource) -> Iterator[Event]:
    """See `fedbench.executors`."""
    torch.set_num_threads(1)
    for run in runs:
        yield from simulate(run, data.dataset(run.spec), data.device)
