"""Tables in a terminal of any width: every number is there to the last digit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_gate import FAILED
from made_study import made_result
from made_suite import made_suite, shown, stored_suite
from made_timings import COPY, STEP, made_measurement
from rich.console import RenderableType
from rich.text import Text

from fedbench.datasets import dataset_statuses
from fedbench.gate.terminal import gate_table
from fedbench.reports.benchmarks import speed_table
from fedbench.reports.comparison import compare, comparison_table
from fedbench.reports.conformance import ConformanceRow, conformance_table
from fedbench.reports.fitted import Column, Fitted, Pairs
from fedbench.reports.history import Check, History, history_table
from fedbench.reports.listings import cells_table, datasets_table, estimate_table, findings_table, suites_table
from fedbench.reports.parts import fields_table, options_table, parts_table
from fedbench.reports.results import results_table
from fedbench.reports.runs import run_details, runs_table
from fedbench.reports.tuning import tuning_table
from fedbench.runs.doctor import Finding
from fedbench.runs.estimate import CellEstimate
from fedbench.suites.catalogue import list_parts, scenario_fields
from fedbench.suites.listing import load_suites
from fedbench.suites.loading import load_suite
from fedbench.tracking.records import RunRecord

CELLS = ["grid examples_per_client=100 init=shared", "two-models"]
TABLE = Fitted(
    Column("cell", CELLS, is_text=True),
    Column("accuracy", ["69.4 ± 10.2", "7.0 ± 1.2"]),
    Column("95 % interval", ["+10.4 to +16.7", ""]),
    Column("seeds", ["5 pairs", "5, 3"], drop=1),
    Column("B is", ["no clear difference (ok → collapsed)", Text("better", "green")], is_text=True),
    title="made",
)


def test_with_room_each_row_is_a_line() -> None:
    lines = [line.rstrip() for line in shown(TABLE, 120).splitlines()]
    assert ["made", "cell", "─", "grid", "two-models"] == [
        line.strip("─").split()[0] if line.strip("─") else "─" for line in lines
    ]
    assert lines[3].endswith("  69.4 ± 10.2  +10.4 to +16.7  5 pairs  no clear difference (ok → collapsed)")


def test_then_text_wraps_and_columns_are_left_out_by_name() -> None:
    text = shown(TABLE, 60)
    assert "Left out in 60 columns: seeds." in text
    assert "5 pairs" not in text
    assert all(len(line) <= 60 for line in text.splitlines())


def test_then_rows_become_blocks() -> None:
    assert [
        "made",
        "cell           grid",
        "               examples_per_client=100",
        "               init=shared",
        "accuracy       69.4 ± 10.2",
        "95 % interval  +10.4 to +16.7",
        "seeds          5 pairs",
        "B is           no clear difference (ok →",
        "               collapsed)",
        "",
        "cell           two-models",
        "accuracy       7.0 ± 1.2",
        "seeds          5, 3",
        "B is           better",
    ] == [line.rstrip() for line in shown(TABLE, 40).splitlines()]


def test_a_value_longer_than_its_room_is_below_its_name_and_a_longer_one_is_broken() -> None:
    path = "/home/me/" + "a" * 40
    lines = shown(Pairs([("a long name of a value", "0123456789 0123456789"), ("path", path)]), 40).splitlines()
    assert ["a long name of a value", "  0123456789 0123456789", "path"] == [line.rstrip() for line in lines[:3]]
    assert path == "".join(line.strip() for line in lines[3:])
    assert "" == shown(Pairs([]), 40)


def assert_whole(table: RenderableType, width: int) -> None:
    """No line is too long; each number, and each name up to where it may be split, is there or its column is named."""
    text = shown(table, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    found = text.split()
    for fitted in [table] if isinstance(table, Fitted) else getattr(table, "renderables", []):
        if isinstance(fitted, Fitted):
            _, _, left_out = " ".join(found).partition(f"Left out in {width} columns: ")
            for column in fitted.columns:
                for word in (word for line in column.lines for word in line.split() if column.title not in left_out):
                    parts = re.findall(r"[^=_/]*[=_/]+|[^=_/]+", word) if column.is_text else [word]
                    assert all(part in text if column.is_text else part in found for part in parts if len(part) < 40)


words = st.sampled_from(["lr=0.0694", "examples_per_client=1234", "./net.py:Net", "mnist-5k", "12 of 25", ""])
numbers = st.sampled_from(["69.4 ± 10.2", "12,345", "+1.4 to +16.7\n98.7", "-0.003", "0.1 µs", ""])


@given(
    width=st.integers(40, 200),
    rows=st.lists(st.tuples(words, words, numbers, numbers, numbers, words), min_size=1, max_size=4),
    drops=st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_no_number_is_ever_cut(width: int, rows: list[tuple[str, ...]], drops: list[int]) -> None:
    columns = [
        Column(f"title {index}", entries, is_text=index in (0, 1, 5), drop=drops[index])
        for index, entries in enumerate(zip(*rows, strict=True))
    ]
    assert_whole(Fitted(*columns), width)


TABLES: dict[str, Callable[[Path], RenderableType]] = {
    "run": lambda folder: results_table(
        "made", "Why?", [cell.result for cell in stored_suite(made_suite(folder)).cells]
    ),
    "compare": lambda folder: comparison_table(
        compare([stored_suite(made_suite(folder))], [stored_suite(made_suite(folder))], ("a", "b"), "accuracy")
    ),
    "runs": lambda folder: runs_table(
        [run for cell in stored_suite(made_suite(folder)).cells for run in cell.runs.values()]
    ),
    "runs show": lambda _: run_details(
        RunRecord("0" * 32, "finished", 0, 1, {"fedbench.suite": "made"}, {"seed": "0"}, {"loss": 0.25})
    ),
    "suites": lambda _: suites_table(load_suites()[0]),
    "suites SUITE": lambda _: cells_table(load_suite("client-grid-mnist")),
    "run --dry-run": lambda folder: estimate_table(
        suite := made_suite(folder), [CellEstimate(cell, 12_345, 6789.0, None) for cell in suite.cells], 2
    ),
    "history": lambda _: history_table(
        History(
            "made", (Check("0", 0, "made", "c0ffee1", 3, "failed", "accuracy", ratios={"step[cnn-10]": 1.25}),), (), ()
        )
    ),
    "tune": lambda _: tuning_table(made_result()),
    "check": lambda _: gate_table(FAILED, power=True),
    "bench": lambda _: speed_table(made_measurement(STEP, COPY)),
    "doctor": lambda _: findings_table(
        [Finding("packages", "ok", "torch 2.14.1, mlflow 3.17.2 in /a/long/path/" + "a" * 60)]
    ),
    "data list": lambda folder: datasets_table(dataset_statuses(folder)),
    "conformance": lambda _: conformance_table(
        suite := load_suite("paper-table2"),
        [ConformanceRow(each, (620.0, None, 710.5), 1000) for each in suite.conformance],
    ),
    "components": lambda _: parts_table(list_parts(None)),
    "suites --fields": lambda _: fields_table(scenario_fields()),
    "components KIND": lambda _: options_table(list_parts("algorithm")),
}


@pytest.mark.parametrize("command", TABLES)
def test_no_command_cuts_a_number_in_a_terminal_of_any_width(command: str, tmp_path: Path) -> None:
    table = TABLES[command](tmp_path)
    for width in range(40, 201, 8):
        assert_whole(table, width)


@pytest.mark.parametrize("entry", ["", "\n", " ", "a\n\nb"])
def test_empty_entries_and_lines_stay(entry: str) -> None:
    lines = shown(Fitted(Column("a", [entry], is_text=True), Column("b", ["1"])), 40).splitlines()
    assert len(lines) == 2 + max(1, entry.count("\n") + 1)
