"""What became of accuracy and speed over commits: read from a store, drawn, listed, as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from empty_store import put_empty_store
from made_gate import FAILED, PASSED, SPEED_ALONE, made_accuracy, made_benchmark, made_check, made_speed
from rich.console import Console

from fedbench.cli.app import app
from fedbench.gate.checks import Gate, Judgement
from fedbench.gate.markdown import gate_markdown
from fedbench.gate.recording import open_regression, record_gate
from fedbench.gate.table import gate_json
from fedbench.reports.history import Check, History, Timing, read_history, shown_name
from fedbench.reports.history_figures import (
    MAX_LABELS,
    accuracy_panels,
    by_commit,
    labelled,
    speed_panels,
    write_figures,
)
from fedbench.reports.history_table import SHOWN, history_json, history_table
from fedbench.stats import Spread
from fedbench.util.commits import Commit
from fedbench.util.errors import StoreError

PNG = b"\x89PNG\r\n\x1a\n"
DAY = 86_400_000  # milliseconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store has checks of four commits, the later ones recorded first."""
    folder = tmp_path_factory.mktemp("history")
    uri = put_empty_store(address(folder))
    client = open_regression(uri)
    for count, gate in ((12, FAILED), (10, PASSED), (11, PASSED), (13, SPEED_ALONE)):
        commit = Commit(f"{count:040x}", count)
        record_gate(client, uri, gate, commit, gate_markdown(gate), gate_json(gate))
    return folder


def address(folder: Path) -> str:
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def made_history(*checks: Check, timings: tuple[Timing, ...] = ()) -> History:
    return History("made", checks, tuple(each for each in checks if each.ratios), timings)


def recorded_check(count: int, began: int = 0, mean: float = 0.8, failed: tuple[str, ...] = ()) -> Check:
    cells = {"pair init:shared": Spread(mean, 0.01, ()), "pair init:independent": Spread(mean - 0.1, None, ())}
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
        differences={"pair init:shared": mean - 0.8, "pair init:independent": 0.0},
        ratios={"step:cnn-10": 1.01},
        threshold=1.05,
    )


def printed(history: History) -> str:
    console = Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(history_table(history))
    return capture.get()


def test_the_checks_come_back_in_the_order_of_the_commits(folder: Path) -> None:
    history = read_history("made", address(folder))
    assert [10, 11, 12] == [each.count for each in history.checks]
    assert ["passed", "passed", "failed"] == [each.outcome for each in history.checks]
    last = history.checks[-1]
    assert pytest.approx(0.81) == last.accuracies["pair init:shared"].mean
    assert last.accuracies["pair init:independent"].std is None
    assert ("pair init:shared", "step:cnn-10", "evaluate") == last.failed


def test_the_speed_is_that_of_all_checks_that_timed_it(folder: Path) -> None:
    assert [10, 11, 12, 13] == [each.count for each in read_history("made", address(folder)).speed_checks]
    alone = read_history("speed", address(folder))
    assert [10, 11, 12, 13] == [each.count for each in alone.checks]
    assert [] == accuracy_panels(alone)


