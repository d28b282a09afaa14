"""A suite's results as a table for people: percent, mean ± standard deviation over seeds, verdicts in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench.measures import MEANINGS, Verdict
from fedbench.stats import Spread, spread_if_all
from fedbench.suites.schema import OWNERS

if TYPE_CHECKING:
    from fedbench.reports.suite_results import CellResult
    from fedbench.suites.schema import Cell, Suite

CLIENTS_ALONE = "Clients alone: how good their own models are, on average, just before the last averaging."
DEMANDS = ("target_accuracy", "require_accuracy")  # fields of which None is none
STYLES = {
    Verdict.OK: "green",
    Verdict.COLLAPSED: "yellow",
    Verdict.DIVERGED: "red",
    Verdict.FAILED: "red",
    Verdict.SKIPPED: "dim",
}


def results_table(suite: Suite, results: Sequence[CellResult]) -> RenderableType:
    """The table, narrow enough for a terminal of 80 columns, and below it what needs explaining."""
    axes = list(dict.fromkeys(axis for each in results for axis in each.cell.axes))
    columns: dict[str, list[str | Text]] = {
        "scenario": [each.cell.scenario for each in results],
        **{axis: [_show(axis, each.cell) for each in results] for axis in axes},
        "accuracy": [_measure(each, "accuracy") for each in results],
        "balanced_accuracy": [_measure(each, "balanced_accuracy") for each in results],
        "clients_alone": [clients_alone(each) for each in results],
        "rounds_to_target": [rounds_to_target(each) for each in results],
        "majority_rate": [_majority_rate(each) for each in results],
        "seeds": [str(len(each.seeds)) for each in results],
        "verdict": [_verdict(each) for each in results],
    }
    targets = sorted({target for each in results if (target := each.cell.spec.target_accuracy) is not None})
    if targets:
        del columns["clients_alone"]  # there is no room for both
    else:
        del columns["rounds_to_target"]
    same = {name: columns.pop(name)[0] for name in ("scenario", "majority_rate", "seeds") if _is_same(columns[name])}
    table = Table(title=suite.name, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(
            name.replace("_", "\n"), no_wrap=True, justify="left" if name in ("scenario", "verdict") else "right"
        )
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        table.add_row(*row, end_section=_ends_scenario(results, index))
    about = _about_targets(targets, results) if targets else CLIENTS_ALONE
    return Group(table, "", suite.question, _caption(same), about, *_notes(results))


def _is_same(column: Sequence[str | Text]) -> bool:
    return len({str(value) for value in column}) == 1


def _caption(same: dict[str, str | Text]) -> str:
    if same.get("seeds") == "1":
        spread = "one seed, so no spread"
    else:
        spread = f"mean ± standard deviation over {same.get('seeds', '')} seeds".replace("  ", " ")
    majority = f" Always naming the largest class: {same['majority_rate']}." if same.get("majority_rate") else ""
    return f"Percent, {spread}.{majority}"


def _about_targets(targets: Sequence[float], results: Sequence[CellResult]) -> str:
    named = f"Target: {' or '.join(f'{100 * target:g} %' for target in targets)} accuracy."
    if any(None in each.rounds_to_target for each in results if each.cell.spec.target_accuracy is not None):
        named += " k/n in R: k of n seeds reached it within R rounds; not in R: none did."
    return named


def _ends_scenario(results: Sequence[CellResult], index: int) -> bool:
    following = results[index + 1 : index + 2]
    return any(each.cell.scenario != results[index].cell.scenario for each in following)


def _show(axis: str, cell: Cell) -> str:
    """A field's value; one that the cell has none of or does not read is left out, and no limit is all there are."""
    value = getattr(cell.spec, axis)
    return str(value) if value is not None else "" if axis in (*OWNERS, *DEMANDS) else "all"


def _measure(result: CellResult, name: str) -> str:
    return percent(result.measures[name]) if result.measures else ""


def _majority_rate(result: CellResult) -> str:
    return f"{100 * result.measures['majority_rate'].mean:.1f}" if result.measures else ""


def clients_alone(result: CellResult) -> str:
    """The mean accuracy of the clients' own models over clients and seeds, in percent."""
    means = [sum(each.values()) / len(each) for each in result.client_accuracy if each]
    return f"{100 * sum(means) / len(means):.1f}" if means else ""


def rounds_to_target(result: CellResult) -> str:
    """``87 ± 5``, or how many seeds reached the target in the cell's rounds; nothing if there is none."""
    values, spec = result.rounds_to_target, result.cell.spec
    if spec.target_accuracy is None or not values:
        return ""
    if over := spread_if_all(values):
        digits = 1 if over.mean < 10 else 0
        return f"{over.mean:.{digits}f}" + ("" if over.std is None else f" ± {over.std:.{digits}f}")
    reached = sum(value is not None for value in values)
    return f"{reached}/{len(values)} in {spec.rounds}" if reached else f"not in {spec.rounds}"


def percent(spread: Spread) -> str:
    """``82.4 ± 1.3``; without the spread for a single seed."""
    mean = f"{100 * spread.mean:.1f}"
    return mean if spread.std is None else f"{mean} ± {100 * spread.std:.1f}"


def _verdict(result: CellResult) -> Text:
    return Text(short_verdict(result.verdict, result.reason), style=STYLES[result.verdict])


def short_verdict(verdict: Verdict, reason: str | None) -> str:
    """``ok``, or ``collapsed 1/5`` where one of five seeds did; `reason` is that of `fedbench.measures.judge_cell`."""
    if reason and verdict not in (Verdict.OK, Verdict.SKIPPED):
        return f"{verdict} {reason.split(' seeds:')[0].replace(' of ', '/')}"
    return str(verdict)


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
