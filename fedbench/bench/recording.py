"""Timings in MLflow: each benchmark is a run of the experiment `speed`, whose step is the number of commits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.entities import Metric

from fedbench.bench.views import SPEED, speed_view_tags
from fedbench.tracking.mlflow.experiments import OwnExperiment, all_or_none, open_own, own_experiment_id
from fedbench.util.commits import Commit, short_commit
from fedbench.util.environment import SOURCE_TAGS

if TYPE_CHECKING:
    from fedbench.bench.run import BenchmarkResult, Measured
    from fedbench.tracking.mlflow.client import StoreClient

NOTE = """How fast is each part of fedbench, by commit?

**How to read it.** A run is one benchmark, measured once by `fedbench bench`. Group the runs by the tag
`fedbench.benchmark`; the step is the number of commits up to the one that was measured. `yardstick_multiple` is the
median time over the time that a plain matrix product or copy takes for the same work on the same machine; it can be
compared between machines, `median_seconds` cannot: filter by the tag `fedbench.machine`.
"""
EXPERIMENT = OwnExperiment(SPEED, 1, "fedbench bench", NOTE)


def open_speed(uri: str) -> StoreClient:
    """Open the store and find out whether timings can be recorded in it; see `open_own`."""
    return open_own(EXPERIMENT, uri)


def record_speed(client: StoreClient, measured: Measured, commit: Commit) -> None:
    """Record every benchmark, or none: after an error, the runs so far are deleted."""
    views = speed_view_tags({each.group for each in measured.results})
    experiment_id = own_experiment_id(client, EXPERIMENT, views)
    with all_or_none(client) as created:
        for result in measured.results:
            name, tags = f"{result.name} {short_commit(commit.name)}", _tags(result, measured, commit)
            run_id = client.create_run(experiment_id, tags=tags, run_name=name).info.run_id
            created.append(run_id)
            now, values = int(time.time() * 1000), metrics_of(result, measured)
            points = [Metric(key, value, now, commit.count) for key, value in values.items()]
            client.log_all(run_id, points, result.params)
            client.set_terminated(run_id)


def _tags(result: BenchmarkResult, measured: Measured, commit: Commit) -> dict[str, str]:
    return {
        "fedbench.kind": "benchmark",
        "fedbench.benchmark": result.name,
        "fedbench.group": result.group,
        "fedbench.machine": measured.machine,
        **commit.tags,
        **measured.versions,
        **SOURCE_TAGS,
    }


def metrics_of(result: BenchmarkResult, measured: Measured) -> Mapping[str, float]:
    """The metrics of a benchmark and of the yardsticks, by name; docs/reference/mlflow.md has their units."""
    values = {
        "median_seconds": result.median,
        "iqr_seconds": result.iqr,
        "min_seconds": result.min,
        "stddev_seconds": result.stddev,
        "timing_rounds": float(result.timing_rounds),
    }
    values |= result.rates
    if measured.yardsticks:
        start, end = measured.yardsticks
        mean = start.mean(end)
        values |= {
            "yardstick_gflops_per_second": mean.flop_rate / 1e9,
            "yardstick_gflops_per_second_all_cores": mean.flop_rate_all_cores / 1e9,
            "yardstick_gbytes_per_second": mean.bandwidth / 1e9,
            "yardstick_gbytes_per_second_all_cores": mean.bandwidth_all_cores / 1e9,
            "yardstick_drift": start.drift(end),
        }
    return values