def test_of_the_speed_alone_a_check_has_failed_if_a_benchmark_has(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    client = open_regression(address(tmp_path))
    gate = Gate(made_accuracy(made_check()), made_speed(made_benchmark()))
    assert not gate.has_passed
    record_gate(client, address(tmp_path), gate, Commit("a" * 40, 1), "", {})
    (check,) = read_history("speed", address(tmp_path)).checks
    assert ("passed", ()) == (check.outcome, check.failed)


def test_without_a_check_one_line_says_what_to_do(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"^no check of other is recorded in .*: fedbench check other$"):
        read_history("other", address(folder))


def test_of_several_checks_of_a_commit_the_last_is_drawn() -> None:
    checks = [recorded_check(1), recorded_check(2, mean=0.5), recorded_check(2, began=1)]
    assert ([0, 1], checks[::2], ["0101010", "0202020"]) == by_commit(checks)


def test_what_is_of_no_commit_has_a_place_of_its_own_and_its_date() -> None:
    checks = [replace(recorded_check(0, began=day * DAY), commit="none") for day in (1, 2)]
    assert ([0, 1], checks, ["01-02 00:00", "01-03 00:00"]) == by_commit(checks)


def test_a_line_has_each_cells_percent_and_marks_what_failed() -> None:
    history = made_history(recorded_check(1), recorded_check(2, mean=0.7, failed=("pair init:shared",)))
    (panel,) = accuracy_panels(history)
    assert ("pair", "accuracy (%)", ["0101010", "0202020"]) == (panel.title, panel.label, panel.commits)
    assert ["init=shared", "init=independent"] == list(panel.lines)
    shared = panel.lines["init=shared"]
    assert [(0, 80.0, 1.0, False), (1, 70.0, 1.0, True)] == [
        (each.position, round(each.value, 9), each.std, each.failed) for each in shared
    ]
    assert not any(each.failed for each in panel.lines["init=independent"])


def test_a_scenario_of_many_cells_has_several_panels() -> None:
    cells = {f"grid num_clients:{number}": Spread(0.5, 0.1, ()) for number in range(20)}
    panels = accuracy_panels(made_history(replace(recorded_check(1), accuracies=cells)))
    assert ["grid (1 of 3)", "grid (2 of 3)", "grid (3 of 3)"] == [panel.title for panel in panels]
    assert [8, 8, 4] == [len(panel.lines) for panel in panels]


def test_the_timings_have_a_panel_for_each_group_beside_the_ratios() -> None:
    timings = tuple(Timing(f"step[{group}]", group, "ab" * 20, 3, 0, 2.0) for group in ("training", "evaluation"))
    panels = speed_panels(made_history(recorded_check(1), timings=timings))
    assert ["checks of the speed", "benchmarks: training", "benchmarks: evaluation"] == [each.title for each in panels]
    assert [["step[cnn-10]"], ["step[training]"], ["step[evaluation]"]] == [list(each.lines) for each in panels]
    assert 1.05 in panels[0].levels.values()


@pytest.mark.parametrize("number", [1, 2, MAX_LABELS, MAX_LABELS + 1, 1_000])
def test_few_enough_commits_are_named_to_be_read_the_last_among_them(number: int) -> None:
    found = labelled(number)
    assert number - 1 == found[-1]
    assert number <= MAX_LABELS or len(found) <= MAX_LABELS
    assert len(found) == number or number > MAX_LABELS


def test_figures_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    written = write_figures(made_history(recorded_check(1)), tmp_path / "new")
    assert ["history-accuracy.png", "history-speed.png"] == [path.name for path in written]
    assert all(path.read_bytes().startswith(PNG) for path in written)
    without = replace(recorded_check(1), ratios={})
    assert ["history-accuracy.png"] == [path.name for path in write_figures(made_history(without), tmp_path)]


def test_the_table_has_the_last_checks_with_the_worst_cell_and_the_slowest_benchmark() -> None:
    checks = [recorded_check(count) for count in range(1, SHOWN + 3)]
    failed = replace(recorded_check(99, mean=0.74, failed=("pair init:shared",)), ratios={"a": 1.0, "b:c": 1.25})
    lines = printed(made_history(*checks, failed)).splitlines()
    expected = ["1970-01-01", "00:00", "9999999", "failed", "pair", "init=shared", "-6.0", "b[c]", "1.25"]
    assert expected == lines[2].split()
    assert SHOWN == sum(line.startswith("1970") for line in lines)
    assert "3 earlier checks are not listed." == lines[-1].strip()


def test_a_name_in_the_store_is_shown_as_it_is_elsewhere() -> None:
    assert "grid num_clients=2 init=shared" == shown_name("grid num_clients:2 init:shared")
    assert ("step[cnn-10]", "sanity") == (shown_name("step:cnn-10"), shown_name("sanity"))


def test_the_json_has_every_check() -> None:
    document = history_json(made_history(recorded_check(1), recorded_check(2)), ["a.png"])
    assert ("made", ["a.png"], [1, 2]) == (
        document["suite"],
        document["figures"],
        [each["commits"] for each in document["checks"]],
    )
    assert ["pair init=shared", "pair init=independent"] == list(document["checks"][0]["cells"])
    json.dumps(document, allow_nan=False)


# The command


def test_the_command_writes_the_figures_beside_the_store_and_prints_where_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    app(["history", "made"], standalone_mode=False)
    out = capsys.readouterr().out.splitlines()
    expected = [f"mlruns/reports/made/history-{name}.png" for name in ("accuracy", "speed")]
    assert expected == out[-2:]
    assert all(Path(path).read_bytes().startswith(PNG) for path in expected)
    assert 3 == sum("passed" in line or "failed" in line for line in out)


def test_the_json_is_printed_alone_and_figures_are_written_where_they_are_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app(["history", "made", "--json", "--tracking-uri", address(folder)], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert ([], 3) == (document["figures"], len(document["checks"]))
    app(["history", "made", "--json", "--out", str(tmp_path), "--tracking-uri", address(folder)], standalone_mode=False)
    assert 2 == len(json.loads(capsys.readouterr().out)["figures"]) == len(list(tmp_path.glob("*.png")))


def test_a_benchmark_that_is_slower_is_marked(folder: Path) -> None:
    assert Judgement.WORSE is FAILED.speed.benchmarks[0].judgement  # type: ignore[union-attr]
    panel = speed_panels(read_history("made", address(folder)))[0]
    assert [False, False, True] == [each.failed for each in panel.lines["step[cnn-10]"]]
