"""A check as a run of the experiment `regression`, and the history that is read from there."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_gate import (
    COMMIT,
    FAILED,
    GATES,
    NASTY,
    PASSED,
    SPEED_ALONE,
    made_accuracy,
    made_benchmark,
    made_check,
    made_speed,
)

from fedbench.gate.checks import Gate, Judgement
from fedbench.gate.document import gate_json
from fedbench.gate.history import read_history
from fedbench.gate.markdown import gate_markdown
from fedbench.gate.recording import (
    MAX_TEXT,
    gate_metrics,
    metric_names,
    open_regression,
    record_gate,
    shortened,
    shown_name,
)
from fedbench.gate.views import SPEED_ALONE as SPEED
from fedbench.gate.views import regression_view_tags
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


def recorded(uri: str, gate: Gate, commit: Commit = DIRTY) -> tuple[MlflowClient, Any]:
    """Record a check; the client and the run."""
    client = open_regression(uri)
    return client, client.get_run(record_gate(client, gate, commit))


def runs(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("regression")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def experiment_tags(client: MlflowClient) -> dict[str, str]:
    tags = client.get_experiment_by_name("regression").tags
    return {key: value for key, value in tags.items() if not key.startswith("mlflow.experiment")}


def test_a_check_is_a_run_whose_step_is_the_number_of_commits(uri: str, tmp_path: Path) -> None:
    client, run = recorded(uri, FAILED)
    assert ("made aaaaaaa-dirty", "FINISHED") == (run.info.run_name, run.info.status)
    assert pytest.approx(0.81) == run.data.metrics["accuracy/pair init:shared"]
    assert pytest.approx(-0.06) == run.data.metrics["difference/pair init:shared"]
    assert 3 == run.data.metrics["seeds/pair init:shared"]
    low, high = (run.data.metrics[f"interval_{side}/pair init:shared"] for side in ("low", "high"))
    assert low < -0.06 < high
    assert (3.0, 1.3) == (run.data.metrics["failures"], run.data.metrics["ratio/step:cnn-10"])
    assert {7} == {
        point.step for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)
    }
    tags = run.data.tags
    assert ("check", "made", "failed") == tuple(tags[f"fedbench.{name}"] for name in ("kind", "suite", "outcome"))
    assert ["pair init:shared", "step:cnn-10", "evaluate"] == tags["fedbench.failed"].splitlines()
    assert ("a" * 40, "true") == tuple(tags[f"mlflow.source.git.{name}"] for name in ("commit", "dirty"))
    assert gate_markdown(FAILED) == tags["mlflow.note.content"]
    path = client.download_artifacts(run.info.run_id, "gate.json", str(tmp_path))
    assert gate_json(FAILED) == json.loads(Path(path).read_text())


def test_a_check_of_the_speed_alone_has_the_name_speed(uri: str) -> None:
    _, run = recorded(uri, SPEED_ALONE, Commit("none", 0))
    assert ("speed", "passed") == (run.data.tags["fedbench.suite"], run.data.tags["fedbench.outcome"])
    assert not [name for name in run.data.tags if name.startswith("mlflow.source.git")]
    intervals = {"interval_low/step", "interval_high/step"}
    assert {"failures", "ratio/step", "largest_ratio"} | intervals == run.data.metrics.keys()
    assert run.data.metrics["ratio/step"] == run.data.metrics["largest_ratio"]


def test_every_check_can_be_recorded(uri: str) -> None:
    for gate in GATES:
        client, _ = recorded(uri, gate)
    assert len(GATES) == len(runs(client))


def test_the_name_of_a_metric_has_only_what_mlflow_allows_and_is_unique() -> None:
    names = metric_names(["grid init=shared", "average[cnn-10]", "a/b", "a?b", "..", NASTY])
    assert ["grid init:shared", "average:cnn-10", "a_b", "a_b:2", "_"] == list(names.values())[:-1]
    assert re.fullmatch(r"[\w\-. :]+", names[NASTY], re.ASCII)
    for name in ("grid init=shared", "average[cnn-10]", "two-models init=shared num_clients=2", "evaluate"):
        assert name == shown_name(metric_names([name])[name])


def test_what_is_not_finite_is_left_out() -> None:
    assert "ratio/evaluate" not in gate_metrics(FAILED)
    lost = replace(made_check(), difference=float("nan"))
    assert "worst_difference" not in gate_metrics(Gate(made_accuracy(lost), None))


@pytest.mark.parametrize(
    ("tags", "line"),
    [
        ({"fedbench.schema": "2"}, "was not made by fedbench check"),
        ({"fedbench.regression_schema": "9"}, "upgrade fedbench"),
    ],
)
def test_another_experiment_of_that_name_is_refused_before_anything_is_measured(
    uri: str, tags: dict[str, str], line: str
) -> None:
    open_regression(uri).create_experiment("regression", tags=tags)
    with pytest.raises(StoreError, match=line):
        open_regression(uri)


def test_the_checks_are_not_runs_of_a_suite(uri: str) -> None:
    recorded(uri, PASSED)
    assert [] == list_runs(None, uri)
    with pytest.raises(StoreError, match="was recorded by fedbench check and is not a suite"):
        read_suite("regression", uri)


def test_each_suite_has_a_view_of_its_cells_with_few_lines_in_a_chart(uri: str) -> None:
    recorded(uri, SPEED_ALONE)
    client, _ = recorded(uri, Gate(PASSED.accuracy, None))
    tags = experiment_tags(client)
    views = {key.removeprefix("mlflow.sharedViewState.") for key in tags if "View" in key}
    assert {"regression", "regression-speed", "regression-made"} == views
    state = json.loads(json.loads(tags["mlflow.sharedViewState.regression-made"])["state"])
    assert [
        [f"{name}/pair init:{init}" for init in ("shared", "independent")] for name in ("accuracy", "difference")
    ] == [chart["selectedMetricKeys"] for chart in state["compareRunCharts"]]
    assert state["searchFilter"].endswith("tags.`fedbench.suite` = 'made'")


def test_a_view_of_many_cells_fits_in_a_tag() -> None:
    charts = [[f"accuracy/grid num_clients:{number} init:shared" for number in range(4)]] * 200
    views = regression_view_tags({"made": charts, SPEED: charts})
    assert all(1_000 < len(value) < MAX_TAG for value in views.values())


def test_a_long_summary_is_cut_between_lines_and_says_where_the_rest_is() -> None:
    text = shortened("a line\n" * 2_000)
    assert len(text) <= MAX_TEXT
    assert {"a line", "", "The rest is in the artifact `gate.json`."} == set(text.splitlines())
    assert "short" == shortened("short")


# The history


def test_the_history_has_the_checks_by_commit_and_the_speed_of_every_suite(uri: str) -> None:
    for count, gate in ((12, FAILED), (10, PASSED), (13, SPEED_ALONE)):
        recorded(uri, gate, Commit(f"{count:040x}", count))
    history = read_history("made", uri)
    assert [10, 12] == [check.count for check in history.checks]
    assert [10, 12, 13] == [check.count for check in history.speed_checks]
    failed = history.checks[-1]
    assert ("failed", "accuracy", 1.05) == (failed.outcome, failed.metric, failed.threshold)
    assert {"pair init=shared", "step[cnn-10]", "evaluate"} == set(failed.failed)
    assert pytest.approx(-0.06) == failed.differences["pair init=shared"]
    assert {"step[cnn-10]": 1.3, "average": 1.04} == failed.ratios
    of_speed = read_history("speed", uri).checks
    assert [("failed", ("step[cnn-10]", "evaluate")), ("passed", ())] == [
        (check.outcome, check.failed) for check in of_speed[1:]
    ]


def test_a_suite_without_checks_is_refused_with_the_command(uri: str) -> None:
    recorded(uri, Gate(made_accuracy(made_check()), None))
    for name, command in (("other", "fedbench check other"), ("speed", "fedbench check --speed --against main")):
        with pytest.raises(
            StoreError, match=rf"^no check of {name} is recorded in .*: {command} --tracking-uri {uri}$"
        ):
            read_history(name, uri)


def test_a_benchmark_without_a_ratio_is_among_what_failed(uri: str) -> None:
    failed = made_benchmark("evaluate", float("nan"), Judgement.WORSE, "fails: ZeroDivisionError")
    _, run = recorded(uri, Gate(None, made_speed(failed, made_benchmark())))
    assert ("evaluate", COMMIT) == (run.data.tags["fedbench.failed"], run.data.params["against_commit"])


def test_the_history_has_the_names_of_own_parts_as_the_check_had_them(uri: str) -> None:
    name = "train ./my_net.py:Net width=64 batch 50 on mnist-5k"
    recorded(uri, Gate(None, made_speed(made_benchmark(name), made_benchmark("evaluate", 1.3, Judgement.WORSE))))
    (check,) = read_history("speed", uri).checks
    assert ({name, "evaluate"}, ("evaluate",)) == (set(check.ratios), check.failed)
