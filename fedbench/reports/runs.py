"""Runs of a store, for people and machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.reports.suite_results import number

if TYPE_CHECKING:
    from fedbench.tracking.mlflow.listing import ListedRun

STYLES = {"finished": "green", "failed": "red", "killed": "yellow", "orphaned": "yellow", "running": "cyan"}
HINTS = {
    "orphaned": "orphaned: the process that recorded it has died; fedbench run takes it up.",
    "killed": "killed: it was interrupted; fedbench run takes it up.",
}


def runs_table(runs: Sequence[ListedRun]) -> RenderableType:
    """One line a run."""
    table = Table("run", "cell", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("seed", justify="right")
    table.add_column("status")
    table.add_column("verdict")
    table.add_column("accuracy", justify="right")
    table.add_column("invocation", no_wrap=True)
    several = len({each.run.data.tags.get("fedbench.suite") for each in runs}) > 1
    for each in runs:
        tags = each.run.data.tags
        cell = tags.get("fedbench.cell", "")
        accuracy = each.run.data.metrics.get("accuracy")
        table.add_row(
            each.run_id[:8],
            f"{tags.get('fedbench.suite')}: {cell}" if several else cell,
            tags.get("fedbench.seed", ""),
            Text(each.status, style=STYLES.get(each.status, "dim")),
            tags.get("fedbench.verdict", ""),
            "" if accuracy is None else f"{100 * accuracy:.1f}",
            tags.get("fedbench.invocation", ""),
        )
    hints = [hint for status, hint in HINTS.items() if any(each.status == status for each in runs)]
    return Group(table, "", f"{len(runs)} runs.", *hints)


def run_details(each: ListedRun) -> RenderableType:
    """Everything about one run that is worth reading."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _details(each):
        table.add_row(name, value)
    return table


def _details(each: ListedRun) -> Iterable[tuple[str, str]]:
    tags, info = each.run.data.tags, each.run.info
    yield "run", each.run_id
    yield "status", each.status
    if each.owner:
        yield "worked on by", f"process {each.owner.pid} on {each.owner.machine}"
    yield "began", _time(info.start_time)
    if info.end_time:
        yield "ended", _time(info.end_time)
    for key in sorted(tags):
        if key.startswith("fedbench.") and not key.startswith("fedbench.claim."):
            yield key.removeprefix("fedbench."), tags[key]
    if commit := tags.get("mlflow.source.git.commit"):
        yield "commit", commit + (" (with changes)" if tags.get("mlflow.source.git.dirty") == "true" else "")
    for key, value in sorted(each.run.data.params.items()):
        yield key, value
    for key, measured in sorted(each.run.data.metrics.items()):
        yield key, f"{measured:.4g}"


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def run_json(each: ListedRun) -> dict[str, Any]:
    """The same for machines."""
    tags = each.run.data.tags
    return {
        "run_id": each.run_id,
        "status": each.status,
        "began": each.run.info.start_time,
        "ended": each.run.info.end_time,
        "tags": {key: tags[key] for key in sorted(tags) if key.startswith("fedbench.") and ".claim." not in key},
        "params": dict(sorted(each.run.data.params.items())),
        "metrics": {key: number(value) for key, value in sorted(each.run.data.metrics.items())},
    }
