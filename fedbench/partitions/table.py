"""Who has what: a table with a row a client and a column a class, and how far it is from an even spread."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_EXAMPLES = 2**40  # in a table that is read: their sums are far from the limits of 64 bits


@dataclass(frozen=True)
class PartitionTable:
    """How many examples of each class each client has, (K, C); clients are numbers from 0, or groups with names."""

    clients: list[str]
    class_names: list[str]
    counts: NDArray[np.int64]

    def csv(self) -> str:
        """The table as the artifact ``partition.csv``; the last column is a client's examples in all."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["client", *self.class_names, "num_examples"])
        for client, row in zip(self.clients, self.counts, strict=True):
            writer.writerow([client, *map(int, row), int(row.sum())])
        return text.getvalue()


def class_counts(parts: Iterable[NDArray[np.int64]], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """(K, C) how many examples of each class each client has."""
    counts = [np.bincount(labels[part], minlength=num_classes) for part in parts]
    return np.stack(counts).astype(np.int64)


def label_skew(counts: NDArray[np.int64]) -> float | None:
    """The mean distance of the clients' label distributions from that of all together, in [0, 1].

    The distance is that of total variation, ½ Σ_c |p_k(c) − p(c)|: the share of a client's examples that would need
    another label for the two to be equal. `counts` is (K, C); clients without examples do not count. None if no client
    has any, which can be so of the first of very many.
    """
    counts = counts[counts.sum(axis=1) > 0]
    if not len(counts):
        return None
    distributions = counts / counts.sum(axis=1, keepdims=True)
    overall = counts.sum(axis=0) / counts.sum()
    return float(np.abs(distributions - overall).sum(axis=1).mean() / 2)


def parse_partition(text: str) -> PartitionTable:
    """What `PartitionTable.csv` gave; a `ValueError` if that is not what it is."""
    header, clients, counts = parse_counts(text)
    if header[0] != "client" or header[-1] != "num_examples":
        raise ValueError("this is no table of clients and classes")
    return PartitionTable(clients, header[1:-1], counts[:, :-1])


def parse_counts(text: str) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """The titles of a table's columns, the names of its R rows, and the counts of each row, (R, columns - 1).

    A `ValueError` if it is no such table: of at least one row and column, with numbers of examples that there can be.
    """
    try:
        titles, *rows = csv.reader(io.StringIO(text))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    numbers = [[int(value) for value in row[1:]] for row in rows]
    if not rows or len(titles) < 2 or any(len(row) != len(titles) for row in rows):
        raise ValueError("this is no table of numbers of examples")
    if not all(0 <= number <= MAX_EXAMPLES for row in numbers for number in row):
        raise ValueError("there are no such numbers of examples")
    return titles, [row[0] for row in rows], np.array(numbers, dtype=np.int64)
