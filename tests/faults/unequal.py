"""Clients of unequal sizes, which no shipped partition has: what goes wrong with n_k shows with it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import Partition, TrainingTable


@dataclass(frozen=True)
class Unequal(Partition):
    """The data is shuffled; client 0 gets half of what all get, each further one half of what is left.

    The last two have equally many. `examples_per_client` is the mean, such as 100 for 200, 100, 50 and 50.
    """

    is_equal: ClassVar[bool] = False

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """See the class."""
        shuffled = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
        ends = [len(shuffled) - (len(shuffled) >> k) for k in range(1, num_clients)]
        return np.split(shuffled, ends)
