"""A suite's figures: accuracies by cell, curves by round, and models on the line between two models."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fedbench.measures import Verdict
from fedbench.reports.class_figures import draw_confusion, draw_partition, draw_recall
from fedbench.reports.layout import field_text, mean_std, over_seeds, seeds_text
from fedbench.reports.style import (
    BAND,
    MAX_PANELS,
    NATS,
    PANEL_INCHES,
    PERCENT,
    STYLE,
    Drawn,
    Figure,
    draw_matrix,
    left_out,
    new_panels,
    same_scale,
)
from fedbench.tracking.records import INTERPOLATION, STEPS_PER_THETA, StoredCell, StoredSuite
from fedbench.util.progress import progress

# isort: split
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fedbench.partitions.table import PartitionTable
    from fedbench.reports.class_figures import ByClass
    from fedbench.stats import Spread

MAX_LINES = 8  # in one panel; more cannot be distinguished
MAX_LABEL_LETTERS = 36  # below a panel, side by side
MAX_CURVES = 6  # panels of curves, for which every round of every seed is read


def draw_figures(stored: StoredSuite, confusions: ByClass, partitions: Mapping[str, PartitionTable]) -> list[Figure]:
    """Draw the figures for which a suite has results.

    Parameters
    ----------
    stored
        The suite.
    confusions
        The class names and the confusion matrix, (C, C), summed over seeds, by the cell's label.
    partitions
        The number of examples of each client and class, by the label of the first cell with this partition.
    """
    drawings: tuple[tuple[str, str, Callable[[], Drawn]], ...] = (
        ("grid", "Accuracy by cell", lambda: _grids(stored)),
        ("curves", "Accuracy by round", lambda: _curves(stored, "accuracy", "accuracy (%)", 100)),
        ("loss", "Loss by round", lambda: _curves(stored, "loss", "loss (nats)", 1)),
        ("interpolation", "Interpolation between two models", lambda: _interpolation(stored)),
        ("recall", "Recall by class", lambda: draw_recall(stored)),
        ("confusion", "Confusion matrices", lambda: draw_confusion(stored, confusions)),
        ("partition", "Examples by client and class", lambda: draw_partition(stored, partitions)),
    )
    figures = []
    with plt.rc_context(STYLE), progress("drawing", len(drawings), "figures") as advance:
        for name, title, draw in drawings:
            if drawn := draw():
                drawing, caption = drawn
                buffer = io.BytesIO()
                drawing.savefig(buffer, metadata={"Software": None})
                plt.close(drawing)
                figures.append(Figure(name, title, caption, buffer.getvalue()))
            advance(1, title)
    return figures


def _grouped(cells: Iterable[StoredCell], key: Callable[[StoredCell], str]) -> dict[str, list[StoredCell]]:
    groups: dict[str, list[StoredCell]] = defaultdict(list)
    for cell in cells:
        groups[key(cell)].append(cell)
    return groups


def _by_scenario(cells: Iterable[StoredCell]) -> dict[str, list[StoredCell]]:
    return _grouped(cells, lambda cell: cell.scenario)


def _varying(cells: Sequence[StoredCell]) -> list[str]:
    """The axes on which cells of one scenario differ."""
    axes = dict.fromkeys(axis for cell in cells for axis in cell.result.cell.axes)
    return [axis for axis in axes if len({cell.spec.get(axis) for cell in cells}) > 1]


def _show(cell: StoredCell, axis: str) -> str:
    return field_text(cell.spec, axis, none="none")


def _describe(cell: StoredCell, axes: Sequence[str]) -> str:
    return ", ".join(f"{axis.replace('_', ' ')} {_show(cell, axis)}" for axis in axes)


def _line_panels(cells: Sequence[StoredCell]) -> Iterator[tuple[str, list[tuple[str, StoredCell]]]]:
    """Titles of panels, each with few enough cells, labelled by what they differ in."""
    for scenario, same in _by_scenario(cells).items():
        axes = _varying(same)
        split = axes[:1] if len(same) > MAX_LINES or len(axes) > 1 else []
        rest = [axis for axis in axes if axis not in split]
        for words, some in _grouped(same, partial(_describe, axes=split)).items():
            title = f"{scenario}: {words}" if words else scenario
            yield title, [(_describe(cell, rest) or cell.scenario, cell) for cell in some[:MAX_LINES]]


def _draw_curve(axes: Axes, curve: Mapping[int, Spread], label: str, scale: float, x_scale: float = 1) -> None:
    steps = [step / x_scale for step in curve]
    means = [scale * spread.mean for spread in curve.values()]
    (line,) = axes.plot(steps, means, label=label, marker="o" if len(steps) < 12 else "", markersize=3)
    bounds = [spread.interval or (spread.mean, spread.mean) for spread in curve.values()]
    low, high = ([scale * bound[side] for bound in bounds] for side in (0, 1))
    axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def _curves(stored: StoredSuite, metric: str, label: str, scale: float) -> Drawn:
    panels = list(_line_panels([cell for cell in stored.measured if cell.spec.rounds > 1]))
    if not panels:
        return None
    shown = panels[:MAX_CURVES]
    drawing, all_axes = new_panels(len(shown))
    for axes, (title, cells) in zip(all_axes, shown, strict=True):
        for words, cell in cells:
            _draw_curve(axes, stored.curve(cell, metric), words, scale)
        axes.set(title=title, xlabel="round", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if metric == "accuracy":
            _draw_majority(axes, [cell for _, cell in cells])
            _draw_targets(axes, [cell for _, cell in cells])
    _draw_legends(all_axes)
    same_scale(all_axes, PERCENT if metric == "accuracy" else NATS)
    caption = _means(cell for _, cells in shown for _, cell in cells)
    if any(_stopped_apart(cell) for _, cells in shown for _, cell in cells):
        caption += " A seed that stopped at its target before the others counts in later rounds with its last value."
    return drawing, f"{caption} {left_out(len(panels), shown, 'panels')}".strip()


def _means(cells: Iterable[StoredCell]) -> str:
    """What lines and bands are."""
    seeds = seeds_text([len(cell.finished) for cell in cells])
    return "One seed, so no band." if seeds == "one seed" else f"Mean over {seeds}; band: {BAND}."


def _stopped_apart(cell: StoredCell) -> bool:
    """Whether some seeds of a cell stopped at its target before others."""
    reached = cell.result.rounds_to_target
    ends = {None if rounds is None else math.ceil(rounds) for rounds in reached}  # it is crossed within a round
    return cell.spec.stop_at_target and len(ends) > 1


def _draw_legends(all_axes: Sequence[Axes]) -> None:
    """A legend in the first panel, and in each whose lines have other labels."""
    first = all_axes[0].get_legend_handles_labels()[1]
    for axes in all_axes:
        if axes is all_axes[0] or axes.get_legend_handles_labels()[1] != first:
            axes.legend(fontsize=7)


def _draw_majority(axes: Axes, cells: Sequence[StoredCell]) -> None:
    rates = [cell.final("majority_rate") for cell in cells]
    for rate in sorted({round(each.mean, 4) for each in rates if each}):
        axes.axhline(100 * rate, color="grey", linestyle=":", linewidth=1, label="always the largest class")


def _draw_targets(axes: Axes, cells: Sequence[StoredCell]) -> None:
    for target in sorted({each for cell in cells if (each := cell.spec.target_accuracy) is not None}):
        axes.axhline(100 * target, color="grey", linestyle="--", linewidth=0.8, label=f"target: {100 * target:g} %")


def _grids(stored: StoredSuite) -> Drawn:
    panels = [panel for same in _by_scenario(stored.measured).values() for panel in _grid_panels(same)]
    if not panels:
        return None
    shown = panels[:MAX_PANELS]
    drawing, all_axes = new_panels(len(shown))
    means = [100 * spread.mean for _, cells, _ in shown for cell in cells if (spread := cell.final("accuracy"))]
    for axes, (title, cells, names) in zip(all_axes, shown, strict=True):
        axes.set_title(title)
        if len(names) == 2:
            _draw_heat_map(axes, cells, names, (min(means), max(means)))
        else:
            _draw_dots(axes, cells, names)
    dotted = [axes for axes, (_, _, names) in zip(all_axes, shown, strict=True) if len(names) < 2]
    if dotted:
        same_scale(dotted, PERCENT)
    counts = [len(cell.finished) for _, cells, _ in shown for cell in cells]
    caption = f"Percent after the last round, {over_seeds(counts)}. * not every seed has the verdict ok."
    if dotted and max(counts) > 1:
        caption += f" Bars: {BAND}; small dots: the seeds."
    return drawing, f"{caption} {left_out(len(panels), shown, 'panels')}".strip()


def _grid_panels(cells: list[StoredCell]) -> Iterator[tuple[str, list[StoredCell], list[str]]]:
    """Title, cells, and up to two axes for each panel: a scenario's last two axes."""
    axes = _varying(cells)
    for words, some in _grouped(cells, lambda cell: _describe(cell, axes[:-2])).items():
        yield f"{some[0].scenario} {words}".strip(), some, axes[-2:]


