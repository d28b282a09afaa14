"""Figures of accuracy and speed over commits."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypeVar

from fedbench.reports.panels import MAX_LINES
from fedbench.reports.style import STYLE  # before Matplotlib, which it sets up

# isort: split
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fedbench.reports.history import Check, History, Timing, date
from fedbench.util.commits import short_commit
from fedbench.util.files import plain_errors, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILES = ("history-accuracy.png", "history-speed.png")
MAX_LABELS = 12  # commits that are named below a panel
PANEL_INCHES = (6.2, 3.6)
LEGEND_WIDTH = 40  # characters
FAILED: dict[str, Any] = {
    "marker": "X",
    "markersize": 8,
    "linestyle": "",
    "color": "#D00000",
    "markeredgecolor": "white",
    "zorder": 5,  # above the lines
}

Item = TypeVar("Item", Check, Timing)


@dataclass(frozen=True)
class Point:
    """A value at a position on the axis of commits."""

    position: int
    value: float
    std: float = 0.0
    failed: bool = False


@dataclass(frozen=True)
class Panel:
    """A panel: its title, the label of its values, its lines by name, the labels of the commits, and named levels."""

    title: str
    label: str
    lines: dict[str, list[Point]]
    commits: list[str]
    levels: dict[str, float]
    is_logarithmic: bool = False


def write_figures(history: History, folder: Path) -> list[Path]:
    """Draw the history into PNG files in `folder`, which is created; their paths.

    Raises
    ------
    DataError
        If they cannot be written.
    """
    written = []
    for name, panels in zip(FILES, (accuracy_panels(history), speed_panels(history)), strict=True):
        if not panels:
            continue
        with plain_errors(f"the figures cannot be written to {folder}"), replacing(folder / name, sync=False) as file:
            file.write(draw(panels))
        written.append(folder / name)
    return written


def accuracy_panels(history: History) -> list[Panel]:
    """A panel for each scenario, or more if it has many cells; of the last check's metric."""
    checks = [each for each in history.checks if each.accuracies]
    if not checks:
        return []
    metric = checks[-1].metric
    last = last_by_commit([each for each in checks if each.metric == metric])
    lines: dict[str, list[Point]] = defaultdict(list)
    for position, check in enumerate(last):
        for name, spread in check.accuracies.items():
            lines[name].append(Point(position, 100 * spread.mean, 100 * (spread.std or 0.0), name in check.failed))
    bands = ", ± standard deviation" if any(each.std for points in lines.values() for each in points) else ""
    label = f"{metric.replace('_', ' ')} (%){bands}"
    return [
        Panel(title, label, shown, [_label(each) for each in last], {})
        for title, shown in _panels_of(lines, lambda name: name.partition(" ")[0])
    ]


def speed_panels(history: History) -> list[Panel]:
    """The ratios of the checks, and the timings by group as multiples of the yardstick."""
    last = last_by_commit(history.speed_checks)
    ratios: dict[str, list[Point]] = defaultdict(list)
    for position, check in enumerate(last):
        for name, ratio in check.ratios.items():
            ratios[name].append(Point(position, ratio, failed=name in check.failed))
    levels = {"as before": 1.0, **({"slower beyond this": last[-1].threshold} if last else {})}
    panels = [
        Panel(title, "time / time before", shown, [_label(each) for each in last], levels)
        for title, shown in _panels_of(ratios, lambda _: "checks of the speed")
    ]
    for group in dict.fromkeys(each.group for each in history.timings):
        panels += _timing_panels(group, [each for each in history.timings if each.group == group])
    return panels


def _timing_panels(group: str, timings: Sequence[Timing]) -> list[Panel]:
    commits = last_by_commit(timings)
    positions = {_key(each): position for position, each in enumerate(commits)}
    lines = {
        name: [
            Point(positions[_key(each)], each.multiple)
            for each in last_by_commit([each for each in timings if each.benchmark == name])
        ]
        for name in dict.fromkeys(each.benchmark for each in timings)
    }
    labels = [_label(each) for each in commits]
    return [
        Panel(f"benchmarks: {title}", "multiple of the yardstick", shown, labels, {}, is_logarithmic=True)
        for title, shown in _panels_of(lines, lambda _: group)
    ]


def last_by_commit(found: Sequence[Item]) -> list[Item]:
    """The last item of each commit; an item without a commit counts as one of its own."""
    return list({_key(each): each for each in found}.values())


def _key(item: Check | Timing) -> tuple[int, str | int]:
    return (item.count, item.commit if item.count else item.began)


def _label(item: Check | Timing) -> str:
    """The commit, or the date of what has none."""
    return short_commit(item.commit) if item.count else f"{date(item.began):%m-%d %H:%M}"


def _panels_of(
    lines: dict[str, list[Point]], title_of: Callable[[str], str]
) -> Iterator[tuple[str, dict[str, list[Point]]]]:
    """Titles of panels, each with few enough lines to tell apart."""
    panels: dict[str, list[str]] = defaultdict(list)
    for name in lines:
        panels[title_of(name)].append(name)
    for title, names in panels.items():
        parts = [names[start : start + MAX_LINES] for start in range(0, len(names), MAX_LINES)]
        for number, part in enumerate(parts, start=1):
            numbered = f"{title} ({number} of {len(parts)})" if len(parts) > 1 else title
            yield numbered, {name.removeprefix(f"{title} "): lines[name] for name in part}


def draw(panels: Sequence[Panel]) -> bytes:
    """The panels as the content of a PNG file."""
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    with plt.rc_context(STYLE):
        width, height = PANEL_INCHES
        drawing, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
        drawing.set_layout_engine("constrained")
        for place, panel in zip(axes.flat, panels, strict=False):
            _draw_panel(place, panel)
        for unused in axes.flat[len(panels) :]:
            unused.set_visible(False)
        buffer = io.BytesIO()
        drawing.savefig(buffer, metadata={"Software": None})
        plt.close(drawing)
        return buffer.getvalue()


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for name, value in panel.levels.items():
        style = ":" if value != 1 else "-"
        axes.axhline(value, color="grey", linewidth=1, linestyle=style, label=name if value != 1 else None)
    for name, points in panel.lines.items():
        _draw_line(axes, name, points)
    if failed := [point for points in panel.lines.values() for point in points if point.failed]:
        axes.plot([each.position for each in failed], [each.value for each in failed], label="failed", **FAILED)
    axes.set_title(panel.title)
    axes.set_ylabel(panel.label)
    if panel.is_logarithmic:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    shown = labelled(len(panel.commits))
    axes.set_xticks(shown, [panel.commits[index] for index in shown], rotation=45, ha="right", fontsize=7)
    axes.set_xlim(-0.5, len(panel.commits) - 0.5)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _draw_line(axes: Axes, name: str, points: Sequence[Point]) -> None:
    positions, values = [each.position for each in points], [each.value for each in points]
    (line,) = axes.plot(positions, values, label=fill(name, LEGEND_WIDTH), marker="o", markersize=3)
    if not any(each.std for each in points):
        return
    if len(points) == 1:  # a band at one commit would be invisible
        axes.errorbar(positions, values, [points[0].std], color=line.get_color(), capsize=3, linewidth=1)
        return
    low, high = ([each.value + side * each.std for each in points] for side in (-1, 1))
    axes.fill_between(positions, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def labelled(number: int) -> list[int]:
    """Which of so many commits are named: evenly spaced, with the last one."""
    step = -(-number // MAX_LABELS)
    return list(range((number - 1) % step, number, step))
