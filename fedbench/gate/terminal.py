"""A check for people, on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.gate.checks import Gate, Judgement
from fedbench.gate.text import (
    Rows,
    accuracy_notes,
    accuracy_rows,
    power_notes,
    power_rows,
    speed_notes,
    speed_rows,
    strict_note,
)
from fedbench.reports.fitted import Column, Fitted
from fedbench.util.text import one_line

FAILED = "bold red"
DROPPED = {"samples": 2, "MDE": 1}  # where there is no room, the last first
STYLES = {
    Judgement.SAME: "green",
    Judgement.EQUIVALENT: "green",
    Judgement.NOT_WORSE: "green",
    Judgement.BETTER: "cyan",
    Judgement.WORSE: FAILED,
    Judgement.INCONCLUSIVE: "yellow",
}


def gate_table(gate: Gate, power: bool = False, verdict: bool = True) -> RenderableType:
    """The check for people.

    `power`: with how many seeds each cell would need. `verdict`: with last lines that say if it passed, and what
    failed.
    """
    parts: list[RenderableType] = []
    if gate.accuracy:
        rows, notes = accuracy_rows(gate.accuracy, gate.is_strict), accuracy_notes(gate.accuracy)
        parts += [_table(rows), "", *map(_line, notes), ""]
        if power:
            parts += [_table(power_rows(gate.accuracy)), "", *map(_line, power_notes(gate.accuracy)), ""]
    if gate.speed:
        parts += [_table(speed_rows(gate.speed, gate.is_strict)), "", *map(_line, speed_notes(gate.speed)), ""]
    return Group(*parts, *([*map(Text, strict_note(gate)), *_verdict(gate)] if verdict else []))


def _verdict(gate: Gate) -> list[RenderableType]:
    if gate.has_passed:
        return [Text("passed", style="bold green")]
    return [Text.assemble(("failed: ", FAILED), _line(each)) for each in gate.failures]


def _line(text: str) -> Text:
    return Text(one_line(text))


def _table(rows: Rows) -> Fitted:
    return Fitted(*(_column(rows, index) for index in range(len(rows.columns))))


def _column(rows: Rows, index: int) -> Column:
    is_judgement = index == rows.judgement_column
    styles = [FAILED if failed else STYLES[each] for each, failed in zip(rows.judgements, rows.failed, strict=True)]
    texts = [one_line(entry[index]) for entry in rows.entries]
    entries = [Text(text, style if is_judgement else "") for text, style in zip(texts, styles, strict=True)]
    title = rows.columns[index]
    return Column(title, entries, is_text=is_judgement or index == 0, drop=DROPPED.get(title, 0))
