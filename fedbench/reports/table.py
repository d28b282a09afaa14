"""A suite's results as a table for people: percent, mean ± standard deviation over seeds, verdicts in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.measures import MEANINGS, Spread, Verdict

if TYPE_CHECKING:
    from fedbench.reports.results import CellResult
    from fedbench.specs import Suite

STYLES = {
    Verdict.OK: "green",
    Verdict.COLLAPSED: "yellow",
    Verdict.DIVERGED: "red",
    Verdict.FAILED: "red",
    Verdict.SKIPPED: "dim",
}


def results_table(suite: Suite, results: Sequence[CellResult]) -> RenderableType:
    """The table, and below it a line for each verdict that needs explaining."""
    axes = list(dict.fromkeys(axis for each in results for axis in each.cell.axes))
    scenarios = {each.cell.scenario for each in results}
    table = Table(title=suite.name, caption=f"{suite.question}\nPercent, mean ± standard deviation over seeds.")
    if len(scenarios) > 1:
        table.add_column("scenario")
    for name in axes:
        table.add_column(name, justify="right")
    for name in ("accuracy", "balanced", "clients alone", "majority", "seeds"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for each in results:
        scenario = [each.cell.scenario] if len(scenarios) > 1 else []
        values = [_show(getattr(each.cell.spec, name)) for name in axes]
        table.add_row(*scenario, *values, *_measures(each), _verdict(each), end_section=_ends_scenario(each, results))
    return Group(table, *_notes(results))


def _ends_scenario(result: CellResult, results: Sequence[CellResult]) -> bool:
    following = results[results.index(result) + 1 :]
    return bool(following) and following[0].cell.scenario != result.cell.scenario


def _show(value: object) -> str:
    return "all" if value is None else str(value)


def _measures(result: CellResult) -> list[str]:
    if not result.measures:
        return ["", "", "", "", "0"]
    own = [sum(each.values()) / len(each) for each in result.client_accuracy if each]
    return [
        percent(result.measures["accuracy"]),
        percent(result.measures["balanced_accuracy"]),
        f"{100 * sum(own) / len(own):.1f}" if own else "",
        f"{100 * result.measures['majority_rate'].mean:.1f}",
        str(len(result.seeds)),
    ]


def percent(spread: Spread) -> str:
    """``82.4 ± 1.3``; without the spread for a single seed."""
    mean = f"{100 * spread.mean:.1f}"
    return mean if spread.std is None else f"{mean} ± {100 * spread.std:.1f}"


def _verdict(result: CellResult) -> Text:
    text = str(result.verdict)
    if result.reason and result.verdict not in (Verdict.OK, Verdict.SKIPPED):
        text += f" ({result.reason.split(' seeds:')[0]})"
    return Text(text, style=STYLES[result.verdict])


def _notes(results: Sequence[CellResult]) -> list[Text]:
    notes = [
        Text(f"{verdict}: {meaning}.", style=STYLES[verdict])
        for verdict, meaning in MEANINGS.items()
        if any(each.verdict is verdict for each in results)
    ]
    reasons = [
        Text(f"  {each.cell.label}: {each.reason}")
        for each in results
        if each.verdict in (Verdict.FAILED, Verdict.SKIPPED, Verdict.DIVERGED)
    ]
    return notes + reasons
