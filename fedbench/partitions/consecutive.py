"""The study's partition: client k has the k-th run of consecutive examples, in the order of the dataset."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def partition(
    labels: NDArray[Any], num_clients: int, examples_per_client: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """See `fedbench.partitions`. The labels and the random stream are not used."""
    del labels, rng
    return np.arange(num_clients * examples_per_client).reshape(num_clients, examples_per_client)