def _draw_heat_map(axes: Axes, cells: Sequence[StoredCell], names: Sequence[str], limits: tuple[float, float]) -> None:
    rows, columns = (list(dict.fromkeys(_show(cell, name) for cell in cells)) for name in names)
    image = np.full((len(rows), len(columns)), np.nan)
    texts = np.full(image.shape, "", dtype=object)
    for cell in cells:
        if spread := cell.final("accuracy"):
            position = rows.index(_show(cell, names[0])), columns.index(_show(cell, names[1]))
            image[position] = 100 * spread.mean
            mark = "" if cell.result.verdict is Verdict.OK else " *"
            texts[position] = mean_std(spread, 1, 100).replace(" ±", "\n±") + mark
    draw_matrix(axes, image, (rows, columns), "viridis", (limits[0], max(limits[1], limits[0] + 1)), texts)
    axes.set_ylabel(names[0].replace("_", " "))
    axes.set_xlabel(names[1].replace("_", " "))


def _draw_dots(axes: Axes, cells: Sequence[StoredCell], names: Sequence[str]) -> None:
    labels = [_show(cell, names[0]) if names else "" for cell in cells]
    for index, cell in enumerate(cells):
        if spread := cell.final("accuracy"):
            mean, (low, high) = 100 * spread.mean, spread.interval or (spread.mean, spread.mean)
            axes.plot([index, index], [100 * low, 100 * high], color="C0", linewidth=2)
            axes.plot(index, mean, "o", color="C0")
            seeds = 100 * np.array(spread.values)
            axes.plot(np.full(len(seeds), index + 0.08), seeds, ".", color="grey", markersize=3)
            if cell.result.verdict is not Verdict.OK:
                axes.annotate("*", (index, mean), textcoords="offset points", xytext=(-9, 2))
    _draw_majority(axes, cells)
    is_wide = sum(map(len, labels)) > MAX_LABEL_LETTERS
    axes.set_xticks(range(len(cells)), labels, rotation=30 if is_wide else 0, ha="right" if is_wide else "center")
    axes.set_xlim(-0.6, len(cells) - 0.4)
    axes.set_ylabel("accuracy (%)")
    axes.set_xlabel(names[0].replace("_", " ") if names else "")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7)


