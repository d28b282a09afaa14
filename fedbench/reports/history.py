"""What became of a suite's accuracy, and of the code's speed, over commits, read from the store.

history_table.py lists it, history_figures.py draws it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fedbench.bench.recording import EXPERIMENT as SPEED_EXPERIMENT
from fedbench.gate.recording import EXPERIMENT
from fedbench.gate.views import SPEED_ALONE
from fedbench.stats import Spread
from fedbench.tracking.mlflow.reading import infinite, search_runs
from fedbench.tracking.mlflow.store import open_existing_store, store_errors, without_password
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from fedbench.tracking.mlflow.own_experiments import OwnExperiment

FINISHED = "status = 'FINISHED'"


@dataclass(frozen=True)
class Check:
    """A check that was recorded.

    Attributes
    ----------
    began
        In milliseconds since 1970.
    commit, count
        What was checked, and how many commits lead to it; see `fedbench.util.commits.Commit`.
    metric
        What `accuracies` are of; empty for a check of the speed alone.
    failed
        The cells and benchmarks that failed, by their names in the store.
    accuracies, differences
        By cell: mean and standard deviation over seeds, and the difference from the baseline.
    ratios
        By benchmark: the time over the time before.
    threshold
        The ratio above which a benchmark is slower; not a number without benchmarks.
    """

    run_id: str
    began: int
    suite: str
    commit: str
    count: int
    outcome: str
    metric: str = ""
    failed: tuple[str, ...] = ()
    accuracies: dict[str, Spread] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    threshold: float = math.nan


@dataclass(frozen=True)
class Timing:
    """A benchmark's multiple of the yardstick at a commit, of the experiment `speed`."""

    benchmark: str
    group: str
    commit: str
    count: int
    began: int
    multiple: float


@dataclass(frozen=True)
class History:
    """What the store holds of a suite's checks.

    Attributes
    ----------
    checks
        The suite's, by commit; of several of one commit, in the order in which they began.
    speed_checks
        All checks that timed benchmarks, of whatever suite, likewise.
    timings
        Those of the experiment `speed`, likewise.
    """

    suite: str
    checks: tuple[Check, ...]
    speed_checks: tuple[Check, ...]
    timings: tuple[Timing, ...]


def read_history(suite: str, uri: str) -> History:
    """Read all checks of a suite; the name `speed` stands for the speed alone.

    Raises
    ------
    StoreError
        If the store cannot be read, or no check of the suite is in it.
    """
    client = open_existing_store(uri)
    runs = _runs(client, uri, EXPERIMENT, f"tags.`fedbench.kind` = 'check' and {FINISHED}")
    with store_errors(uri):
        checks = sorted((_check(client, run) for run in runs), key=lambda each: (each.count, each.began))
    timed = tuple(each for each in checks if each.ratios)
    own = tuple(each for each in checks if each.suite == suite)
    if suite == SPEED_ALONE:
        own = tuple(map(_speed_part, timed))
    if not own:
        command = "--speed" if suite == SPEED_ALONE else suite
        raise StoreError(f"no check of {suite} is recorded in {without_password(uri)}: fedbench check {command}")
    return History(suite, own, timed, _timings(client, uri))


def _speed_part(check: Check) -> Check:
    """A check as if the speed alone had been checked."""
    failed = tuple(name for name in check.failed if name not in check.differences)
    return replace(check, outcome="failed" if failed else "passed", failed=failed, accuracies={}, differences={})


def _runs(client: MlflowClient, uri: str, own: OwnExperiment, wanted: str) -> list[Run]:
    """The runs of an experiment of fedbench's own; none if it is not there, or is something else."""
    with store_errors(uri):
        experiment = client.get_experiment_by_name(own.name)
        if experiment is None or experiment.lifecycle_stage == "deleted" or own.schema_tag not in experiment.tags:
            return []
        return search_runs(client, experiment.experiment_id, wanted)


def _check(client: MlflowClient, run: Run) -> Check:
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    metric = params.get("metric", "")
    stds = _below(metrics, "std")
    accuracies = {
        name: Spread(mean, stds.get(name), ()) for name, mean in (_below(metrics, metric) if metric else {}).items()
    }
    return Check(
        run_id=run.info.run_id,
        began=run.info.start_time,
        suite=tags.get("fedbench.suite", ""),
        commit=tags.get("fedbench.commit", "none"),
        count=_commits(client, run, "failures"),
        outcome=tags.get("fedbench.outcome", ""),
        metric=metric,
        failed=tuple(tags.get("fedbench.failed", "").splitlines()),
        accuracies=accuracies,
        differences=_below(metrics, "difference"),
        ratios=_below(metrics, "ratio"),
        threshold=float(params.get("threshold", math.nan)),
    )


def _timings(client: MlflowClient, uri: str) -> tuple[Timing, ...]:
    wanted = f"tags.`fedbench.kind` = 'benchmark' and {FINISHED} and metrics.`yardstick_multiple` > 0"
    runs = _runs(client, uri, SPEED_EXPERIMENT, wanted)
    with store_errors(uri):
        found = [
            Timing(
                benchmark=run.data.tags["fedbench.benchmark"],
                group=run.data.tags.get("fedbench.group", ""),
                commit=run.data.tags.get("fedbench.commit", "none"),
                count=_commits(client, run, "yardstick_multiple"),
                began=run.info.start_time,
                multiple=run.data.metrics["yardstick_multiple"],
            )
            for run in runs
        ]
    return tuple(sorted(found, key=lambda each: (each.count, each.began)))


def _commits(client: MlflowClient, run: Run, metric: str) -> int:
    """How many commits lead to a run's: its tag, else, as of what an older fedbench recorded, a metric's step."""
    if (count := run.data.tags.get("fedbench.commits", "")).isdigit():
        return int(count)
    return max((point.step for point in client.get_metric_history(run.info.run_id, metric)), default=0)


def _below(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    """The metrics whose names begin so, without that beginning."""
    start = f"{prefix}/"
    return {name.removeprefix(start): infinite(value) for name, value in metrics.items() if name.startswith(start)}


def shown_name(name: str) -> str:
    """A cell or a benchmark as it is called elsewhere: ``grid init:shared`` is ``grid init=shared``."""
    if " " in name or ":" not in name:
        return name.replace(":", "=")
    benchmark, _, params = name.partition(":")
    return f"{benchmark}[{params}]"
