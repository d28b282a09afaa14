"""A check for people, on a terminal, and for machines; gate_markdown.py and junit.py have the other forms."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.gate.checks import (
    AccuracyCheck,
    Gate,
    Judgement,
    SpeedCheck,
    benchmark_failure,
    cell_failure,
)
from fedbench.gate.statistics import LEVEL, POWER
from fedbench.gate.text import (
    Rows,
    accuracy_notes,
    accuracy_rows,
    on_one_line,
    power_note,
    power_rows,
    speed_notes,
    speed_rows,
    strict_note,
)
from fedbench.reports.layout import number
from fedbench.stats import Spread

NAME_WIDTH = 12  # at least
FAILED = "bold red"
STYLES = {
    Judgement.SAME: "green",
    Judgement.EQUIVALENT: "green",
    Judgement.NOT_WORSE: "green",
    Judgement.BETTER: "cyan",
    Judgement.WORSE: FAILED,
    Judgement.CANNOT_TELL: "yellow",
}


def gate_table(gate: Gate, power: bool = False, verdict: bool = True) -> RenderableType:
    """The check for people.

    Parameters
    ----------
    power
        Whether to say how many seeds each cell would need.
    verdict
        Whether the last lines say if it passed, and what failed.
    """
    parts: list[RenderableType] = []
    if gate.accuracy:
        parts += [
            _table(accuracy_rows(gate.accuracy, gate.is_strict)),
            "",
            *map(_line, accuracy_notes(gate.accuracy)),
            "",
        ]
        if power:
            parts += [_table(power_rows(gate.accuracy)), "", Text(power_note(gate.accuracy)), ""]
    if gate.speed:
        parts += [_table(speed_rows(gate.speed, gate.is_strict)), "", *map(_line, speed_notes(gate.speed)), ""]
    return Group(*parts, *([*map(Text, strict_note(gate)), *_verdict(gate)] if verdict else []))


def _verdict(gate: Gate) -> list[RenderableType]:
    if gate.has_passed:
        return [Text("passed", style="bold green")]
    return [Text.assemble(("failed: ", FAILED), _line(each)) for each in gate.failures]


def _line(text: str) -> Text:
    return Text(on_one_line(text))


def _table(rows: Rows) -> Table:
    """The rows; a name is wrapped where there is no room, a number is not."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(rows.columns):
        if index in (0, rows.judgement_column):
            table.add_column(name, overflow="fold", min_width=_longest_word(rows, index) if index else NAME_WIDTH)
        else:
            table.add_column(_title(rows, index), justify="right", no_wrap=True)
    for entry, judgement, failed in zip(rows.entries, rows.judgements, rows.failed, strict=True):
        style = FAILED if failed else STYLES[judgement]
        table.add_row(
            *(
                Text(on_one_line(text), style=style if index == rows.judgement_column else "")
                for index, text in enumerate(entry)
            )
        )
    return table


def _longest_word(rows: Rows, index: int) -> int:
    return max(len(word) for entry in rows.entries for word in entry[index].split()) if rows.entries else 0


def _title(rows: Rows, index: int) -> str:
    """A column's title, on several lines where what is below it is narrower."""
    title = rows.columns[index]
    is_wider = len(title) > max((len(entry[index]) for entry in rows.entries), default=0)
    return "\n".join(title.rsplit(" ", 1)) if is_wider else title


def gate_json(gate: Gate) -> dict[str, Any]:
    """The check for machines; see docs/results-json.md. What is not a finite number is null."""
    return {
        "passed": gate.has_passed,
        "strict": gate.is_strict,
        "failures": list(gate.failures),
        "level": LEVEL,
        "power": POWER,
        "accuracy": _accuracy_json(gate.accuracy, gate.is_strict) if gate.accuracy else None,
        "speed": _speed_json(gate.speed, gate.is_strict) if gate.speed else None,
    }


def _accuracy_json(accuracy: AccuracyCheck, is_strict: bool) -> dict[str, Any]:
    return {
        "suite": accuracy.suite,
        "metric": accuracy.metric,
        "margin": accuracy.margin,
        "baseline_commit": accuracy.baseline_commit,
        "other_environment": list(accuracy.other_environment),
        "compares_bits": accuracy.compares_bits,
        "seconds": number(accuracy.seconds),
        "cells": [
            {
                "scenario": each.cell.scenario,
                "label": each.cell.label,
                "judgement": str(each.judgement),
                "reason": each.reason,
                "changed": each.changed,
                "failure": cell_failure(each, is_strict),
                "baseline": _spread_json(each.baseline),
                "now": _spread_json(each.now),
                "difference": number(each.difference),
                "ci95": [number(bound) for bound in each.interval or ()],
                "paired": each.is_paired,
                "least_effect": number(each.least_effect),
                "seeds_needed": each.seeds_needed,
                "fresh_seeds_needed": each.fresh_seeds_needed,
            }
            for each in accuracy.cells
        ],
    }


def _spread_json(spread: Spread) -> dict[str, Any]:
    return {
        "mean": number(spread.mean),
        "std": number(spread.std),
        "values": [number(value) for value in spread.values],
    }


def _speed_json(speed: SpeedCheck, is_strict: bool) -> dict[str, Any]:
    return {
        "against": speed.against,
        "against_commit": speed.against_commit,
        "threshold": speed.threshold,
        "unit": speed.unit,
        "machine": speed.machine,
        "seconds": number(speed.seconds),
        "benchmarks": [
            {
                "name": each.name,
                "group": each.group,
                "judgement": str(each.judgement),
                "reason": each.reason,
                "failure": benchmark_failure(each, is_strict),
                "before": number(each.before),
                "now": number(each.now),
                "ratio": number(each.ratio),
                "interval": [number(bound) for bound in each.interval or ()],
                "samples": each.samples,
            }
            for each in speed.benchmarks
        ],
    }
