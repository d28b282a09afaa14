"""Where runs are computed.

An executor takes runs and a `DataSource` and yields the events of `fedbench.simulation`: of each run `Started`, its
rounds in order, and `RunDone`; the runs themselves in any order. Every executor holds PyTorch to one thread a run: how
a sum is split over threads is part of its last bits, and a result must not depend on the number of cores.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.runner import Executor


def choose_executor(num_workers: int | None = None) -> Executor:
    """In this process for one worker, else in that many; None takes what the machine carries."""
    from fedbench.executors import in_process, workers

    count = workers.default_workers() if num_workers is None else num_workers
    return in_process.execute if count == 1 else partial(workers.execute, num_workers=count)
