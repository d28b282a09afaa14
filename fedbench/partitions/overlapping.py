"""Any number of clients: each draws its own examples from all of the training data, and clients may share some."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import Partition, TrainingTable


@dataclass(frozen=True)
class _Draws(Sequence[NDArray[np.int64]]):
    """Client k's examples, drawn when they are asked for, from a stream of `key` and k."""

    num_clients: int
    examples_per_client: int
    num_examples: int
    key: int

    def __len__(self) -> int:
        return self.num_clients

    def __getitem__(self, k: int) -> NDArray[np.int64]:  # type: ignore[override] # no slices
        if not 0 <= k < self.num_clients:
            raise IndexError(f"client {k} of {self.num_clients}")
        stream = np.random.default_rng([self.key, k])
        return stream.choice(self.num_examples, self.examples_per_client, replace=False)


@dataclass(frozen=True)
class Overlapping(Partition):
    """n random examples for each client, each of them once. Memory does not grow with the number of clients."""

    is_overlapping: ClassVar[bool] = True

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> Sequence[NDArray[np.int64]]:
        """See `Partition.deal`."""
        return _Draws(num_clients, examples_per_client, len(table.labels), int(rng.integers(2**63)))
