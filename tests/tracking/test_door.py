"""What a person, another tool or another version wrote into a store: such a run is left out by name, and stays."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command import fedbench_here
from hypothesis import given
from hypothesis import strategies as st
from made_store import address, record
from made_suite import made_suite
from mlflow.entities import Experiment, ExperimentTag, Metric, Param, Run, RunData, RunInfo, RunTag
from mlflow.store.entities import PagedList
from rich.console import Console

import fedbench
from fedbench.measures import CLIENT_ACCURACY
from fedbench.reports.comparison import compare, comparison_json
from fedbench.reports.results import stored_json
from fedbench.reports.runs import run_details, run_json, runs_table
from fedbench.reports.tables import table_of_runs
from fedbench.tracking.mlflow import suites
from fedbench.tracking.mlflow.door import let_in, parameter, whole_number
from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.tracker import MlflowTracker
from fedbench.tracking.mlflow.views import SHARED_VIEW, saved_view, view_tags, views_of
from fedbench.tracking.records import REPORTED, sum_confusions
from fedbench.util.errors import StoreError

Alter = Callable[[sqlite3.Connection, str], object]

DIGITS, NESTED, YEAR_292278994 = "9" * 5_000, "[" * 100_000, 2**63 - 1


def tag(key: str, text: str | None) -> Alter:
    def alter(store: sqlite3.Connection, run_id: str) -> None:
        store.execute("DELETE FROM tags WHERE key = ? AND run_uuid = ?", (f"fedbench.{key}", run_id))
        if text is not None:
            store.execute("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", (f"fedbench.{key}", text, run_id))

    return alter


def param(key: str, text: str) -> Alter:
    change = "INSERT OR REPLACE INTO params (key, value, run_uuid) VALUES (?, ?, ?)"
    return lambda store, run_id: store.execute(change, (key, text, run_id))


def info(column: str, value: object) -> Alter:
    return lambda store, run_id: store.execute(f"UPDATE runs SET {column} = ? WHERE run_uuid = ?", (value, run_id))  # noqa: S608 - ours


def metric(key: str, value: float | None) -> Alter:
    change = "INSERT OR REPLACE INTO {} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, 1, 1, ?, ?)"

    def alter(store: sqlite3.Connection, run_id: str) -> None:
        for table in ("metrics", "latest_metrics"):
            store.execute(change.format(table), (key, value or 0, value is None, run_id))

    return alter


def no_metric(key: str) -> Alter:
    change = "DELETE FROM latest_metrics WHERE key = ? AND run_uuid = ?"
    return lambda store, run_id: store.execute(change, (key, run_id))


LEFT_OUT: Sequence[tuple[Alter, str]] = [  # with the end of the line
    *((tag("seed", text), f"its tag fedbench.seed is '{text}'") for text in ("²", "", "first", "-1", "007", "1.0")),
    (tag("seed", DIGITS), "its tag fedbench.seed is '999999999999...9999999999999'"),
    (tag("seed", NESTED), "its tag fedbench.seed is '[[[[[[[[[[[[...[[[[[[[[[[[[['"),
    (tag("seed", str(2**63)), "its tag fedbench.seed is '9223372036854775808'"),
    (tag("seed", None), "its tag fedbench.seed is missing"),
    (tag("kind", None), "its tag fedbench.kind is null"),
    (tag("kind", "other"), "its tag fedbench.kind is 'other'"),
    (tag("verdict", "great"), "its tag fedbench.verdict is 'great'"),
    (tag("verdict", None), "it is finished without a verdict, or without its numbers"),
    (no_metric("loss"), "it is finished without a verdict, or without its numbers"),
    (tag("fingerprint", "../../outside"), "its tag fedbench.fingerprint is '../../outside'"),
    (tag("cell_fingerprint", "a' OR '1"), """its tag fedbench.cell_fingerprint is "a' OR '1\""""),
    (tag("scenario", ""), "its tag fedbench.scenario is ''"),
    (tag("cell", None), "its tag fedbench.cell is missing"),
    (info("start_time", YEAR_292278994), "its start_time is 9223372036854775807"),
    (info("end_time", -1), "its end_time is -1"),
    (info("end_time", "noon"), "its end_time is 'noon'"),
    (param("rounds", DIGITS), "parameter rounds is '999999999999...9999999999999'"),
    (param("rounds", "²"), "parameter rounds is '²'"),
    (param("num_clients", "-" * 5_000 + "1"), "parameter num_clients is '------------...------------1'"),
    (param("learning_rate", "inf"), "parameter learning_rate is 'inf'"),
    (param("target_accuracy", "{1, 2}"), "parameter target_accuracy is '{1, 2}'"),
    (param("own_option", DIGITS), "parameter own_option is '999999999999...9999999999999'"),
    (metric("client_accuracy/²", 0.5), "its metric 'client_accuracy/²' names no client"),
    (metric("client_accuracy/-1", 0.5), "its metric 'client_accuracy/-1' names no client"),
]
KEPT: Sequence[Alter] = [
    metric("accuracy", None),
    metric("client_accuracy/0", 1.7976931348623157e308),
    metric("loss", -1.7976931348623157e308),
    param("own_option", "²"),
    param("other_option", "{'a': [1]}"),
    param("dataset", "123"),
    tag("invocation", NESTED),
    tag("suite", "\x1b[31m"),
]


