"""Accuracy and speed over commits, as a page of figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from fedbench.reports.figure import FAILED, HIGH, LOW, Figure, Kind, Row, number
from fedbench.reports.history import Check, History, Timing, date
from fedbench.reports.html import page_html, write_page
from fedbench.reports.panels import numbered
from fedbench.util.commits import short_commit
from fedbench.util.text import counted

PAGE = "history.html"
ACCURACY, SPEED = "Accuracy", "Speed"
Item = TypeVar("Item", Check, Timing)
Point = tuple[str, str, Check | Timing, float, float | None, bool]  # panel, line, commit, value, std, whether it failed


def write_history(history: History, folder: Path) -> Path:
    """Write the page into `folder`, which is created; returns its path.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    last = history.checks[-1]
    failed = f": {', '.join(last.failed)}" if last.failed else ""
    checks = f"{counted(len(history.checks), 'check')}; the last one, of {_commit(last)}, {last.outcome}{failed}."
    write_page(page_html(history.suite, "history", list(history_figures(history)), facts=checks), folder / PAGE)
    return folder / PAGE


def history_figures(history: History) -> Iterator[Figure]:
    """The accuracy of the last check's metric, the ratios of checks of the speed, and the recorded timings."""
    measured = [check for check in history.checks if check.accuracies]
    metric = measured[-1].metric if measured else ""
    points: list[Point] = [
        (name.partition(" ")[0], name, check, 100 * over.mean, over.std and 100 * over.std, name in check.failed)
        for check in last_by_commit([each for each in measured if each.metric == metric])
        for name, over in check.accuracies.items()
    ]
    words = metric.replace("_", " ")
    caption = "Mean over the seeds of each check; band: ± standard deviation over seeds."
    yield from _figure(ACCURACY, f"{words.capitalize()} by commit", caption, f"{words} (%)", points)
    checks = last_by_commit(history.speed_checks)
    points = [
        ("checks of the speed", name, check, ratio, None, name in check.failed)
        for check in checks
        for name, ratio in check.ratios.items()
    ]
    levels = [("as before", 1.0)]
    levels += [("slower beyond this", each.threshold) for each in checks[-1:] if each.threshold > 0]
    caption = "Of each benchmark, as the check measured it. Below 1 it became faster."
    yield from _figure(SPEED, "Time compared with the time before", caption, "time / time before", points, levels)
    points = [
        (each.group, name, each, each.multiple, None, False)
        for name in dict.fromkeys(timing.benchmark for timing in history.timings)
        for each in last_by_commit([timing for timing in history.timings if timing.benchmark == name])
    ]
    points.sort(key=lambda point: (point[2].count, point[2].began))
    title, column = "Benchmarks as multiples of the yardstick", "multiple of the yardstick"
    caption = "The median time of each benchmark over that in which the yardstick does as much. Lower is faster."
    yield from _figure(SPEED, title, caption, column, points, is_log=True)


def _figure(
    part: str,
    title: str,
    caption: str,
    column: str,
    points: Sequence[Point],
    levels: Iterable[tuple[str, float]] = (),
    is_log: bool = False,
) -> Iterator[Figure]:
    series = "cell" if part == ACCURACY else "benchmark"
    lines: dict[str, dict[str, None]] = defaultdict(dict)
    for panel, line, *_ in points:
        lines[panel][line] = None
    panels = {
        (panel, line): heading
        for panel in lines
        for heading, few in numbered(panel, list(lines[panel]))
        for line in few
    }
    rows: list[Row] = [
        {
            "panel": panels[panel, line],
            series: line.removeprefix(f"{panel} "),
            "commit": _commit(item),
            "date": f"{date(item.began):%Y-%m-%d %H:%M}",
            column: number(value),
            LOW: None if std is None else number(value - std),
            HIGH: None if std is None else number(value + std),
            FAILED: "yes" if failed else None,
        }
        for panel, line, item, value, std, failed in points
    ]
    if rows:
        crosses = " A cross: it failed." if any(row[FAILED] for row in rows) else ""
        caption += f"{crosses} Dates in UTC."
        lines_across = [(panel, level, name) for panel in dict.fromkeys(panels.values()) for name, level in levels]
        yield Figure(
            part, title, caption, Kind.LINES, rows, "commit", column, series, levels=lines_across, is_log=is_log
        )


def last_by_commit(found: Sequence[Item]) -> list[Item]:
    """The last item of each commit; an item without a commit counts as one of its own."""
    return list({_key(each): each for each in found}.values())


def _key(item: Check | Timing) -> tuple[int, str | int]:
    return (item.count, item.commit if item.count else item.began)


def _commit(item: Check | Timing) -> str:
    """The commit, or the date of what has none."""
    return short_commit(item.commit) if item.count else f"{date(item.began):%m-%d %H:%M}"
