"""The history of a suite's checks for people, and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.reports.history import Check, History, shown_name
from fedbench.util.commits import short_commit

SHOWN = 10  # checks in the table


def history_table(history: History) -> RenderableType:
    """The last checks, the latest first."""
    table = Table("date", "commit", "outcome", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("worst cell", overflow="fold")
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("slowest benchmark", overflow="fold")
    table.add_column("ratio", justify="right", no_wrap=True)
    for check in history.checks[: -SHOWN - 1 : -1]:
        worst = min(check.differences.items(), key=lambda pair: pair[1], default=None)
        slowest = max(check.ratios.items(), key=lambda pair: pair[1], default=None)
        table.add_row(
            Text(f"{date(check.began):%Y-%m-%d %H:%M}"),
            Text(short_commit(check.commit)),
            Text(check.outcome, style="green" if check.outcome == "passed" else "bold red"),
            *(("", "") if worst is None else (Text(shown_name(worst[0])), f"{100 * worst[1]:+.1f}")),
            *(("", "") if slowest is None else (Text(shown_name(slowest[0])), f"{slowest[1]:.2f}")),
        )
    left_out = len(history.checks) - SHOWN
    notes = ["Dates in UTC. Change: against the baseline, in points. Ratio: the time over the time before."]
    return Group(table, "", *notes, *([f"{left_out} earlier checks are not listed."] if left_out > 0 else []))


def date(milliseconds: int) -> datetime:
    """A time of the store's."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def history_json(history: History, figures: Sequence[str]) -> dict[str, Any]:
    """The history for machines; see docs/results-json.md."""
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
        "failed": [shown_name(name) for name in check.failed],
        "metric": check.metric or None,
        "cells": {
            shown_name(name): {"mean": each.mean, "std": each.std, "difference": check.differences.get(name)}
            for name, each in check.accuracies.items()
        },
        "ratios": {shown_name(name): ratio for name, ratio in check.ratios.items()},
    }
