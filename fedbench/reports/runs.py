"""Runs of a store, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.reports.fitted import Column, Fitted, Pairs
from fedbench.reports.layout import number
from fedbench.tracking.records import RunRecord
from fedbench.util.text import counted

STYLES = {"finished": "green", "failed": "red", "killed": "yellow", "orphaned": "yellow", "running": "cyan"}
NEXT = "fedbench run resumes it, or deletes it if the same was finished by another."
HINTS = {
    "orphaned": f"orphaned: the process that recorded it has died; {NEXT}",
    "killed": f"killed: it was interrupted; {NEXT}",
}


def runs_table(runs: Sequence[RunRecord]) -> RenderableType:
    """One line for each run."""
    several = len({run.tags.get("fedbench.suite") for run in runs}) > 1
    accuracies = [run.metrics.get("accuracy") for run in runs]

    def tag(name: str) -> list[str]:
        return [run.tags.get(f"fedbench.{name}", "") for run in runs]

    pairs = zip(tag("suite"), tag("cell"), strict=True)
    table = Fitted(
        Column("run", [run.run_id[:8] for run in runs]),
        Column("cell", [f"{suite}: {cell}" if several else cell for suite, cell in pairs], is_text=True),
        Column("seed", tag("seed")),
        Column("status", [Text(run.status, STYLES.get(run.status, "dim")) for run in runs], is_text=True),
        Column("verdict", tag("verdict"), is_text=True),
        Column("accuracy", ["" if value is None else f"{100 * value:.1f}" for value in accuracies]),
        Column("invocation", tag("invocation"), drop=1),
    )
    hints = [hint for status, hint in HINTS.items() if any(run.status == status for run in runs)]
    return Group(table, "", f"{counted(len(runs), 'run')}.", *hints)


def run_details(run: RunRecord) -> RenderableType:
    """Everything about one run that is worth reading."""
    return Pairs(_details(run))


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
