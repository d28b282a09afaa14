"""A suite's figures by class, as data: recall, confusion matrices, and the partition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fedbench.components import KINDS, built_in_options
from fedbench.partitions.table import PartitionTable, label_skew, parse_partition
from fedbench.reports.figure import Figure, Kind, Row, number
from fedbench.reports.layout import mean_std, over_seeds, seeds_text
from fedbench.tracking.records import StoredCell, StoredSuite, sum_confusions

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
MAX_PANELS = 9  # of confusion matrices and of partitions, for which artifacts are read
MAX_CLIENTS = 100  # in a panel
CLASSES, DATA = "By class", "Who has what"
RECALL = "recall/"  # a metric's name; the class follows


def recall_figure(stored: StoredSuite) -> Iterator[Figure]:
    """A heat map of the recall of each class in each cell."""
    by_classes: dict[tuple[str, ...], list[StoredCell]] = defaultdict(list)
    for cell in stored.measured:
        run = next(iter(cell.runs.values()))
        classes = [name.removeprefix(RECALL) for name in run.metrics if name.startswith(RECALL)]
        if classes:
            by_classes[tuple(sorted(classes, key=_place))].append(cell)
    rows: list[Row] = [
        {
            "panel": f"{len(classes)} classes",
            "cell": cell.label,
            "class": name,
            "recall (%)": number(over.mean, 100),
            "shown": mean_std(over, 0, 100),
        }
        for classes, cells in by_classes.items()
        for cell in cells
        for name in classes
        if (over := cell.final(f"{RECALL}{name}"))
    ]
    if rows:
        seeds = over_seeds([len(cell.finished) for cells in by_classes.values() for cell in cells])
        caption = f"Percent of each class's test images that are recognised after the last round, {seeds}."
        yield _matrix(CLASSES, "Recall by class", caption, rows, x="class", y="cell", value="recall (%)", most=100)


def _place(name: str) -> tuple[bool, int, str]:
    """Numbers by size, then other names."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


def confusion_figure(stored: StoredSuite) -> Iterator[Figure]:
    """The confusion matrix of each cell, summed over its seeds."""

    def confusion(cell: StoredCell) -> tuple[list[str], NDArray[np.int64]]:
        texts = [stored.source.text(run.run_id, "confusion.csv") for run in cell.finished.values()]
        return sum_confusions([text or "" for text in texts])

    found, left_out = _read(stored.measured, confusion, "confusion matrices")
    rows: list[Row] = []
    for cell, (names, counted) in found:
        shares = 100 * counted / np.maximum(counted.sum(axis=1, keepdims=True), 1)  # (C, C)
        rows += [
            {
                "cell": cell.label,
                "true class": true,
                "predicted class": predicted,
                "images": int(count),
                "share (%)": number(share),
                "shown": f"{share:.0f}" if count else "",
            }
            for true, counts, of_class in zip(names, counted, shares, strict=True)
            for predicted, count, share in zip(names, counts, of_class, strict=True)
        ]
    if stored.measured:
        seeds = seeds_text([len(cell.finished) for cell, _ in found])
        how = "Percent of each true class (row) that was predicted as each class (column), all images of"
        caption = " ".join([f"{how} {seeds} counted together.", *left_out])
        x, y = "predicted class", "true class"
        yield _matrix(CLASSES, "Confusion matrices", caption, rows, x, y, value="share (%)", most=100)


def partition_figure(stored: StoredSuite) -> Iterator[Figure]:
    """The examples of each client and class in the first finished seed of each partition.

    Partitions of which all clients have the same are one sentence.
    """

    def partition(cell: StoredCell) -> PartitionTable:
        return parse_partition(stored.source.text(next(iter(cell.finished.values())).run_id, "partition.csv") or "")

    found, left_out = _read(_distinct_partitions(stored), partition, "partitions")
    rows: list[Row] = []
    balanced: list[str] = []
    for cell, table in found:
        if (np.ptp(table.counts, axis=0) <= 1).all():
            low, high = table.counts.min(), table.counts.max()
            balanced.append(f"{cell.label} ({low if low == high else f'{low} to {high}'})")
            continue
        skew = label_skew(table.counts)
        title = cell.label if skew is None else f"{cell.label} (label skew {skew:.2f})"
        rows += [
            {"panel": title, "class": name, "client": client, "examples": int(count), "shown": str(count)}
            for client, counts in zip(table.clients[:MAX_CLIENTS], table.counts, strict=False)
            for name, count in zip(table.class_names, counts, strict=True)
        ]
    sentences = []
    if rows:
        sentences.append(
            "Training examples of each class (row) at each client (column), for the first finished seed. Label skew: "
            "the mean total variation distance between the clients' label distributions and the overall one; 0 if they "
            "are equal."
        )
    if (most := max((len(table.clients) for _, table in found), default=0)) > MAX_CLIENTS:
        sentences.append(f"The first {MAX_CLIENTS} of up to {most} clients are shown.")
    sentences += left_out
    if balanced:
        sentences.append(
            f"Balanced, with as many training examples of a class at each client (±1): {', '.join(balanced)}."
        )
    if stored.measured:
        title = "Examples by client and class"
        yield _matrix(DATA, title, " ".join(sentences), rows, x="client", y="class", value="examples")


def _matrix(
    part: str, title: str, caption: str, rows: Sequence[Row], x: str, y: str, value: str, most: float | None = None
) -> Figure:
    """A heat map of numbers from 0 on."""
    return Figure(part, title, caption, Kind.MATRIX, rows, x, y, value=value, text="shown", possible=(0, most))


def _read(
    cells: Sequence[StoredCell], read: Callable[[StoredCell], T], what: str
) -> tuple[list[tuple[StoredCell, T]], list[str]]:
    """What is read of the first cells, and what a caption says of the others and of what is not in the store."""
    found, gone = [], []
    for cell in cells[:MAX_PANELS]:
        try:
            found.append((cell, read(cell)))
        except ValueError:
            gone.append(cell.label)
    said = [f"The first {MAX_PANELS} of {len(cells)} {what} are shown."] if len(cells) > MAX_PANELS else []
    return found, [*said, *([f"Gone from the store: the {what} of {', '.join(gone)}."] if gone else [])]


def _distinct_partitions(stored: StoredSuite) -> list[StoredCell]:
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
