"""Accuracy and speed over commits: drawn, listed, as JSON, and the command."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from empty_store import put_empty_store
from made_gate import FAILED, PASSED
from rich.console import Console

from fedbench.cli.app import app
from fedbench.gate.recording import open_regression, record_gate
from fedbench.reports.figure import Figure
from fedbench.reports.history import SHOWN, Check, History, Timing, history_json, history_table
from fedbench.reports.history_figures import history_figures, last_by_commit, write_history
from fedbench.stats import Spread
from fedbench.util.commits import Commit

INITS = ("shared", "independent")
DAY = 86_400_000  # milliseconds


def made_history(*checks: Check, timings: tuple[Timing, ...] = ()) -> History:
    return History("made", checks, tuple(each for each in checks if each.ratios), timings)


def made_check(count: int, began: int = 0, mean: float = 0.8, failed: tuple[str, ...] = ()) -> Check:
    cells = {"pair init=shared": Spread(mean, 0.01, ()), "pair init=independent": Spread(mean - 0.1, None, ())}
    return Check(
        run_id=f"run{count}",
        began=began,
        suite="made",
        commit=f"{count:02}" * 20,
        count=count,
        outcome="failed" if failed else "passed",
        metric="accuracy",
        failed=failed,
        accuracies=cells,
        differences={"pair init=shared": mean - 0.8, "pair init=independent": 0.0},
        ratios={"step[cnn-10]": 1.01},
        threshold=1.05,
    )


def printed(history: History) -> str:
    console = Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(history_table(history))
    return capture.get()


def drawn(history: History) -> dict[str, Figure]:
    return {figure.title: figure for figure in history_figures(history)}


def test_the_last_check_of_a_commit_is_drawn_and_each_check_without_a_commit() -> None:
    checks = [made_check(1), made_check(2, mean=0.5), made_check(2, began=1)]
    assert checks[::2] == last_by_commit(checks)
    outside = [replace(made_check(0, began=day * DAY), commit="none") for day in (1, 2)]
    figure = drawn(made_history(*outside))["Accuracy by commit"]
    assert ["01-02 00:00"] * 2 + ["01-03 00:00"] * 2 == [row["commit"] for row in figure.rows]


def test_a_line_has_the_percent_of_a_cell_and_marks_failures() -> None:
    history = made_history(made_check(1), made_check(2, mean=0.7, failed=("pair init=shared",)))
    figure = drawn(history)["Accuracy by commit"]
    assert "A cross: it failed." in figure.caption
    shared, independent = ([row for row in figure.rows if row["cell"] == f"init={name}"] for name in INITS)
    assert [("pair", "0101010", 80, 79, 81, None), ("pair", "0202020", 70, 69, 71, "yes")] == [
        tuple(row[name] for name in ("panel", "commit", "accuracy (%)", "low", "high", "failed")) for row in shared
    ]
    assert {None} == {row["failed"] for row in independent}


def test_a_scenario_of_many_cells_has_several_panels() -> None:
    cells = {f"grid num_clients={number}": Spread(0.5, 0.1, ()) for number in range(20)}
    figure = drawn(made_history(replace(made_check(1), accuracies=cells)))["Accuracy by commit"]
    panels = Counter(row["panel"] for row in figure.rows)
    assert {"grid (1 of 3)": 8, "grid (2 of 3)": 8, "grid (3 of 3)": 4} == panels


def test_ratios_and_each_group_of_timings_have_a_panel() -> None:
    timings = tuple(Timing(f"step[{group}]", group, "ab" * 20, 3, 0, 2.0) for group in ("training", "evaluation"))
    _, ratios, multiples = drawn(made_history(made_check(1), timings=timings)).values()
    assert [("checks of the speed", "step[cnn-10]", 1.01)] == [
        (row["panel"], row["benchmark"], row["time / time before"]) for row in ratios.rows
    ]
    assert [("checks of the speed", 1.0, "as before"), ("checks of the speed", 1.05, "slower beyond this")] == [
        *ratios.levels
    ]
    assert [("training", 2.0), ("evaluation", 2.0)] == [
        (row["panel"], row["multiple of the yardstick"]) for row in multiples.rows
    ]


def test_the_page_has_what_there_is(tmp_path: Path) -> None:
    page = write_history(made_history(made_check(1, failed=("pair init=shared",))), tmp_path / "new")
    assert [page] == list((tmp_path / "new").iterdir())
    assert "1 check; the last one, of 0101010, failed: pair init=shared." in page.read_text()
    assert ["Accuracy by commit"] == list(drawn(made_history(replace(made_check(1), ratios={}))))


def test_the_table_has_the_last_checks_with_the_worst_cell_and_the_slowest_benchmark() -> None:
    checks = [made_check(count) for count in range(1, SHOWN + 3)]
    failed = replace(made_check(99, mean=0.74, failed=("pair init=shared",)), ratios={"a": 1.0, "b[c]": 1.25})
    lines = printed(made_history(*checks, failed)).splitlines()
    expected = ["1970-01-01", "9999999", "failed", "pair", "init=shared", "-6.0", "b[c]", "1.25"]
    assert expected == lines[2].split()
    assert SHOWN == sum(line.startswith("1970") for line in lines)
    assert "3 earlier checks are not listed." == lines[-1].strip()


def test_the_command_prints_and_draws_the_history_and_its_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = put_empty_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    client = open_regression(uri)
    for count, gate in ((2, FAILED), (1, PASSED)):
        record_gate(client, gate, Commit(f"{count:040x}", count))
    monkeypatch.chdir(tmp_path)
    app(["history", "made"], standalone_mode=False)
    out = capsys.readouterr().out.splitlines()
    assert "mlruns/reports/made/history.html: open it in a browser." == out[-1]
    assert Path("mlruns/reports/made/history.html").read_text().startswith("<!doctype html>")
    assert 2 == sum("passed" in line or "failed" in line for line in out)
    app(["history", "made", "--json"], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert ([], [1, 2]) == (document["figures"], [check["commits"] for check in document["checks"]])
    assert {"pair init=shared", "pair init=independent"} == set(document["checks"][0]["cells"])
    app(["history", "made", "--json", "--out", "here"], standalone_mode=False)
    assert (
        ["here/history.html"] == json.loads(capsys.readouterr().out)["figures"] == [*map(str, Path("here").iterdir())]
    )


def test_the_interval_of_a_change_and_of_a_ratio_is_below_it() -> None:
    old = made_check(1)
    check = replace(
        made_check(2),
        differences={"pair init=shared": -0.012},
        intervals={"pair init=shared": (-0.02, -0.004), "step[cnn-10]": (0.98, 1.04)},
        seeds={"pair init=shared": 5},
    )
    text = printed(made_history(old, check))
    assert all(entry in text for entry in ("+0.0", "-1.2 ", "-2.0 to -0.4", "0.98 to 1.04"))
    before, after = history_json(made_history(old, check), [])["checks"]
    assert (None, []) == tuple(before["cells"]["pair init=shared"][name] for name in ("seeds", "interval"))
    assert (5, [-0.02, -0.004]) == tuple(after["cells"]["pair init=shared"][name] for name in ("seeds", "interval"))
    assert {"step[cnn-10]": [0.98, 1.04]} == after["ratio_intervals"]


def test_the_json_of_any_history_is_valid() -> None:
    json.dumps(history_json(made_history(made_check(1), made_check(2)), ["a.html"]), allow_nan=False)
