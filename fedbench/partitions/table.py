"""Who has what, as a table that is written and read: a row a client, a column a class."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PartitionTable:
    """How many examples of each class each client has.

    Attributes
    ----------
    clients
        K names: numbers from 0, or the groups that they are.
    class_names
        C names.
    counts
        (K, C) examples.
    """

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


def parse_partition(text: str) -> PartitionTable:
    """What `PartitionTable.csv` gave; a `ValueError` if that is not what it is."""
    header, *rows = csv.reader(io.StringIO(text))
    if header[:1] != ["client"] or header[-1:] != ["num_examples"] or not rows:
        raise ValueError("this is no table of clients and classes")
    counts = np.array([[int(value) for value in row[1:-1]] for row in rows])
    return PartitionTable([row[0] for row in rows], header[1:-1], counts)
