"""How long it takes to deal a million examples to 100,000 clients: python benchmarks/partition_speed.py.

What must be moved is one writing of the indices, which the machine's copy does in the time of the last column.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from fedbench.bench.yardsticks import measure
from fedbench.components import find
from fedbench.partitions import TrainingTable

NUM_CLIENTS, EXAMPLES_PER_CLIENT, REPEATS = 100_000, 10, 20


def main() -> None:
    """Print the median time of each partition."""
    table = TrainingTable(np.arange(NUM_CLIENTS * EXAMPLES_PER_CLIENT) % 10, 10)
    yardsticks = measure()
    for name in ("consecutive", "iid"):
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            parts = (
                find("partition", name).make().deal(table, NUM_CLIENTS, EXAMPLES_PER_CLIENT, np.random.default_rng(0))
            )
            times.append(time.perf_counter() - began)
            if len(parts) != NUM_CLIENTS:
                raise SystemExit(f"{name}: {len(parts)} clients")
        median = statistics.median(times)
        multiple = yardsticks.multiple(median, num_bytes=8 * NUM_CLIENTS * EXAMPLES_PER_CLIENT)
        print(f"{name}: {1e3 * median:.1f} ms, {multiple:.1f} times as long as the copy")


if __name__ == "__main__":
    main()
