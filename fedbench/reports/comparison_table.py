"""A comparison for people and for machines."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.measures import ROUNDS_TO_TARGET
from fedbench.reports.compare import Change, Comparison, count_changes
from fedbench.reports.suite_results import number
from fedbench.stats import CONFIDENCE, Spread

RATES = ("accuracy", "balanced_accuracy", "averaging_gain")  # shown in percent
UNITS = {**dict.fromkeys(RATES, "percent"), "loss": "nats", "train_loss": "nats", ROUNDS_TO_TARGET: "rounds"}
STYLES = {Change.BETTER: "green", Change.WORSE: "red", Change.UNCLEAR: "", Change.EQUAL: "dim", Change.ONE_SEED: "dim"}


def comparison_table(comparison: Comparison) -> RenderableType:
    """The comparison for people."""
    scale = 100 if comparison.metric in RATES else 1
    digits = 1 if scale == 100 else 3
    table = Table("cell", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("A", "B", "B − A", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("B is")
    several = len({cell.suite for cell in comparison.cells}) > 1
    for cell in comparison.cells:
        bounds = "" if cell.interval is None else " to ".join(f"{scale * each:+.{digits}f}" for each in cell.interval)
        changed = f" ({cell.verdicts[0]} → {cell.verdicts[1]})" if cell.verdicts[0] != cell.verdicts[1] else ""
        table.add_row(
            f"{cell.suite}: {cell.label}" if several else cell.label,
            _shown(cell.first, scale, digits),
            _shown(cell.second, scale, digits),
            f"{scale * cell.difference:+.{digits}f}",
            bounds,
            Text(f"{cell.change}{changed}", style=STYLES[cell.change]),
        )
    return Group(table, "", *_notes(comparison))


def _shown(spread: Spread, scale: float, digits: int) -> str:
    return f"{scale * spread.mean:.{digits}f}" + ("" if spread.std is None else f" ± {scale * spread.std:.{digits}f}")


def _notes(comparison: Comparison) -> list[str]:
    unit = UNITS.get(comparison.metric, "its own unit")
    counts = count_changes(comparison)
    tested = sum(cell.interval is not None for cell in comparison.cells if cell.change is not Change.EQUAL)
    notes = [
        f"A: {comparison.names[0]}",
        f"B: {comparison.names[1]}",
        f"{comparison.metric} in {unit}, mean ± standard deviation over seeds.",
        ", ".join(f"{count} {change}" for change, count in counts.items() if count) + ".",
    ]
    if tested > 1:
        notes.append(
            f"Where nothing changed, the interval leaves out zero in 1 of {round(1 / (1 - CONFIDENCE))} cells "
            f"all the same: expect {(1 - CONFIDENCE) * tested:.1f} of {tested}."
        )
    for name, labels in (("A", comparison.only_first), ("B", comparison.only_second)):
        if labels:
            notes.append(f"Only in {name}: {', '.join(labels)}.")
    return notes


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for machines; see docs/results-json.md."""

    def side(over: Spread) -> dict[str, Any]:
        return {"mean": number(over.mean), "std": number(over.std), "values": [number(value) for value in over.values]}

    return {
        "metric": comparison.metric,
        "a": comparison.names[0],
        "b": comparison.names[1],
        "changes": {str(change): count for change, count in count_changes(comparison).items()},
        "cells": [
            {
                "suite": cell.suite,
                "label": cell.label,
                "a": side(cell.first),
                "b": side(cell.second),
                "difference": number(cell.difference),
                "ci95": [number(bound) for bound in cell.interval or ()],
                "paired": cell.paired,
                "change": str(cell.change),
                "verdicts": list(cell.verdicts),
            }
            for cell in comparison.cells
        ],
        "only_a": list(comparison.only_first),
        "only_b": list(comparison.only_second),
    }
