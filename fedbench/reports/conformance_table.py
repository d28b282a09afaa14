"""A suite's conformance for people and for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.reports.conformance import OUTSIDE, Conformance, ConformanceRow
from fedbench.reports.suite_results import number
from fedbench.suites.conformance_schema import Measure

if TYPE_CHECKING:
    from fedbench.suites.schema import Suite

STYLES = {Conformance.WITHIN: "green", Conformance.BELOW: "red", Conformance.ABOVE: "red"}
UNITS = {
    Measure.ROUNDS_TO_TARGET: "rounds until the test accuracy reaches the target",
    Measure.INTERPOLATION_GAIN: "nats by which the average's loss is below that of the better of the two models",
}


def conformance_table(suite: Suite, rows: Sequence[ConformanceRow]) -> RenderableType:
    """The rows as a table, and what it comes to."""
    table = Table("row", title=suite.name, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    with_speedups = any(row.reference.speedup_over for row in rows)
    names = ("paper", "ours", "seeds", "band", *(("speed-up\npaper", "speed-up\nours") if with_speedups else ()))
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        speedups = (_factor(row.paper_speedup), _factor(row.speedup)) if with_speedups else ()
        table.add_row(
            row.reference.scenario,
            _show(row.reference.paper),
            _ours(row),
            str(len(row.values) or ""),
            _band(row),
            *speedups,
            Text(row.verdict, style=STYLES.get(row.verdict, "")),
        )
    measures = dict.fromkeys(row.reference.measure for row in rows)
    return Group(table, "", f"{suite.question}", *(f"{_sentence(UNITS[each])}." for each in measures), summary(rows))


def summary(rows: Sequence[ConformanceRow]) -> str:
    """How many rows are reproduced, in words."""
    counts = Counter(row.verdict for row in rows)
    decided = counts[Conformance.WITHIN] + sum(counts[each] for each in OUTSIDE)
    rest = [f"{counts[each]} {each}" for each in Conformance if each not in (Conformance.WITHIN, *OUTSIDE)]
    left = ", ".join(each for each in rest if not each.startswith("0 "))
    return f"{counts[Conformance.WITHIN]} of {decided} rows are within their bands" + (f"; {left}." if left else ".")


def conformance_json(suite: Suite, rows: Sequence[ConformanceRow]) -> dict[str, Any]:
    """The same for machines; what is not known is null."""
    return {
        "suite": suite.name,
        "rows": [
            {
                "scenario": row.reference.scenario,
                "measure": str(row.reference.measure),
                "paper": row.reference.paper,
                "band": list(row.reference.band) if row.reference.band else None,
                "mean": number(row.ours.mean) if row.ours else None,
                "std": number(row.ours.std) if row.ours else None,
                "values": [number(value) for value in row.values],
                "budget": row.budget,
                "speedup_over": row.reference.speedup_over,
                "paper_speedup": row.paper_speedup,
                "speedup": row.speedup,
                "verdict": str(row.verdict),
            }
            for row in rows
        ],
    }


def _ours(row: ConformanceRow) -> str:
    if not row.values:
        return ""
    if row.ours is None:
        reached = sum(value is not None for value in row.values)
        return f"{reached}/{len(row.values)} in {row.budget}" if reached else f"not in {row.budget}"
    digits = 0 if row.reference.measure is Measure.ROUNDS_TO_TARGET else 3
    over = row.ours
    return f"{over.mean:.{digits}f}" + ("" if over.std is None else f" ± {over.std:.{digits}f}")


def _band(row: ConformanceRow) -> str:
    if row.reference.band is None:
        return ""
    low, high = row.reference.band
    if low is None:
        return f"up to {high:g}"
    return f"from {low:g}" if high is None else f"{low:g} to {high:g}"


def _show(paper: object) -> str:
    return "–" if paper is None else f"{paper:g}" if isinstance(paper, int | float) else str(paper)


def _factor(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}x"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
