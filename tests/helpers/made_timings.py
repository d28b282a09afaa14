"""Timings with made numbers."""

from __future__ import annotations

from dataclasses import replace

from fedbench.bench.run import BenchmarkResult, Measured
from fedbench.bench.yardsticks import Yardsticks

HERE = Yardsticks(flop_rate=1e11, flop_rate_all_cores=2e11, bandwidth=1e10, bandwidth_all_cores=1.5e10, num_cores=2)
STEP = BenchmarkResult(
    "step",
    "training",
    {"flops": 10**9},
    median=0.02,
    iqr=0.001,
    min=0.018,
    stddev=0.002,
    timing_rounds=30,
    rates={"gflops_per_second": 50.0, "yardstick_multiple": 2.0},
)
COPY = replace(STEP, name="copy", params={"bytes": 1}, rates={"gbytes_per_second": 1.0, "yardstick_multiple": 1.0})
VERSIONS = {"fedbench.version": "1", "fedbench.python": "3", "fedbench.torch": "2", "fedbench.processor": "AVX2"}


def made_measurement(*results: BenchmarkResult) -> Measured:
    return Measured("{}", results, {}, "a processor, 2 cores", VERSIONS, (HERE, HERE))