TEXT = """
name: made
question: Why?
seeds: [0, 1]
scenarios: [{name: a, rounds: 1, target_accuracy: 0.9}]
conformance: {a: {paper: 1, band: [1, 2]}}
"""


def copy_run(store: sqlite3.Connection, run_id: str, seed: int) -> str:
    """Copy a recorded run, as that of another seed; its id."""
    new = f"{seed:032x}"
    for name in ("runs", "tags", "params", "metrics", "latest_metrics"):
        columns = [column for _, column, *_ in store.execute(f"PRAGMA table_info({name})")]
        values = ", ".join("?" if column == "run_uuid" else column for column in columns)
        store.execute(f"INSERT INTO {name} SELECT {values} FROM {name} WHERE run_uuid = ?", (new, run_id))  # noqa: S608
    for alter in (tag("seed", str(seed)), tag("fingerprint", new), param("seed", str(seed)), info("name", f"a {seed}")):
        alter(store, new)
    return new


@pytest.fixture(scope="module")
def altered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with a store of two runs and copies of them that were altered, each in one way; the copies' ids."""
    folder = tmp_path_factory.mktemp("altered")
    record(made_suite(folder, TEXT), address(folder))
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as store, store:
        (run_id,) = store.execute("SELECT run_uuid FROM tags WHERE key = 'fedbench.seed' AND value = '0'").fetchone()
        alterations = [*(each for each, _ in LEFT_OUT), *KEPT]
        copies = [copy_run(store, run_id, seed) for seed in range(2, 2 + len(alterations))]
        for each, alter in zip(copies, alterations, strict=True):
            alter(store, each)
    return folder, copies


def lines_of(copies: Sequence[str]) -> list[str]:
    return [
        f"fedbench: run {run_id} ('a {seed}') is left out: {why}; correct or delete it in MLflow"
        for seed, (run_id, (_, why)) in enumerate(zip(copies, LEFT_OUT, strict=False), start=2)
    ]


