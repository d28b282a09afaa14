"""The paper's IID partition (section 3): the data is shuffled, then dealt in equal parts."""

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import TrainingTable


def partition(
    table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """See `fedbench.partitions`."""
    shuffled = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
    return shuffled.reshape(num_clients, examples_per_client)
