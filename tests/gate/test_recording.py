"""A check as a run of the experiment `regression`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_gate import FAILED, GATES, NASTY, PASSED, SPEED_ALONE, made_accuracy, made_benchmark, made_check
from test_docs import OUTSIDE_GIT, TRACKING, first_cells, table

from fedbench.gate.checks import Gate
from fedbench.gate.markdown import gate_markdown
from fedbench.gate.recording import (
    MAX_TEXT,
    gate_metrics,
    metric_names,
    open_regression,
    record_gate,
    shortened,
)
from fedbench.gate.table import gate_json
from fedbench.gate.views import SPEED_ALONE as SPEED
from fedbench.gate.views import regression_view_tags
from fedbench.tracking.mlflow.listing import list_runs
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.tracking.mlflow.views import MAX_TAG
from fedbench.util.commits import Commit
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient

COMMIT = Commit("a" * 40 + "-dirty", 7)


@pytest.fixture
def uri(tmp_path: Path, empty_store: bytes) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return f"sqlite:///{tmp_path}/mlflow.db"


def recorded(uri: str, gate: Gate, commit: Commit = COMMIT) -> tuple[MlflowClient, Any]:
    """Record a check; gives the client and the run."""
    client = open_regression(uri)
    return client, client.get_run(record_gate(client, uri, gate, commit, gate_markdown(gate), gate_json(gate)))


def runs(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("regression")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def experiment_tags(client: MlflowClient) -> dict[str, str]:
    experiment = client.get_experiment_by_name("regression")
    assert experiment is not None
    return {key: value for key, value in experiment.tags.items() if not key.startswith("mlflow.experiment")}


def test_a_check_is_a_run_whose_step_is_the_number_of_commits(uri: str) -> None:
    client, run = recorded(uri, FAILED)
    assert ("made aaaaaaa-dirty", "FINISHED") == (run.info.run_name, run.info.status)
    assert pytest.approx(0.81) == run.data.metrics["accuracy/pair init:shared"]
    assert pytest.approx(-0.06) == run.data.metrics["difference/pair init:shared"]
    assert (3.0, 1.3) == (run.data.metrics["failures"], run.data.metrics["ratio/step:cnn-10"])
    assert {7} == {
        point.step for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)
    }


def test_the_tags_say_what_failed_and_of_which_commit(uri: str) -> None:
    _, run = recorded(uri, FAILED)
    tags = run.data.tags
    assert ("check", "made", "failed") == tuple(tags[f"fedbench.{name}"] for name in ("kind", "suite", "outcome"))
    assert ["pair init:shared", "step:cnn-10", "evaluate"] == tags["fedbench.failed"].splitlines()
    assert ("a" * 40, "true") == tuple(tags[f"mlflow.source.git.{name}"] for name in ("commit", "dirty"))
    assert gate_markdown(FAILED) == tags["mlflow.note.content"]


def test_the_artifact_is_the_checks_json(uri: str, tmp_path: Path) -> None:
    client, run = recorded(uri, FAILED)
    path = client.download_artifacts(run.info.run_id, "gate.json", str(tmp_path))
    assert gate_json(FAILED) == json.loads(Path(path).read_text())


def test_a_check_of_the_speed_alone_goes_by_the_name_speed(uri: str) -> None:
    _, run = recorded(uri, SPEED_ALONE, Commit("none", 0))
    assert ("speed", "passed") == (run.data.tags["fedbench.suite"], run.data.tags["fedbench.outcome"])
    assert OUTSIDE_GIT.isdisjoint(run.data.tags)
    assert {"failures", "ratio/step", "yardstick_multiple/step", "largest_ratio"} == run.data.metrics.keys()


@pytest.mark.parametrize("gate", GATES)
def test_every_check_can_be_recorded(uri: str, gate: Gate) -> None:
    client, _ = recorded(uri, gate)
    assert 1 == len(runs(client))


def test_a_metrics_name_has_only_what_mlflow_allows_and_is_one_names_alone() -> None:
    names = metric_names(["grid init=shared", "average[cnn-10]", "a/b", "a?b", "..", NASTY])
    assert ["grid init:shared", "average:cnn-10", "a_b", "a_b:2", "_"] == list(names.values())[:-1]
    assert re.fullmatch(r"[\w\-. :]+", names[NASTY], re.ASCII)


def test_what_is_not_a_finite_number_is_left_out() -> None:
    assert "ratio/evaluate" not in gate_metrics(FAILED)
    lost = replace(made_check(), difference=float("nan"))
    assert "worst_difference" not in gate_metrics(Gate(made_accuracy(lost), None))


def test_if_the_store_fails_meanwhile_nothing_is_recorded(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_regression(uri)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(client, "log_text", fail)
    with pytest.raises(StoreError, match="the disk is full"):
        record_gate(client, uri, PASSED, COMMIT, "", {})
    assert [] == runs(client)


@pytest.mark.parametrize(
    ("tags", "line"),
    [
        ({"fedbench.schema": "2"}, "was not made by fedbench check"),
        ({"fedbench.regression_schema": "9"}, "upgrade fedbench"),
    ],
)
def test_an_experiment_of_that_name_of_another_kind_is_refused_before_anything_is_measured(
    uri: str, tags: dict[str, str], line: str
) -> None:
    open_regression(uri).create_experiment("regression", tags=tags)
    with pytest.raises(StoreError, match=line):
        open_regression(uri)


def test_the_checks_are_no_suites_runs(uri: str) -> None:
    recorded(uri, PASSED)
    assert [] == list_runs(None, uri)
    with pytest.raises(StoreError, match="was recorded by fedbench check and is not a suite"):
        read_suite("regression", uri)


def test_a_second_suites_check_adds_its_view(uri: str) -> None:
    client, _ = recorded(uri, SPEED_ALONE)
    recorded(uri, Gate(made_accuracy(made_check()), None))
    views = {key.removeprefix("mlflow.sharedViewState.") for key in experiment_tags(client) if "View" in key}
    assert {"regression", "regression-speed", "regression-made"} == views


def test_the_view_of_a_suite_draws_its_cells_few_lines_a_chart(uri: str) -> None:
    client, _ = recorded(uri, PASSED)
    state = json.loads(json.loads(experiment_tags(client)["mlflow.sharedViewState.regression-made"])["state"])
    lines = [chart["selectedMetricKeys"] for chart in state["compareRunCharts"]]
    assert [
        [f"{name}/pair init:{init}" for init in ("shared", "independent")] for name in ("accuracy", "difference")
    ] == lines
    assert state["searchFilter"].endswith("tags.`fedbench.suite` = 'made'")


def test_a_view_of_many_cells_fits_into_a_tag() -> None:
    charts = [[f"accuracy/grid num_clients:{number} init:shared" for number in range(4)]] * 200
    views = regression_view_tags({"made": charts, SPEED: charts})
    assert all(1_000 < len(value) < MAX_TAG for value in views.values())


def test_a_long_summary_is_cut_between_lines_and_says_where_the_rest_is() -> None:
    text = shortened("a line\n" * 2_000)
    assert len(text) <= MAX_TEXT
    assert {"a line", "", "The rest is in the artifact `gate.json`."} == set(text.splitlines())
    assert "short" == shortened("short")


def generalised(name: str) -> str:
    kind, _, rest = name.partition("/")
    return f"{kind}/{'<benchmark>' if kind in ('ratio', 'yardstick_multiple') else '<cell>'}" if rest else kind


def test_the_page_on_mlflow_names_what_is_recorded_of_a_check_and_nothing_else(uri: str) -> None:
    balanced = replace(made_accuracy(made_check()), metric="balanced_accuracy")
    for gate in (FAILED, SPEED_ALONE, Gate(balanced, None)):
        client, _ = recorded(uri, gate)
    found = runs(client)
    assert {tag for run in found for tag in run.data.tags} == first_cells(TRACKING, "### Check run: tags")
    assert {name for run in found for name in run.data.params} == first_cells(TRACKING, "### Check run: parameters")
    metrics = {generalised(name) for run in found for name in run.data.metrics}
    assert metrics == first_cells(TRACKING, "### Check run: metrics")
    artifacts = {each.path for run in found for each in client.list_artifacts(run.info.run_id)}
    assert artifacts == first_cells(TRACKING, "### Check run: artifacts")
    described = " ".join(row[0] for row in table(TRACKING, "## The experiment `regression`"))
    in_store = {tag.replace("-made", "-<suite>") for tag in experiment_tags(client)}
    assert in_store == set(re.findall(r"tag `([^`]+)`", described))


def test_a_failed_benchmark_without_a_ratio_is_named_among_what_failed(uri: str) -> None:
    assert FAILED.speed is not None
    only = replace(FAILED.speed, benchmarks=(FAILED.speed.benchmarks[1], made_benchmark()))
    _, run = recorded(uri, Gate(None, only))
    assert "evaluate" == run.data.tags["fedbench.failed"]
