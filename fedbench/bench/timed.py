"""The one test that pytest-benchmark runs, once for each workload; `fedbench.bench.session` starts pytest."""

from __future__ import annotations

from typing import Any

import pytest

from fedbench.bench.workloads import Workload

WARM_UP_CALLS = 3


def test_workload(benchmark: Any, workload: Workload) -> None:
    """Time a workload."""
    task = workload.make()
    benchmark.extra_info |= {"flops": task.flops} if task.flops else {}
    benchmark.extra_info |= {"bytes": task.num_bytes} if task.num_bytes else {}
    result = benchmark.pedantic(
        task.call, setup=lambda: (task.arguments(), {}), rounds=workload.rounds, warmup_rounds=WARM_UP_CALLS
    )
    if not task.is_right(result):
        pytest.fail("the result is wrong")
