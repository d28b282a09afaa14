"""The clients of a run: each is an index into the training data until it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedbench.core import Client, Purpose, numpy_stream
from fedbench.partitions import make_partition

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
class _ClientsOfPartition(Sequence[Client]):
    """All clients of a partition; each is made when it is asked for."""

    dataset: Dataset
    parts: Sequence[NDArray[np.int64]]
    device: torch.device

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, k: int) -> Client:  # type: ignore[override]
        return _ClientOfPartition(self.dataset, self.parts[k], self.device)


def clients_of(run: RunSpec, dataset: Dataset, device: torch.device) -> Sequence[Client]:
    """The clients of a run, with the training examples that its partition deals to them."""
    spec = run.spec
    stream = numpy_stream(run.seed, Purpose.PARTITION)
    labels = dataset.train_labels.numpy()
    parts = make_partition(spec.partition, labels, spec.num_clients, spec.num_examples, stream)
    return _ClientsOfPartition(dataset, parts, device)
