"""A partition of your own: a function that deals the training examples to the clients."""

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import TrainingTable


def my_partition(
    table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator, mixed: float = 0.5
) -> NDArray[np.int64]:
    """Sort part of the examples by label, so that clients have few labels each.

    Parameters
    ----------
    table
        ``table.labels``, (N,), and ``table.columns``, metadata by name where the dataset has any.
    rng
        The only source of chance: then the same seed gives the same clients.
    mixed
        Share of each client's examples that is drawn from all labels. A parameter after ``rng`` is an option.

    Returns
    -------
    ndarray
        (K, n): the indices of each client's examples. A list of arrays of different lengths will do too. No index may
        be there twice.
    """
    drawn = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
    num_mixed = num_clients * round(mixed * examples_per_client)
    from_all, rest = drawn[:num_mixed], drawn[num_mixed:]
    by_label = rest[np.argsort(table.labels[rest], kind="stable")]
    return np.concatenate([from_all.reshape(num_clients, -1), by_label.reshape(num_clients, -1)], axis=1)
