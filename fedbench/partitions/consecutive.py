"""The study's partition: client k has the k-th run of consecutive examples, in the order of the dataset."""

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import TrainingTable


def partition(
    table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """See `fedbench.partitions`. The table and the random stream are not used."""
    del table, rng
    return np.arange(num_clients * examples_per_client).reshape(num_clients, examples_per_client)
