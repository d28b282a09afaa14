"""The timings in MLflow: each benchmark is a run of the experiment `speed`, its step the number of commits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Experiment, Metric, Param
from mlflow.exceptions import MlflowException

from fedbench.errors import StoreError
from fedbench.tracking.environment import SOURCE_TAGS, git_answer
from fedbench.tracking.store import (
    local_folder,
    open_store,
    require_not_deleted,
    require_space,
    store_errors,
    without_password,
)
from fedbench.tracking.stored import SPEED_SCHEMA
from fedbench.tracking.views import SPEED, speed_view_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from fedbench.bench import BenchmarkResult, Measured

EXPERIMENT = SPEED
SCHEMA_VERSION = 1  # of what docs/tracking.md says of this experiment
NOTE = """How fast is each part of fedbench, by commit?

**How to read it.** A run is one benchmark, measured once by `fedbench bench`. Group the runs by the tag
`fedbench.benchmark`; the step is the number of commits up to the one that was measured. `yardstick_multiple` is the
median time over the time that a plain matrix product or copy takes for the same work on the same machine; it can be
compared between machines, `median_seconds` cannot: filter by the tag `fedbench.machine`.
"""


@dataclass(frozen=True)
class Commit:
    """The commit of the code that is measured.

    Attributes
    ----------
    name
        The hash, with ``-dirty`` if tracked files differ from it; ``none`` where there is no repository.
    count
        How many commits lead to it, itself counted; 0 where there is no repository.
    is_shallow
        Whether the repository lacks history, so that `count` is too small.
    """

    name: str
    count: int
    is_shallow: bool = False


def commit_of(checkout: Path | None) -> Commit:
    """The commit of a checkout; that of None, an installed wheel, is not known."""
    commit = git_answer("rev-parse", "HEAD", folder=checkout) if checkout else ""
    if not commit:
        return Commit("none", 0)
    dirty = bool(git_answer("status", "--porcelain", "--untracked-files=no", folder=checkout))
    count = git_answer("rev-list", "--count", "HEAD", folder=checkout)
    shallow = git_answer("rev-parse", "--is-shallow-repository", folder=checkout) == "true"
    return Commit(f"{commit}-dirty" if dirty else commit, int(count or 0), shallow)


def open_speed(uri: str) -> MlflowClient:
    """Open the store and find out whether timings can be recorded in it; nothing is recorded yet.

    Raises
    ------
    StoreError
        If it cannot be opened or written, or its experiment `speed` is deleted, a suite's or of a newer fedbench.
    """
    client = open_store(uri)
    require_space(uri)
    with store_errors(uri):
        experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        _require_ours(experiment, uri)
    return client


def _require_ours(experiment: Experiment, uri: str) -> None:
    require_not_deleted(experiment, uri)
    schema, place = experiment.tags.get(SPEED_SCHEMA), without_password(uri)
    if schema is None:
        raise StoreError(
            f"experiment {EXPERIMENT} in {place} is not of fedbench bench: choose another store with --tracking-uri, "
            "or --no-log"
        )
    if schema != str(SCHEMA_VERSION):
        raise StoreError(
            f"experiment {EXPERIMENT} in {place} has schema {schema}, and this fedbench writes {SCHEMA_VERSION}: "
            "upgrade fedbench, or choose another store with --tracking-uri"
        )


def record_speed(client: MlflowClient, uri: str, measured: Measured, commit: Commit) -> None:
    """Record every benchmark, or none: an interruption waits, and after an error the runs so far are deleted."""
    created: list[str] = []
    with store_errors(uri):
        experiment_id = _experiment_id(client, uri, {each.group for each in measured.results})
        try:
            for result in measured.results:
                _record(client, experiment_id, result, measured, commit, created)
        except BaseException:
            for run_id in created:
                with suppress(MlflowException):
                    client.delete_run(run_id)
            raise


def _experiment_id(client: MlflowClient, uri: str, groups: set[str]) -> str:
    tags = {"mlflow.note.content": NOTE, **speed_view_tags(groups)}
    experiment: Experiment | None = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        location = (folder / "artifacts" / EXPERIMENT).as_uri() if (folder := local_folder(uri)) else None
        schema = {SPEED_SCHEMA: str(SCHEMA_VERSION)}
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=location, tags=tags | schema))
        except MlflowException:  # another process was quicker
            if (experiment := client.get_experiment_by_name(EXPERIMENT)) is None:
                raise
    _require_ours(experiment, uri)
    for key, value in tags.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return str(experiment.experiment_id)


def _record(
    client: MlflowClient,
    experiment_id: str,
    result: BenchmarkResult,
    measured: Measured,
    commit: Commit,
    created: list[str],
) -> None:
    short = f"{commit.name[:7]}{'-dirty' if commit.name.endswith('-dirty') else ''}"
    run = client.create_run(experiment_id, run_name=f"{result.name} {short}", tags=_tags(result, measured, commit))
    created.append(run.info.run_id)
    now = int(time.time() * 1000)
    values = metrics_of(result, measured)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(key, value, now, commit.count) for key, value in values.items()],
        params=[Param(key, str(value)) for key, value in result.params.items()],
    )
    client.set_terminated(run.info.run_id)


def _tags(result: BenchmarkResult, measured: Measured, commit: Commit) -> dict[str, str]:
    code, _, dirty = commit.name.partition("-")
    in_git = {"mlflow.source.git.commit": code, "mlflow.source.git.dirty": str(bool(dirty)).lower()}
    return {
        "fedbench.kind": "benchmark",
        "fedbench.benchmark": result.name,
        "fedbench.group": result.group,
        "fedbench.machine": measured.machine,
        "fedbench.commit": commit.name,
        **measured.versions,
        **SOURCE_TAGS,
        **(in_git if commit.count else {}),
    }


def metrics_of(result: BenchmarkResult, measured: Measured) -> Mapping[str, float]:
    """A benchmark's metrics by name, the yardsticks among them; docs/tracking.md has their units."""
    values = {
        "median_seconds": result.median,
        "iqr_seconds": result.iqr,
        "min_seconds": result.min,
        "stddev_seconds": result.stddev,
        "timing_rounds": float(result.timing_rounds),
    }
    rates = {
        "gflops_per_second": result.gflops_per_second,
        "gbytes_per_second": result.gbytes_per_second,
        "yardstick_multiple": result.yardstick_multiple,
    }
    values |= {key: value for key, value in rates.items() if value is not None}
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
