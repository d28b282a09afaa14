"""The differences behind the answers, as figures of the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fedbench.reports.answers import Answer, Setting
from fedbench.reports.figure import HIGH, LOW, Figure, Kind, Row, number
from fedbench.reports.measure import Measure

PART = "Answers"
Compared = tuple[str, Setting]  # a panel: its title and whose pairs it shows


def answer_figures(answers: Sequence[Answer]) -> Iterator[Figure]:
    """The pairs of each answer with the intervals of their differences, and those of each setting by itself."""
    for measure in dict.fromkeys(answer.measure for answer in answers):
        same = [answer for answer in answers if answer.measure == measure]
        averaged = [(f"{_title(answer)}{_averaged(answer)}", answer.overall) for answer in same]
        single = [
            (f"{_title(answer)}, {', '.join(f'{name}={value}' for name, value in setting.fixed.items())}", setting)
            for answer in same
            if len(answer.settings) > 1
            for setting in answer.settings
        ]
        yield from _figure(f"Differences in {measure.words}", measure, averaged)
        yield from _figure(f"Differences in {measure.words}, setting by setting", measure, single)


def _title(answer: Answer) -> str:
    return f"{answer.scenario}: {answer.axis}".removeprefix(": ")


def _averaged(answer: Answer) -> str:
    return f", averaged over {len(answer.settings)} settings" if len(answer.settings) > 1 else ""


def _figure(title: str, measure: Measure, compared: Iterable[Compared]) -> Iterator[Figure]:
    column = f"difference ({measure.difference_unit})"
    rows: list[Row] = [
        {
            "panel": panel,
            "pair": f"{pair.second} − {pair.first}",
            column: number(pair.difference, measure.scale),
            LOW: number(pair.interval[0], measure.scale) if pair.interval else None,
            HIGH: number(pair.interval[1], measure.scale) if pair.interval else None,
            "a difference is": "shown" if pair.shown else "not shown",
            "p-value": number(pair.p_value),
            "seeds": len(pair.seeds),
            "minimum detectable effect": number(pair.detectable, measure.scale),
            "seeds needed": pair.seeds_needed,
        }
        for panel, setting in compared
        for pair in setting.pairs
    ]
    if rows:
        side = "after" if measure.lower_is_better else "before"
        caption = (
            f"Paired by seed, with the 95 % interval. Above zero the value {side} the minus sign is better. Whether a "
            "difference is shown is judged for all pairs of a scenario together (Holm), at 5 %."
        )
        levels = [(panel, 0.0, "") for panel in dict.fromkeys(str(row["panel"]) for row in rows)]
        yield Figure(PART, title, caption, Kind.DOTS, rows, "pair", column, series="a difference is", levels=levels)
