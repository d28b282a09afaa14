"""The paper's non-IID partition (section 3): the data is sorted by label and cut into shards, a few to each client."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbench.partitions import Partition, TrainingTable
from fedbench.util.frozen import Count


@dataclass(frozen=True)
class Shards(Partition):
    """K · `shards_per_client` shards of n / `shards_per_client` examples, dealt at random.

    In the paper these are 200 shards of 300, two a client, so that most clients have examples of two digits. Where K·n
    is less than N, the examples that take part are drawn first. Within a label they are in random order.

    Attributes
    ----------
    shards_per_client
        Shards of each client.
    """

    shards_per_client: Count = 2

    @property
    def parts_per_client(self) -> int:
        """The shards."""
        return self.shards_per_client

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """See `Partition.deal`."""
        drawn = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
        by_label = drawn[np.argsort(table.labels[drawn], kind="stable")]
        shards = by_label.reshape(num_clients * self.shards_per_client, -1)
        dealt = rng.permutation(len(shards)).reshape(num_clients, self.shards_per_client)
        return shards[dealt].reshape(num_clients, examples_per_client)
