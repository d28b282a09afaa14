"""A suite's figures by class: recall, confusion matrices, and the partition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedbench.components import KINDS, built_in_options
from fedbench.partitions.skew import label_skew
from fedbench.partitions.table import PartitionTable, parse_partition
from fedbench.reports.layout import mean_std, over_seeds, seeds_text
from fedbench.reports.style import (  # before Matplotlib, which it sets up
    MAX_PANELS,
    Drawn,
    draw_matrix,
    left_out,
    new_panels,
)
from fedbench.tracking.records import StoredCell, StoredSuite, sum_confusions

# isort: split
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.stats import Spread

    ByClass = Mapping[str, tuple[list[str], NDArray[np.int64]]]


def draw_recall(stored: StoredSuite) -> Drawn:
    """A heat map of the recall of each class in each cell."""
    cells = [cell for cell in stored.measured if any(name.startswith("recall/") for name in cell.metrics)]
    by_classes: dict[tuple[str, ...], list[StoredCell]] = defaultdict(list)
    for cell in cells:
        run = next(iter(cell.runs.values()))
        recalls = sorted(name for name in run.metrics if name.startswith("recall/"))
        by_classes[tuple(name.removeprefix("recall/") for name in recalls)].append(cell)
    if not by_classes:
        return None
    shown = [(classes, same[: 2 * MAX_PANELS]) for classes, same in by_classes.items()]
    heights = [1 + 0.28 * len(same) for _, same in shown]
    size = (9, sum(heights) + 0.6)
    drawing, all_axes = plt.subplots(
        len(shown), 1, figsize=size, squeeze=False, height_ratios=heights, layout="constrained"
    )
    for axes, (classes, same) in zip(all_axes.flat, shown, strict=True):
        found = [[cell.final(f"recall/{name}") for name in classes] for cell in same]
        image = np.array([[100 * recall.mean if recall else np.nan for recall in row] for row in found])
        texts = np.array([[_recall(recall) for recall in row] for row in found], dtype=object)
        draw_matrix(axes, image, ([cell.label for cell in same], classes), "viridis", (0, 100), texts, fontsize=7)
        axes.tick_params(labelsize=7)
    shown_cells = [cell for _, same in shown for cell in same]
    over = over_seeds([len(cell.finished) for cell in shown_cells])
    caption = f"Percent of each class's test images that are recognised after the last round, {over}."
    return drawing, f"{caption} {left_out(len(cells), shown_cells, 'cells')}".strip()


def _recall(recall: Spread | None) -> str:
    return mean_std(recall, 0, 100).replace(" ", "") if recall else ""


def draw_confusion(stored: StoredSuite, confusions: ByClass) -> Drawn:
    """The confusion matrix of each cell; `confusions` as in `fedbench.reports.figures.draw_figures`."""
    shown = [cell.label for cell in stored.cells if cell.label in confusions][:MAX_PANELS]
    if not shown:
        return None
    drawing, all_axes = new_panels(len(shown), height=3.6)
    for axes, label in zip(all_axes, shown, strict=True):
        names, confusion = confusions[label]
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        draw_matrix(axes, 100 * shares, (names, names), "Blues", (0, 100))
        axes.set_title(label, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.tick_params(axis="x", rotation=90)
        axes.set(xlabel="predicted class", ylabel="true class", aspect="equal")
    seeds = seeds_text([len(cell.finished) for cell in stored.cells if cell.label in shown])
    caption = (
        f"Share of each true class (row) that was predicted as each class (column), all images of {seeds} counted "
        "together; dark is 100 %."
    )
    return drawing, f"{caption} {left_out(len(stored.measured), shown, 'cells')}".strip()


def read_confusions(stored: StoredSuite) -> tuple[ByClass, list[str]]:
    """The first cells' class names and confusion matrices, (C, C), and the labels of cells that lack an artifact."""
    found: dict[str, tuple[list[str], NDArray[np.int64]]] = {}
    gone = []
    for cell in stored.measured[:MAX_PANELS]:
        texts = [stored.source.text(run.run_id, "confusion.csv") for run in cell.finished.values()]
        try:
            found[cell.label] = sum_confusions([text or "" for text in texts])
        except ValueError:
            gone.append(cell.label)
    return found, gone


def read_partitions(stored: StoredSuite) -> tuple[dict[str, PartitionTable], list[str]]:
    """The partitions that are drawn, and the labels of cells that lack theirs.

    They are those of the first finished seed, by the label of the first cell that has each.
    """
    found: dict[str, PartitionTable] = {}
    gone = []
    for cell in distinct_partitions(stored)[:MAX_PANELS]:
        run = next(iter(cell.finished.values()))
        try:
            found[cell.label] = parse_partition(stored.source.text(run.run_id, "partition.csv") or "")
        except ValueError:
            gone.append(cell.label)
    return found, gone


def distinct_partitions(stored: StoredSuite) -> list[StoredCell]:
    """The first measured cell of each partition."""
    first: dict[object, StoredCell] = {}
    for cell in stored.measured:
        spec = cell.spec
        # An option of a part that is not built in may be of any kind.
        not_dealt = {option for kind in KINDS if kind != "partition" for option in built_in_options(kind)}
        options = tuple(sorted(item for item in (spec.model_extra or {}).items() if item[0] not in not_dealt))
        dealt = (spec.dataset, spec.split, spec.partition, spec.num_clients, spec.examples_per_client, options)
        first.setdefault(dealt, cell)
    return list(first.values())


def draw_partition(stored: StoredSuite, partitions: Mapping[str, PartitionTable]) -> Drawn:
    """The examples of each client and class; `partitions` as in `fedbench.reports.figures.draw_figures`."""
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
        "Training examples of each class (row) at each client (column), for the first finished seed. "
        "Label skew: the mean total variation distance between the clients' label distributions and the overall one; "
        "0 if they are equal."
    )
    return drawing, f"{caption} {left_out(len(distinct_partitions(stored)), list(partitions), 'partitions')}".strip()
