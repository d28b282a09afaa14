"""The clients of a run: each is an index into the training data until it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedbench.core import Client, Purpose, numpy_stream
from fedbench.partitions import PARTITIONS, TrainingTable, make_partition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedbench.datasets import Dataset
    from fedbench.specs import RunSpec


@dataclass(frozen=True)
class _ClientOfPartition:
    """A `Client` whose examples are copied and normalised when they are asked for."""

    dataset: Dataset
    index: NDArray[np.int64]
    device: torch.device

    def __len__(self) -> int:
        return len(self.index)

    @property
    def inputs(self) -> Tensor:
        return self.dataset.normalise(self.dataset.train_images[torch.from_numpy(self.index)]).to(self.device)

    @property
    def labels(self) -> Tensor:
        return self.dataset.train_labels[torch.from_numpy(self.index)].to(self.device)


@dataclass(frozen=True)
class Clients(Sequence[Client]):
    """All clients of a partition; each is made when it is asked for.

    Attributes
    ----------
    parts
        For each client the indices of its training examples.
    participants
        The clients that have examples, ascending. The others take no part: their weight n_k is 0.
    """

    dataset: Dataset
    parts: Sequence[NDArray[np.int64]]
    device: torch.device
    participants: Sequence[int]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, k: int) -> Client:  # type: ignore[override]
        return _ClientOfPartition(self.dataset, self.parts[k], self.device)


def clients_of(run: RunSpec, dataset: Dataset, device: torch.device) -> Clients:
    """The clients of a run, with the training examples that its partition deals to them.

    Raises
    ------
    PartitionError
        If the data cannot be dealt so.
    """
    spec = run.spec
    parts = make_partition(
        spec.partition,
        TrainingTable(dataset.train_labels.numpy(), len(dataset.class_names)),
        spec.num_clients,
        spec.num_examples,
        numpy_stream(run.seed, Purpose.PARTITION),
        spec.options_of("partition"),
    )
    everybody = range(len(parts))
    is_equal = PARTITIONS[spec.partition].is_equal
    return Clients(dataset, parts, device, everybody if is_equal else [k for k in everybody if len(parts[k])])
