"""A suite's figures by class, as data: recall, confusion matrices, and the partition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedbench.components import KINDS, built_in_options
from fedbench.partitions.skew import label_skew
from fedbench.partitions.table import PartitionTable, parse_partition
from fedbench.reports.figure import Figure, Kind, Row, number
from fedbench.reports.layout import mean_std, over_seeds, seeds_text
from fedbench.tracking.records import StoredCell, StoredSuite, sum_confusions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ByClass = Mapping[str, tuple[list[str], NDArray[np.int64]]]

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
        yield Figure(
            CLASSES,
            "Recall by class",
            f"Percent of each class's test images that are recognised after the last round, {seeds}.",
            Kind.MATRIX,
            rows,
            x="class",
            y="cell",
            panel="panel",
            value="recall (%)",
            text="shown",
            possible=(0, 100),
        )


def _place(name: str) -> tuple[bool, int, str]:
    """Numbers by size, then other names."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


def confusion_figure(stored: StoredSuite, confusions: ByClass) -> Iterator[Figure]:
    """The confusion matrix of each cell; `confusions` as in `fedbench.reports.figures.suite_figures`."""
    shown = [cell.label for cell in stored.cells if cell.label in confusions]
    rows: list[Row] = []
    for label in shown:
        names, confusion = confusions[label]
        shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        rows += [
            {
                "cell": label,
                "true class": true,
                "predicted class": predicted,
                "images": int(count),
                "share (%)": number(share),
                "shown": f"{share:.0f}" if count else "",
            }
            for true, counts, of_class in zip(names, confusion, shares, strict=True)
            for predicted, count, share in zip(names, counts, of_class, strict=True)
        ]
    if rows:
        seeds = seeds_text([len(cell.finished) for cell in stored.cells if cell.label in shown])
        yield Figure(
            CLASSES,
            "Confusion matrices",
            f"Percent of each true class (row) that was predicted as each class (column), all images of {seeds} "
            f"counted together. {_left_out(len(stored.measured), len(shown), 'cells')}".strip(),
            Kind.MATRIX,
            rows,
            x="predicted class",
            y="true class",
            panel="cell",
            value="share (%)",
            text="shown",
            possible=(0, 100),
        )


def partition_figure(stored: StoredSuite, partitions: Mapping[str, PartitionTable]) -> Iterator[Figure]:
    """The examples of each client and class; `partitions` as in `fedbench.reports.figures.suite_figures`.

    Partitions of which all clients have the same are one sentence.
    """
    if not partitions:
        return
    balanced = [label for label, table in partitions.items() if _is_balanced(table)]
    rows: list[Row] = []
    cut = 0
    for label, table in partitions.items():
        if label not in balanced:
            skew = label_skew(table.counts)
            title = label if skew is None else f"{label} (label skew {skew:.2f})"
            cut = max(cut, len(table.clients))
            rows += [
                {"panel": title, "class": name, "client": client, "examples": int(count), "shown": str(count)}
                for client, counts in zip(table.clients[:MAX_CLIENTS], table.counts, strict=False)
                for name, count in zip(table.class_names, counts, strict=True)
            ]
    how = (
        "Training examples of each class (row) at each client (column), for the first finished seed. Label skew: the "
        "mean total variation distance between the clients' label distributions and the overall one; 0 if they are "
        "equal."
    )
    sentences = [
        how if rows else "",
        f"The first {MAX_CLIENTS} of up to {cut} clients are shown." if cut > MAX_CLIENTS else "",
        _left_out(len(distinct_partitions(stored)), len(partitions), "partitions"),
        _balance(partitions, balanced),
    ]
    yield Figure(
        DATA,
        "Examples by client and class",
        " ".join(filter(None, sentences)),
        Kind.MATRIX,
        rows,
        x="client",
        y="class",
        panel="panel",
        value="examples",
        text="shown",
        possible=(0, None),
    )


def _is_balanced(table: PartitionTable) -> bool:
    """Whether all clients have the same number of examples of each class, but for one."""
    return bool((np.ptp(table.counts, axis=0) <= 1).all())


def _balance(partitions: Mapping[str, PartitionTable], balanced: list[str]) -> str:
    """One sentence for all partitions that would be panels in which the clients are alike."""
    ranges = {label: (partitions[label].counts.min(), partitions[label].counts.max()) for label in balanced}
    texts = [f"{label} ({low if low == high else f'{low} to {high}'})" for label, (low, high) in ranges.items()]
    return (
        f"Balanced, with as many training examples of a class at each client (±1): {', '.join(texts)}." if texts else ""
    )


def _left_out(count: int, shown: int, what: str) -> str:
    """What a caption says if not everything is shown."""
    return f"The first {shown} of {count} {what} are shown." if count > shown else ""


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
    """The partitions that are shown, and the labels of cells that lack theirs.

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
