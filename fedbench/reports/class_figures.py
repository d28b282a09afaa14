"""A stored suite's figures by class: recall, confusion, and which client has what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedbench.partitions.skew import label_skew
from fedbench.partitions.table import PartitionTable
from fedbench.reports.style import MAX_PANELS, Drawn, left_out, new_panels, write  # before Matplotlib, which it sets up
from fedbench.suites.schema import OWNERS

# isort: split
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.reports.reading import StoredCell, StoredSuite

    ByClass = Mapping[str, tuple[list[str], NDArray[np.int64]]]


def draw_recall(stored: StoredSuite) -> Drawn:
    """The recall of each class in each cell, as a table in colours."""
    cells = [cell for cell in stored.measured if any(name.startswith("recall/") for name in cell.metrics)]
    by_classes: dict[tuple[str, ...], list[StoredCell]] = defaultdict(list)
    for cell in cells:
        run = next(iter(cell.runs.values()))
        recalls = sorted(name for name in run.data.metrics if name.startswith("recall/"))
        by_classes[tuple(name.removeprefix("recall/") for name in recalls)].append(cell)
    if not by_classes:
        return None
    shown = [(classes, same[: 2 * MAX_PANELS]) for classes, same in by_classes.items()]
    heights = [1 + 0.28 * len(same) for _, same in shown]
    drawing, all_axes = plt.subplots(
        len(shown), 1, figsize=(9, sum(heights) + 0.6), squeeze=False, height_ratios=heights
    )
    drawing.set_layout_engine("constrained")
    for axes, (classes, same) in zip(all_axes.flat, shown, strict=True):
        image = np.array([[100 * _mean(cell, f"recall/{name}") for name in classes] for cell in same])
        axes.imshow(image, aspect="auto", cmap="viridis", vmin=0, vmax=100)
        for row, values in enumerate(image):
            for column, value in enumerate(values):
                write(
                    axes,
                    column,
                    row,
                    f"{value:.0f}",
                    fontsize=7,
                    color="white" if value < 50 else "black",
                )
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(same)), [cell.cell.label for cell in same], fontsize=7)
        axes.grid(visible=False)
    shown_cells = [cell for _, same in shown for cell in same]
    caption = "Percent of each class's test images that are found, mean over seeds, after the last round."
    return drawing, f"{caption} {left_out(len(cells), shown_cells, 'cells')}".strip()


def _mean(cell: StoredCell, metric: str) -> float:
    spread = cell.final(metric)
    return spread.mean if spread else float("nan")


def draw_confusion(stored: StoredSuite, confusions: ByClass) -> Drawn:
    """The confusion matrix of each cell; `confusions` as in `fedbench.reports.figures.draw_figures`."""
    shown = [cell.cell.label for cell in stored.cells if cell.cell.label in confusions][:MAX_PANELS]
    if not shown:
        return None
    drawing, all_axes = new_panels(len(shown), height=3.6)
    for axes, label in zip(all_axes, shown, strict=True):
        names, confusion = confusions[label]
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
        axes.set_title(label, fontsize=8)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_xlabel("taken for")
        axes.set_ylabel("true class")
        axes.grid(visible=False)
    caption = (
        "Share of each true class (a row) that was taken for each class (a column), over all seeds; dark: all of it."
    )
    return drawing, f"{caption} {left_out(len(stored.measured), shown, 'cells')}".strip()


def distinct_partitions(stored: StoredSuite) -> list[StoredCell]:
    """Of the cells that have numbers, the first one of each way in which examples are dealt."""
    first: dict[object, StoredCell] = {}
    for cell in stored.measured:
        spec = cell.cell.spec
        options = tuple(getattr(spec, option) for option, owner in OWNERS.items() if owner == "partition")
        dealt = (spec.dataset, spec.split, spec.partition, spec.num_clients, spec.examples_per_client, options)
        first.setdefault(dealt, cell)
    return list(first.values())


def draw_partition(stored: StoredSuite, partitions: Mapping[str, PartitionTable]) -> Drawn:
    """Who has what, clients x classes; `partitions` as in `fedbench.reports.figures.draw_figures`."""
    if not partitions:
        return None
    drawing, all_axes = plt.subplots(
        len(partitions), 1, figsize=(9, 2.4 * len(partitions)), squeeze=False, layout="constrained"
    )
    for axes, (label, table) in zip(all_axes.flat, partitions.items(), strict=True):
        image = axes.imshow(table.counts.T, aspect="auto", cmap="Blues", interpolation="nearest", vmin=0)
        drawing.colorbar(image, ax=axes, label="examples", pad=0.01)
        skew = label_skew(table.counts)
        axes.set_title(label if skew is None else f"{label} (label skew {skew:.2f})", fontsize=8)
        if table.clients == [str(k) for k in range(len(table.clients))]:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xticks(range(len(table.clients)), table.clients, rotation=30, ha="right", fontsize=7)
        axes.set_yticks(range(len(table.class_names)), table.class_names, fontsize=7)
        axes.set_xlabel("client")
        axes.set_ylabel("class")
        axes.grid(visible=False)
    caption = (
        "Training examples of each class (a row) that each client (a column) has, with the first finished seed. "
        "Label skew: the mean total-variation distance of the clients' label distributions from that of all; "
        "0 if they are equal."
    )
    return drawing, f"{caption} {left_out(len(distinct_partitions(stored)), list(partitions), 'partitions')}".strip()
