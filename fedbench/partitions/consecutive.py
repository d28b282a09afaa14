"""The study's partition: client k has the k-th block of consecutive examples, in the order of the dataset."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import Partition, TrainingTable


@dataclass(frozen=True)
class Consecutive(Partition):
    """Blocks of n consecutive examples. Uses neither labels nor chance."""

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """See `Partition.deal`."""
        del table, rng
        return np.arange(num_clients * examples_per_client).reshape(num_clients, examples_per_client)
