"""Who has what, as the artifact ``partition.csv``: a row a client, a column a class."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def partition_csv(counts: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """(K, C) examples of each class of each client as a table; the last column is a client's examples in all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["client", *class_names, "num_examples"])
    writer.writerows([client, *map(int, row), int(row.sum())] for client, row in enumerate(counts))
    return text.getvalue()


def parse_partition(text: str) -> tuple[list[str], NDArray[np.int64]]:
    """The class names and the counts (K, C) of `partition_csv`; a `ValueError` if that is not what it is."""
    header, *rows = csv.reader(io.StringIO(text))
    if header[:1] != ["client"] or header[-1:] != ["num_examples"] or not rows:
        raise ValueError("this is no table of clients and classes")
    counts = np.array([[int(value) for value in row] for row in rows])
    return header[1:-1], counts[:, 1:-1]
