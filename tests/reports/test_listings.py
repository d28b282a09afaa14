"""Listings for people and machines."""

from __future__ import annotations

import json

import pytest

from fedbench.reports.listings import duration, suite_summary
from fedbench.suites.loading import list_suites, load_suite


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "1 s"), (40.2, "40 s"), (89, "89 s"), (180, "3 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_durations_are_rounded_to_what_a_reader_needs(seconds: float, text: str) -> None:
    assert text == duration(seconds)


def test_a_suites_summary_is_strict_json_with_all_its_cells() -> None:
    suite = load_suite(str(list_suites()["quickstart"]))
    summary = json.loads(json.dumps(suite_summary(suite), allow_nan=False))
    assert ("quickstart", len(suite.runs), len(suite.cells)) == (
        summary["suite"],
        summary["runs"],
        len(summary["cells"]),
    )
    assert suite.cells[0].label == summary["cells"][0]["label"]
