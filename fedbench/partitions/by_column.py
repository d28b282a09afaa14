"""Natural groups: each client has the examples with one value of a column of the dataset's metadata."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import TrainingTable
from fedbench.util.errors import PartitionError


def partition(
    table: TrainingTable,
    num_clients: int,
    examples_per_client: int,
    rng: np.random.Generator,
    partition_column: str,
) -> list[NDArray[np.int64]]:
    """See `fedbench.partitions`. The clients are the K largest groups, with all their examples; equal ones by name."""
    del examples_per_client, rng
    if partition_column not in table.columns:
        there = f"choose from {', '.join(table.columns)}" if table.columns else "this dataset has no metadata"
        raise PartitionError(f"by-column: there is no column {partition_column}: {there}")
    values = table.columns[partition_column]
    if missing := int((values == "").sum()):
        raise PartitionError(
            f"by-column: {missing} of {len(values)} training examples have no {partition_column}: "
            "choose a column without missing values"
        )
    sizes = Counter(values.tolist())
    if num_clients > len(sizes):
        raise PartitionError(
            f"by-column: {partition_column} has {len(sizes)} values, too few for {num_clients} clients: "
            f"set num_clients to {len(sizes)} or fewer"
        )
    largest = sorted(sizes, key=lambda value: (-sizes[value], value))[:num_clients]
    return [np.flatnonzero(values == value) for value in largest]
