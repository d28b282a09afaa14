"""A model and a partition that no shipped suite has: faults of buffers, dropout and weights n_k show with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbench.partitions import Partition, TrainingTable


class NormalisedCNN(nn.Module):
    """A 5x5 convolution with batch normalisation, ReLU and max-pooling, dropout, and a dense layer.

    (B, 1, 28, 28) float32 -> (B, 10) logits. Its buffers are a running mean, a running variance and a counter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, kernel_size=5, stride=2)
        self.normalisation = nn.BatchNorm2d(8)
        self.pooling = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(8 * 6 * 6, 10)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = torch.relu(self.normalisation(self.convolution(x)))  # (B, 8, 12, 12)
        x = self.pooling(x)  # (B, 8, 6, 6)
        return self.dense(self.dropout(x.flatten(1)))


@dataclass(frozen=True)
class Unequal(Partition):
    """The data is shuffled; client 0 gets half of it, each further client half of what is left.

    The last two have the same number. `examples_per_client` is the mean, such as 100 for 200, 100, 50 and 50.
    """

    is_equal: ClassVar[bool] = False

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """See the class."""
        shuffled = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
        ends = [len(shuffled) - (len(shuffled) >> k) for k in range(1, num_clients)]
        return np.split(shuffled, ends)