def _interpolation(stored: StoredSuite) -> Drawn:
    cells = [cell for cell in stored.measured if f"{INTERPOLATION}loss" in cell.metrics]
    if not cells:
        return None
    others = {name: [axis for axis in _varying(same) if axis != "init"] for name, same in _by_scenario(cells).items()}
    groups = _grouped(cells, lambda cell: f"{cell.scenario} {_describe(cell, others[cell.scenario])}".strip())
    shown = list(groups.items())[: MAX_PANELS // 2]
    size = (2 * PANEL_INCHES[0], PANEL_INCHES[1] * len(shown))
    drawing, grid = plt.subplots(len(shown), 2, figsize=size, squeeze=False, layout="constrained")
    kinds = (("loss", "loss (nats)", 1, NATS), ("accuracy", "accuracy (%)", 100, PERCENT))
    for row, (title, some) in zip(grid, shown, strict=True):
        for axes, (metric, label, scale, possible) in zip(row, kinds, strict=True):
            for cell in some:
                curve = stored.curve(cell, f"{INTERPOLATION}{metric}")
                _draw_curve(axes, curve, f"init {cell.spec.init}", scale, STEPS_PER_THETA)
            axes.set(title=title, xlabel="θ, in θ·w + (1 − θ)·w′", ylabel=label)
            axes.legend(fontsize=7)
            same_scale([axes], possible)
            for end in (0, 1):
                axes.axvline(end, color="grey", linewidth=0.8, linestyle=":")
    sets = sorted({cell.spec.interpolation_set for _, some in shown for cell in some})
    where = " or ".join({"test": "the test set", "train": "all training data"}[each] for each in sets)
    caption = (
        f"The models on the line through the two clients' own models w (θ = 1) and w′ (θ = 0), on {where}; "
        f"θ = 1/2 is their average. {_means(cell for _, some in shown for cell in some)} "
        "After figure 1 of McMahan et al. (2017), who show the training loss."
    )
    return drawing, f"{caption} {left_out(len(groups), shown, 'settings')}".strip()
