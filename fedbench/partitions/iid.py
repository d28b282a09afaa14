"""The paper's IID partition (section 3): the data is shuffled, then dealt in equal parts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import Partition, TrainingTable


@dataclass(frozen=True)
class IID(Partition):
    """n random examples for each client."""

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """See `Partition.deal`."""
        shuffled = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
        return shuffled.reshape(num_clients, examples_per_client)
