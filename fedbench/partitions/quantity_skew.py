"""Quantity skew: IID examples, but some clients have many more than others."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import TrainingTable
from fedbench.partitions.proportions import divide, proportions


def partition(
    table: TrainingTable,
    num_clients: int,
    examples_per_client: int,
    rng: np.random.Generator,
    partition_alpha: float | None,
    partition_sigma: float | None,
) -> Sequence[NDArray[np.int64]]:
    """See `fedbench.partitions`.

    The clients' shares of K·n examples are Dirichlet(α, …, α), as in Li et al. (2022), arXiv:2102.02079; or they go by
    log-normal variates, whose logarithms have the standard deviation σ. One of α and σ is given.
    """
    shuffled = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
    if partition_alpha is not None:
        return divide(shuffled, proportions(num_clients, partition_alpha, rng))
    logarithms = (partition_sigma or 0.0) * rng.standard_normal(num_clients)
    shares = np.exp(logarithms - logarithms.max())
    return divide(shuffled, shares / shares.sum())