COMMANDS = [
    ("runs", "list", "made"),
    ("runs", "list", "--json"),
    ("export", "made", "--out", "made.csv"),
    ("export", "made", "--out", "made.parquet"),
    ("compare", "mlruns", "mlruns"),
    ("report", "made", "--json"),
    ("conformance", "made.yaml"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_each_command_leaves_such_runs_out_by_name(
    altered: tuple[Path, list[str]], arguments: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    folder, copies = altered
    done = fedbench_here(*arguments, folder=folder)
    assert (0, "") == (done.code, done.err)
    assert sorted(lines_of(copies)) == sorted(set(caplog.messages))


@pytest.mark.slow
@pytest.mark.nightly
def test_a_report_of_such_numbers_is_drawn(altered: tuple[Path, list[str]]) -> None:
    done = fedbench_here("report", "made", "--no-log", folder=altered[0])
    assert (0, "") == (done.code, done.err)


def test_such_runs_are_no_results_and_are_named_once(
    altered: tuple[Path, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    folder, copies = altered
    seeds = [0, 1, *range(2 + len(LEFT_OUT), 2 + len(copies))]
    assert seeds == sorted(fedbench.results("made", tracking_uri=address(folder)).seed)
    tracker = MlflowTracker(made_suite(folder, TEXT), address(folder))
    caplog.clear()
    assert len(seeds) == len(tracker.finished_runs()) == len(tracker.finished_runs())
    assert sorted(lines_of(copies)) == sorted(caplog.messages)


def test_nothing_of_such_runs_is_deleted(altered: tuple[Path, list[str]]) -> None:
    folder, copies = altered
    done = fedbench_here("runs", "delete", "made", "--status", "finished", "--yes", folder=folder)
    assert 0 == done.code
    client = open_store(address(folder))
    stages = [client.get_run(run_id).info.lifecycle_stage for run_id in copies]
    assert ["active"] * len(LEFT_OUT) + ["deleted"] * len(KEPT) == stages


# Single values, artifacts and views


def test_a_whole_number_is_as_python_writes_it() -> None:
    assert [0, 7, 2**63 - 1] == [whole_number(text) for text in ("0", "7", str(2**63 - 1))]
    for text in ("", "-0", "01", "1_0", " 1", "1.0", "²", "٣", "nan", str(2**63), DIGITS):
        with pytest.raises(ValueError, match="is no whole number"):
            whole_number(text)


def test_a_parameter_is_a_number_only_as_it_was_recorded() -> None:
    values: dict[str, object] = {"None": None, "True": True, "3": 3, "0.5": 0.5, "1e-05": 1e-05}
    for text, value in values.items():
        assert value == parameter("rounds", text)
    for text in ("inf", "nan", "1e999", "0.50", "٣", "[1]", DIGITS, NESTED, str(2**70)):
        assert text == parameter("own", text)
    assert "123" == parameter("dataset", "123")


def table(*rows: str) -> str:
    return "\n".join(("true class,cat,dog", *rows, ""))


NO_TABLES = [
    "",
    "true class,cat,dog\n",
    table("cat,4,1"),
    table("cat,4,1", "dog,1"),
    table("cat,4,1", "dog,1,-1"),
    table("cat,4,1", f"dog,1,{2**64}"),
    table("cat,4,1", f"dog,1,{2**62}"),
    table("cat,4,1", f"dog,1,{DIGITS}"),
    table("cat,4,1", "cow,1,2"),
    table("cat,4,1", "d" * 200_000 + ",1,2"),
]


@pytest.mark.parametrize("text", NO_TABLES, ids=lambda text: text[:40])
def test_a_damaged_confusion_matrix_is_none(text: str) -> None:
    assert [[8, 2], [2, 4]] == sum_confusions([table("cat,4,1", "dog,1,2")] * 2)[1].tolist()
    with pytest.raises(ValueError, match=r"\w"):
        sum_confusions([table("cat,4,1", "dog,1,2"), text])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"createdAt": "x"}',
        '{"createdAt": 1}',
        f'{{"createdAt": {DIGITS}}}',
        '{"createdAt": 1, "name": 2, "state": "{}"}',
        '{"createdAt": 1, "name": "a", "state": "{"}',
        f'{{"createdAt": 1, "name": "a", "state": "{NESTED}"}}',
        NESTED,
    ],
    ids=lambda text: text[:40],
)
def test_a_view_that_is_none_of_ours_is_not_listed(text: str) -> None:
    ours = views_of(view_tags())
    assert ours == views_of(view_tags() | {f"{SHARED_VIEW}other": text})
    assert len(ours) + 1 == len(views_of(view_tags() | saved_view("other", "Other", 3, {})))


# Whatever is let in can be read

VALUES = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "²", "٣", DIGITS, NESTED, "1e999", "None", "True", "{'a': [1]}", "-" * 2_000 + "1", "a/../b"]),
)
TAGS = ["kind", "seed", "fingerprint", "cell_fingerprint", "scenario", "cell", "suite", "verdict", "reason"]
PARAMS = ["seed", "rounds", "num_clients", "learning_rate", "dataset", "init", "target_accuracy", "batch_size", "own"]
METRICS = [*REPORTED, "train_loss", "rounds_to_target", "averaging_gain", f"{CLIENT_ACCURACY}0"]


