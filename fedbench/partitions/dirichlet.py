"""Label skew: each class is divided among the clients in proportions drawn from a Dirichlet distribution.

As in Yurochkin et al. (2019), arXiv:1905.12022, and Li et al. (2022), arXiv:2102.02079.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import Partition, TrainingTable
from fedbench.partitions.proportions import Concentration, divide, proportions


@dataclass(frozen=True)
class Dirichlet(Partition):
    """The proportions of each class over the K clients are Dirichlet(α, …, α).

    A small α gives each class to one client, a large one divides it equally. Where K·n is less than N, the examples
    that take part are drawn first.

    Attributes
    ----------
    partition_alpha
        α.
    """

    is_equal: ClassVar[bool] = False

    partition_alpha: Concentration = 0.5

    @property
    def remedy(self) -> str:
        """A larger α."""
        return "a larger partition_alpha"

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """See `Partition.deal`."""
        drawn = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
        dealt: list[list[NDArray[np.int64]]] = [[] for _ in range(num_clients)]
        for label in range(table.num_classes):
            of_class = drawn[table.labels[drawn] == label]
            shares = proportions(num_clients, self.partition_alpha, rng)
            for client, part in zip(dealt, divide(of_class, shares), strict=True):
                client.append(part)
        return [np.concatenate(parts) for parts in dealt]
