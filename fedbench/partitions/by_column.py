"""Natural groups: each client has the examples with one value of a column of the dataset's metadata."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import Partition, TrainingTable
from fedbench.util.errors import PartitionError


@dataclass(frozen=True)
class ByColumn(Partition):
    """The clients are the K largest groups, with all their examples; equally large ones in the order of their names.

    Attributes
    ----------
    partition_column
        The column of metadata whose values are the clients.
    """

    is_equal: ClassVar[bool] = False
    has_own_sizes: ClassVar[bool] = True

    partition_column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.partition_column,)

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """See `Partition.deal`."""
        del examples_per_client, rng
        column = self.partition_column
        if column not in table.columns:
            there = f"choose from {', '.join(table.columns)}" if table.columns else "this dataset has no metadata"
            raise PartitionError(f"by-column: there is no column {column}: {there}")
        values = table.columns[column]
        if missing := int((values == "").sum()):
            raise PartitionError(
                f"by-column: {missing} of {len(values)} training examples have no {column}: "
                "choose a column without missing values"
            )
        sizes = Counter(values.tolist())
        if num_clients > len(sizes):
            raise PartitionError(
                f"by-column: {column} has {len(sizes)} values, too few for {num_clients} clients: "
                f"set num_clients to {len(sizes)} or fewer"
            )
        largest = sorted(sizes, key=lambda value: (-sizes[value], value))[:num_clients]
        return [np.flatnonzero(values == value) for value in largest]

    def client_name(self, table: TrainingTable, client: int, part: NDArray[np.int64]) -> str:
        """The value that the client's examples share."""
        del client
        return str(table.columns[self.partition_column][part[0]])
