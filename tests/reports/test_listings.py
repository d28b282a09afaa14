"""Listings for machines, and durations."""

from __future__ import annotations

import json

import pytest

from fedbench.reports.listings import suite_summary
from fedbench.suites.files import list_suites
from fedbench.suites.loading import load_suite
from fedbench.util.text import duration, one_line


@pytest.mark.parametrize(
    ("seconds", "short", "precise"),
    [
        (9000, "2.5 h", "2.50 h"),
        (5399, "90 min", "90.0 min"),
        (180, "3.0 min", "3.00 min"),
        (40.2, "40 s", "40.2 s"),
        (2.5, "2.5 s", "2.50 s"),
        (0.0431, "43 ms", "43.1 ms"),
        (4.31e-6, "4.3 µs", "4.31 µs"),
        (0.0, "0.0 ns", "0.00 ns"),
    ],
)
def test_a_duration_is_in_the_unit_that_fits(seconds: float, short: str, precise: str) -> None:
    assert (short, precise) == (duration(seconds, 2), duration(seconds))


def test_a_text_on_one_line_has_nothing_that_a_terminal_must_not_get() -> None:
    assert r"a b \x1b[31mred" == one_line("a\n  b \x1b[31mred")


def test_a_suites_summary_is_strict_json_with_all_its_cells() -> None:
    suite = load_suite(str(list_suites()["quickstart"]))
    summary = json.loads(json.dumps(suite_summary(suite), allow_nan=False))
    assert ("quickstart", len(suite.runs)) == (summary["suite"], summary["runs"])
    assert [cell.label for cell in suite.cells] == [cell["label"] for cell in summary["cells"]]
