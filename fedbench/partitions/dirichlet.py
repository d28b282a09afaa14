"""Label skew: each class is divided among the clients in proportions drawn from a Dirichlet distribution.

As in Yurochkin et al. (2019), arXiv:1905.12022, and Li et al. (2022), arXiv:2102.02079.
"""

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import TrainingTable
from fedbench.partitions.proportions import divide, proportions


def partition(
    table: TrainingTable,
    num_clients: int,
    examples_per_client: int,
    rng: np.random.Generator,
    partition_alpha: float,
) -> list[NDArray[np.int64]]:
    """See `fedbench.partitions`.

    The proportions of each class over the K clients are Dirichlet(α, …, α): of one client each where α is small, equal
    where it is large. Where K·n is less than N, the examples that take part are drawn first.
    """
    drawn = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
    dealt: list[list[NDArray[np.int64]]] = [[] for _ in range(num_clients)]
    for label in range(table.num_classes):
        of_class = drawn[table.labels[drawn] == label]
        for client, part in zip(dealt, divide(of_class, proportions(num_clients, partition_alpha, rng)), strict=True):
            client.append(part)
    return [np.concatenate(parts) for parts in dealt]
