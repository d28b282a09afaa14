"""A check as GitHub's Markdown: for a job's summary, a comment on a pull request, the description of a run."""

from __future__ import annotations

from collections.abc import Sequence

from fedbench.gate.checks import Gate
from fedbench.gate.text import (
    Rows,
    accuracy_notes,
    accuracy_rows,
    benchmark_judgement,
    cell_judgement,
    speed_notes,
    speed_rows,
    strict_note,
    title_of,
)
from fedbench.util.text import one_line

# What Markdown or HTML would interpret is written as a character reference. A mention is broken up as well: it would
# notify its owner however it is written.
SPECIAL = {ord(each): f"&#{ord(each)};" for each in "\\`*_{}[]<>&|~$#"} | {ord("@"): "&#64;&#8203;"}


def gate_markdown(gate: Gate) -> str:
    """The check as Markdown: a headline with the verdict, what failed, the tables; folded if it passed."""
    lines = [f"### {escaped(title_of(gate))}: {'passed' if gate.has_passed else 'failed'}", ""]
    if not gate.has_passed:
        lines += [*(f"- {escaped(failure)}" for failure in gate.failures), ""]
    if accuracy := gate.accuracy:
        summary = _summary("cell", [cell_judgement(each) for each in accuracy.cells])
        lines += _part(summary, accuracy_rows(accuracy, gate.is_strict), accuracy_notes(accuracy), gate.has_passed)
    if speed := gate.speed:
        summary = _summary("benchmark", [benchmark_judgement(each) for each in speed.benchmarks])
        lines += _part(summary, speed_rows(speed, gate.is_strict), speed_notes(speed), gate.has_passed)
    return "\n".join([*lines, *(f"{escaped(note)}\n" for note in strict_note(gate))]).rstrip() + "\n"


def _summary(what: str, judgements: Sequence[str]) -> str:
    """How many there are of each judgement: ``4 cells: 3 same, 1 worse``."""
    counts = ", ".join(f"{judgements.count(each)} {each}" for each in dict.fromkeys(judgements))
    return f"{len(judgements)} {what}{'' if len(judgements) == 1 else 's'}: {counts}"


def _part(summary: str, rows: Rows, notes: Sequence[str], is_folded: bool) -> list[str]:
    details = [*_table(rows), "", *(f"- {escaped(note)}" for note in notes), ""]
    if is_folded:  # GitHub requires empty lines around Markdown in HTML
        return ["<details>", f"<summary>{escaped(summary)}</summary>", "", *details, "</details>", ""]
    return [f"{escaped(summary)}", "", *details]


def _table(rows: Rows) -> list[str]:
    aligned = ["---" if index in (0, rows.judgement_column) else "---:" for index in range(len(rows.columns))]
    lines = [[escaped(name) for name in rows.columns], aligned]
    for entry, failed in zip(rows.entries, rows.failed, strict=True):
        cells = [escaped(text) for text in entry]
        if failed and (index := rows.judgement_column) is not None:
            cells[index] = f"**{cells[index]}**"
        lines.append(cells)
    return [f"| {' | '.join(line)} |" for line in lines]


def escaped(text: str) -> str:
    """A text on one line that Markdown shows as it is."""
    return one_line(text).translate(SPECIAL)