def run_of(tags: dict[str, str], params: dict[str, str], metrics: dict[str, float], ended: int | None) -> Run:
    known = {"kind": "run", "seed": "1", "fingerprint": "f", "scenario": "a", "cell": "a", "verdict": "ok"} | tags
    values = dict.fromkeys(REPORTED, 0.5) | metrics
    about = RunInfo("1" * 32, "0", "me", "FINISHED", 1_000, ended, "active", run_name="a seed=1")
    data = RunData(
        [Metric(key, value, 1, 1) for key, value in values.items()],
        [Param(key, text) for key, text in ({"rounds": "1", "split": "5k"} | params).items()],
        [RunTag(f"fedbench.{key}", text) for key, text in known.items()],
    )
    return Run(about, data)


class StubClient:
    """A store that has these runs."""

    uri = "sqlite:///made.db"

    def __init__(self, *runs: Run) -> None:
        self.runs = runs

    def search_runs(self, *_: object, **__: object) -> PagedList[Run]:
        return PagedList(list(self.runs), None)


@pytest.mark.parametrize(
    ("tags", "metrics"),
    [
        ({"kind": "check", "commits": "²"}, {}),
        ({"kind": "check", "names": NESTED}, {}),
        ({"kind": "check", "names": '{"a": 1}'}, {}),
        ({"kind": "check"}, {"seeds/a": float("inf")}),
        ({"kind": "benchmark", "commits": DIGITS, "benchmark": "round"}, {}),
        ({"kind": "benchmark"}, {}),
        ({"kind": "trial", "trial": DIGITS}, {}),
        ({"kind": "cell", "cell_fingerprint": "../outside"}, {}),
    ],
    ids=lambda each: str(each)[:60],
)
def test_runs_of_other_kinds_are_left_out_too(
    tags: dict[str, str], metrics: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    client: Any = StubClient()
    assert [] == list(let_in(client, [run_of(tags, {}, metrics, None)]))
    assert "is left out: its " in caplog.text


@given(
    st.dictionaries(st.sampled_from(TAGS), VALUES, max_size=2),
    st.dictionaries(st.sampled_from(PARAMS), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(METRICS) | st.text().map(CLIENT_ACCURACY.__add__), st.floats(), max_size=3),
    st.none() | st.integers(-(2**63), 2**63 - 1),
)
def test_whatever_is_let_in_can_be_read(
    tags: dict[str, str], params: dict[str, str], metrics: dict[str, float], ended: int | None
) -> None:
    client = StubClient(run_of(tags, params, metrics, ended))
    experiment = Experiment("0", "made", "", "active", [ExperimentTag("fedbench.schema", "2")])
    with pytest.MonkeyPatch.context() as changes:
        changes.setattr(suites, "open_existing_store", lambda _: client)
        changes.setattr(suites, "experiment_of", lambda *_: experiment)
        try:
            stored = suites.read_suite("made", StubClient.uri)
        except StoreError:  # no finished runs
            return
    records = [run for cell in stored.cells for run in cell.runs.values()]
    json.dumps([stored_json(stored), *map(run_json, records)], allow_nan=False)
    json.dumps(comparison_json(compare([stored], [stored], ("a", "b"), "accuracy")), allow_nan=False)
    console = Console(file=io.StringIO())
    console.print(runs_table(records), *map(run_details, records))
    assert len(records) == len(table_of_runs(stored))
