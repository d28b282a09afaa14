"""The paper's non-IID partition (section 3): the data is sorted by label and cut into shards, a few to each client."""

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import TrainingTable


def partition(
    table: TrainingTable,
    num_clients: int,
    examples_per_client: int,
    rng: np.random.Generator,
    shards_per_client: int,
) -> NDArray[np.int64]:
    """See `fedbench.partitions`.

    There are K · `shards_per_client` shards of n / `shards_per_client` examples. In the paper these are 200 of 300, two
    a client, so that most clients have examples of two digits. Where K·n is less than N, the examples that take part
    are drawn first. Within a label they are in random order.
    """
    drawn = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
    by_label = drawn[np.argsort(table.labels[drawn], kind="stable")]
    shards = by_label.reshape(num_clients * shards_per_client, -1)
    dealt = rng.permutation(len(shards)).reshape(num_clients, shards_per_client)
    return shards[dealt].reshape(num_clients, examples_per_client)
