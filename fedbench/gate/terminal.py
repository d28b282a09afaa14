"""A check for people, on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
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
from fedbench.util.text import one_line

NAME_WIDTH = 12  # at least
FAILED = "bold red"
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

    Parameters
    ----------
    power
        Whether to say how many seeds each cell would need.
    verdict
        Whether the last lines say if it passed, and what failed.
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


def _table(rows: Rows) -> Table:
    """The rows; a name wraps where there is no room, a number does not."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(rows.columns):
        if index in (0, rows.judgement_column):
            table.add_column(name, overflow="fold", min_width=_longest_word(rows, index) if index else NAME_WIDTH)
        else:
            table.add_column(_title(rows, index), justify="right", no_wrap=True)
    for entry, judgement, failed in zip(rows.entries, rows.judgements, rows.failed, strict=True):
        styles = {rows.judgement_column: FAILED if failed else STYLES[judgement]}
        table.add_row(*(Text(one_line(text), style=styles.get(index, "")) for index, text in enumerate(entry)))
    return table


def _longest_word(rows: Rows, index: int) -> int:
    return max((len(word) for entry in rows.entries for word in entry[index].split()), default=0)


def _title(rows: Rows, index: int) -> str:
    """A column's title, on two lines where the entries below are narrower."""
    title = rows.columns[index]
    is_wider = len(title) > max((len(entry[index]) for entry in rows.entries), default=0)
    return "\n".join(title.rsplit(" ", 1)) if is_wider else title
