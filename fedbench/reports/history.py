"""The history of accuracy and speed over commits: for people, and for machines.

`fedbench.gate.history` reads it, `fedbench.reports.history_figures` draws it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.reports.fitted import Column, Fitted
from fedbench.reports.layout import bounds_text
from fedbench.stats import Spread
from fedbench.util.commits import short_commit

SHOWN = 10  # checks in the table


@dataclass(frozen=True)
class Check:
    """A recorded check.

    Attributes
    ----------
    began
        In milliseconds since 1970.
    commit, count
        What was checked, and how many commits lead to it; see `fedbench.util.commits.Commit`.
    metric
        The metric of `accuracies`; empty for a check of the speed alone.
    failed
        The cells and benchmarks that failed.
    accuracies, differences
        By cell: mean and standard deviation over seeds, and the difference from the baseline.
    ratios
        By benchmark: the time over the time before.
    intervals
        Of the differences and the ratios, by cell or benchmark. Older checks lack them, and `seeds`.
    seeds
        By cell, the number of seeds.
    threshold
        The ratio above which a benchmark is slower; NaN without benchmarks.
    """

    run_id: str
    began: int
    suite: str
    commit: str
    count: int
    outcome: str
    metric: str = ""
    failed: tuple[str, ...] = ()
    accuracies: dict[str, Spread] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    threshold: float = math.nan


@dataclass(frozen=True)
class Timing:
    """A benchmark's multiple of the yardstick at a commit, from the experiment `speed`."""

    benchmark: str
    group: str
    commit: str
    count: int
    began: int
    multiple: float


@dataclass(frozen=True)
class History:
    """The checks of a suite, and the timings; each by commit, and within a commit by time.

    Attributes
    ----------
    checks
        The suite's.
    speed_checks
        Those of any suite that timed benchmarks.
    timings
        Those of the experiment `speed`.
    """

    suite: str
    checks: tuple[Check, ...]
    speed_checks: tuple[Check, ...]
    timings: tuple[Timing, ...]


def date(milliseconds: int) -> datetime:
    """A time in the store."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def history_table(history: History) -> RenderableType:
    """The last checks, latest first."""
    shown = history.checks[: -SHOWN - 1 : -1]
    worst = [_entries(each, min(each.differences.items(), key=_value, default=None), 100, "+.1f") for each in shown]
    slowest = [_entries(each, max(each.ratios.items(), key=_value, default=None), 1, ".2f") for each in shown]
    passed = {True: "green", False: "bold red"}
    table = Fitted(
        Column("date", [f"{date(each.began):%Y-%m-%d\n%H:%M}" for each in shown]),
        Column("commit", [short_commit(each.commit) for each in shown]),
        Column("outcome", [Text(each.outcome, passed[each.outcome == "passed"]) for each in shown]),
        Column("worst cell", [name for name, _ in worst], is_text=True),
        Column("change", [value for _, value in worst]),
        Column("slowest benchmark", [name for name, _ in slowest], is_text=True),
        Column("ratio", [value for _, value in slowest]),
    )
    left_out = len(history.checks) - SHOWN
    notes = [
        "Dates in UTC. Change: against the baseline, in points, the mean over the check's seeds. Ratio: the time over "
        "the time before. Below each its interval, where it was recorded."
    ]
    return Group(table, "", *notes, *([f"{left_out} earlier checks are not listed."] if left_out > 0 else []))


def _value(pair: tuple[str, float]) -> float:
    return pair[1]


def _entries(check: Check, found: tuple[str, float] | None, scale: float, form: str) -> tuple[str, str]:
    """The name, and the value above its interval."""
    if found is None:
        return "", ""
    name, value = found
    return name, f"{scale * value:{form}}\n{bounds_text(check.intervals.get(name), form, scale)}".rstrip()


def history_json(history: History, figures: Sequence[str]) -> dict[str, Any]:
    """The history for machines; see docs/reference/json.md."""
    return {
        "suite": history.suite,
        "figures": list(figures),
        "checks": [_check_json(each) for each in history.checks],
        "timings": [
            {
                "benchmark": each.benchmark,
                "group": each.group,
                "began": each.began,
                "commit": each.commit,
                "commits": each.count,
                "yardstick_multiple": each.multiple,
            }
            for each in history.timings
        ],
    }


def _check_json(check: Check) -> dict[str, Any]:
    return {
        "run_id": check.run_id,
        "began": check.began,
        "commit": check.commit,
        "commits": check.count,
        "outcome": check.outcome,
        "failed": list(check.failed),
        "metric": check.metric or None,
        "cells": {
            name: {
                "mean": each.mean,
                "std": each.std,
                "seeds": check.seeds.get(name),
                "difference": check.differences.get(name),
                "interval": list(check.intervals.get(name, ())),
            }
            for name, each in check.accuracies.items()
        },
        "ratios": dict(check.ratios),
        "ratio_intervals": {name: list(bounds) for name, bounds in check.intervals.items() if name in check.ratios},
    }
