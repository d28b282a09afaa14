"""Read the history of a suite's checks, and of the speed, from a store."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from fedbench.bench.recording import EXPERIMENT as SPEED_EXPERIMENT
from fedbench.gate.recording import EXPERIMENT, NAMES, shown_name
from fedbench.gate.views import SPEED_ALONE
from fedbench.reports.history import Check, History, Timing
from fedbench.stats import Spread
from fedbench.suites.variants import AT
from fedbench.tracking.mlflow.database import chosen_store
from fedbench.tracking.mlflow.door import names_of
from fedbench.tracking.mlflow.reading import infinite, search_runs
from fedbench.tracking.mlflow.store import open_existing_store, without_password
from fedbench.util.advice import command
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from fedbench.tracking.mlflow.experiments import OwnExperiment

FINISHED = "status = 'FINISHED'"


def read_history(suite: str, uri: str, given: str = "") -> History:
    """Read all checks of a suite, which was named as `given`; the name `speed` stands for the speed alone.

    Raises `StoreError` if the store cannot be read, or has no check of the suite.
    """
    client = open_existing_store(uri)
    runs = _runs(client, EXPERIMENT, f"tags.`fedbench.kind` = 'check' and {FINISHED}")
    checks = sorted(map(_check, runs), key=lambda each: (each.count, each.began))
    timed = tuple(each for each in checks if each.ratios)
    own = tuple(each for each in checks if each.suite == suite)
    if suite == SPEED_ALONE:
        own = tuple(map(_speed_part, timed))
    if not own:
        name = suite.partition(AT)[0] if AT in suite else given or suite  # a variant is never checked
        words = ("--speed", "--against", "main") if suite == SPEED_ALONE else (name,)
        check = command("fedbench", "check", *words, tracking_uri=chosen_store(uri))
        raise StoreError(f"no check of {suite} is recorded in {without_password(uri)}: {check}")
    return History(suite, own, timed, _timings(client))


def _speed_part(check: Check) -> Check:
    """A check as if the speed alone had been checked."""
    failed = tuple(name for name in check.failed if name not in check.differences)
    return replace(check, outcome="failed" if failed else "passed", failed=failed, accuracies={}, differences={})


def _runs(client: MlflowClient, own: OwnExperiment, wanted: str) -> list[Run]:
    """The runs of an experiment of fedbench's own; none if it does not exist, or is something else."""
    experiment = client.get_experiment_by_name(own.name)
    if experiment is None or experiment.lifecycle_stage == "deleted" or own.schema_tag not in experiment.tags:
        return []
    return search_runs(client, experiment.experiment_id, wanted)


def _check(run: Run) -> Check:
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    metric = params.get("metric", "")
    names = names_of(tags.get(NAMES, "{}"))

    def shown(name: str) -> str:
        return names.get(name) or shown_name(name)

    def below(prefix: str) -> dict[str, float]:
        """The metrics under ``prefix/``, by the cells or benchmarks that they belong to."""
        values = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{prefix}/")}
        return {shown(name): infinite(value) for name, value in values.items()}

    means, stds = (below(metric) if metric else {}), below("std")
    highs = below("interval_high")
    return Check(
        run_id=run.info.run_id,
        began=run.info.start_time,
        suite=tags.get("fedbench.suite", ""),
        commit=tags.get("fedbench.commit", "none"),
        count=int(tags.get("fedbench.commits", "0")),
        outcome=tags.get("fedbench.outcome", ""),
        metric=metric,
        failed=tuple(map(shown, tags.get("fedbench.failed", "").splitlines())),
        accuracies={name: Spread(mean, stds.get(name), ()) for name, mean in means.items()},
        differences=below("difference"),
        ratios=below("ratio"),
        intervals={name: (low, highs[name]) for name, low in below("interval_low").items() if name in highs},
        seeds={name: int(count) for name, count in below("seeds").items()},
        threshold=float(params.get("threshold", math.nan)),
    )


def _timings(client: MlflowClient) -> tuple[Timing, ...]:
    wanted = f"tags.`fedbench.kind` = 'benchmark' and {FINISHED} and metrics.`yardstick_multiple` > 0"
    found = [
        Timing(
            benchmark=run.data.tags["fedbench.benchmark"],
            group=run.data.tags.get("fedbench.group", ""),
            commit=run.data.tags.get("fedbench.commit", "none"),
            count=int(run.data.tags.get("fedbench.commits", "0")),
            began=run.info.start_time,
            multiple=run.data.metrics["yardstick_multiple"],
        )
        for run in _runs(client, SPEED_EXPERIMENT, wanted)
    ]
    return tuple(sorted(found, key=lambda each: (each.count, each.began)))
