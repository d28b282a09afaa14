"""Dealing a million examples to 100,000 clients. What must be moved is one writing of the indices."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fedbench.partitions import TrainingTable, make_partition

NUM_CLIENTS = 100_000
EXAMPLES_PER_CLIENT = 10


@pytest.mark.benchmark(group="partition")
@pytest.mark.parametrize("partition", ["consecutive", "iid"])
def test_partition_of_100000_clients(benchmark: BenchmarkFixture, partition: str) -> None:
    labels = np.arange(NUM_CLIENTS * EXAMPLES_PER_CLIENT) % 10
    table = TrainingTable(labels, 10)
    benchmark.extra_info["bytes"] = labels.size * np.dtype(np.int64).itemsize
    parts = benchmark.pedantic(
        make_partition,
        setup=lambda: ((partition, table, NUM_CLIENTS, EXAMPLES_PER_CLIENT, np.random.default_rng(0), {}), {}),
        rounds=20,
        warmup_rounds=1,
    )
    assert NUM_CLIENTS == len(parts)
