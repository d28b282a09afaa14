"""Timings as runs of the experiment `speed`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_timings import COPY, STEP, made_measurement

from fedbench.bench.recording import open_speed, record_speed
from fedbench.tracking.mlflow.listing import list_runs
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.tracking.mlflow.views import MAX_TAG
from fedbench.util.commits import Commit
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIRTY = Commit("a" * 40 + "-dirty", 7)


@pytest.fixture
def uri(tmp_path: Path, empty_store: bytes) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return f"sqlite:///{tmp_path}/mlflow.db"


def recorded_runs(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("speed")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def test_each_benchmark_is_a_run_whose_step_is_the_number_of_commits(uri: str) -> None:
    client = open_speed(uri)
    record_speed(client, made_measurement(STEP, COPY), DIRTY)
    runs = {run.data.tags["fedbench.benchmark"]: run for run in recorded_runs(client)}
    assert {"step", "copy"} == runs.keys()
    run = runs["step"]
    assert ("step aaaaaaa-dirty", "FINISHED") == (run.info.run_name, run.info.status)
    assert (0.02, 2.0) == (run.data.metrics["median_seconds"], run.data.metrics["yardstick_multiple"])
    assert {7} == {point.step for point in client.get_metric_history(run.info.run_id, "median_seconds")}
    assert ("a" * 40, "true") == tuple(run.data.tags[f"mlflow.source.git.{name}"] for name in ("commit", "dirty"))


def test_a_second_measurement_adds_runs_and_the_views_of_its_groups(uri: str) -> None:
    client = open_speed(uri)
    record_speed(client, made_measurement(STEP), Commit("a" * 40, 1))
    record_speed(client, made_measurement(replace(STEP, group="averaging")), Commit("b" * 40, 2))
    assert 2 == len(recorded_runs(client))
    tags = client.get_experiment_by_name("speed").tags
    views = {key: value for key, value in tags.items() if key.startswith("mlflow.sharedViewState.")}
    assert {"speed", "speed-training", "speed-averaging"} == {key.rpartition(".")[2] for key in views}
    assert all(len(value) < MAX_TAG for value in views.values())


def test_if_the_store_fails_meanwhile_nothing_is_recorded(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_speed(uri)
    log_batch, calls = client.log_batch, iter((True, False))

    def fail_the_second_time(*arguments: Any, **options: Any) -> None:
        if not next(calls):
            raise StoreError("the disk is full")
        log_batch(*arguments, **options)

    monkeypatch.setattr(client, "log_batch", fail_the_second_time)
    with pytest.raises(StoreError, match="the disk is full"):
        record_speed(client, made_measurement(STEP, STEP), Commit("none", 0))
    assert [] == recorded_runs(client)


def test_the_timings_are_not_runs_of_a_suite(uri: str) -> None:
    record_speed(open_speed(uri), made_measurement(STEP), Commit("none", 0))
    assert [] == list_runs(None, uri)
    with pytest.raises(StoreError, match="was recorded by fedbench bench and is not a suite"):
        read_suite("speed", uri)
