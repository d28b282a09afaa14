"""Runs of a store, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.reports.layout import number, plain_table
from fedbench.tracking.records import RunRecord

STYLES = {"finished": "green", "failed": "red", "killed": "yellow", "orphaned": "yellow", "running": "cyan"}
HINTS = {
    "orphaned": "orphaned: the process that recorded it has died; fedbench run resumes it.",
    "killed": "killed: it was interrupted; fedbench run resumes it.",
}


def runs_table(runs: Sequence[RunRecord]) -> RenderableType:
    """One line for each run."""
    table = plain_table("run", "cell")
    table.add_column("seed", justify="right")
    table.add_column("status")
    table.add_column("verdict")
    table.add_column("accuracy", justify="right")
    table.add_column("invocation", no_wrap=True)
    several = len({run.tags.get("fedbench.suite") for run in runs}) > 1
    for run in runs:
        tags = {key.removeprefix("fedbench."): value for key, value in run.tags.items()}
        cell, accuracy = tags.get("cell", ""), run.metrics.get("accuracy")
        table.add_row(
            run.run_id[:8],
            f"{tags.get('suite')}: {cell}" if several else cell,
            tags.get("seed", ""),
            Text(run.status, style=STYLES.get(run.status, "dim")),
            tags.get("verdict", ""),
            "" if accuracy is None else f"{100 * accuracy:.1f}",
            tags.get("invocation", ""),
        )
    hints = [hint for status, hint in HINTS.items() if any(run.status == status for run in runs)]
    return Group(table, "", f"{len(runs)} runs.", *hints)


def run_details(run: RunRecord) -> RenderableType:
    """Everything about one run that is worth reading."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _details(run):
        table.add_row(name, value)
    return table


def _details(run: RunRecord) -> Iterable[tuple[str, str]]:
    yield "run", run.run_id
    yield "status", run.status
    yield "started", _time(run.started)
    if run.ended:
        yield "ended", _time(run.ended)
    yield from ((key.removeprefix("fedbench."), value) for key, value in _tags(run).items())
    if commit := run.tags.get("mlflow.source.git.commit"):
        yield "commit", commit + (" (with changes)" if run.tags.get("mlflow.source.git.dirty") == "true" else "")
    yield from sorted(run.params.items())
    yield from ((key, f"{value:.4g}") for key, value in sorted(run.metrics.items()))


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _tags(run: RunRecord) -> dict[str, str]:
    """The tags of fedbench."""
    return {key: value for key, value in sorted(run.tags.items()) if key.startswith("fedbench.")}


def run_json(run: RunRecord) -> dict[str, Any]:
    """A run for machines."""
    return {
        "run_id": run.run_id,
        "status": run.status,
        "began": run.started,
        "ended": run.ended,
        "tags": _tags(run),
        "params": dict(sorted(run.params.items())),
        "metrics": {key: number(value) for key, value in sorted(run.metrics.items())},
    }
