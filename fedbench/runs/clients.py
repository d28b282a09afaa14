"""The clients of a run: each is an index into the training data until it trains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedbench.core import Client, Purpose, numpy_stream
from fedbench.partitions import TrainingTable
from fedbench.partitions.table import PartitionTable, class_counts
from fedbench.util.errors import PartitionError, RunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.datasets import Dataset
    from fedbench.partitions import Dealt, Partition
    from fedbench.suites.schema import CellSpec, RunSpec


MAX_COUNTED = 1_000  # clients whose examples are counted by class
MAX_NAMED = 10  # clients without examples that a warning names

logger = logging.getLogger("fedbench")


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
        images = self.dataset.train_images.index_select(0, self._positions)
        return self.dataset.normalise(images).to(self.device)

    @property
    def labels(self) -> Tensor:
        return self.dataset.train_labels[self._positions].to(self.device)

    @property
    def _positions(self) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.index))  # torch takes no negative strides


@dataclass(frozen=True)
class Clients(Sequence[Client]):
    """All clients of a partition; each is made when it is asked for.

    `parts` are the indices of each client's training examples; `participants` those that have some, ascending. The
    others take no part: their weight n_k is 0.
    """

    dataset: Dataset
    parts: Dealt
    device: torch.device
    participants: Sequence[int]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, k: int) -> Client:  # type: ignore[override]
        return _ClientOfPartition(self.dataset, self.parts[k], self.device)

    def public_inputs(self, number: int) -> Tensor:
        """(N, ...) of the last training examples that no client holds."""
        is_left = np.ones(len(self.dataset.train_labels), dtype=np.bool_)
        for part in self.parts:
            is_left[part] = False
        left = np.flatnonzero(is_left)
        if number > len(left):
            raise RunError(
                f"public_examples: clients hold all but {len(left)} of {len(is_left)} training examples, but {number} "
                "must be public; lower public_examples or set a smaller examples_per_client"
            )
        return _ClientOfPartition(self.dataset, left[len(left) - number :], self.device).inputs


def clients_of(run: RunSpec, dataset: Dataset, device: torch.device) -> Clients:
    """The clients of a run, with the training examples that its partition deals to them.

    Raises `PartitionError` if the data cannot be dealt so.
    """
    parts = _deal(run, dataset)
    everybody = range(len(parts))
    is_equal = run.spec.part("partition").is_equal
    return Clients(dataset, parts, device, everybody if is_equal else [k for k in everybody if len(parts[k])])


def warn_of_idle(run: RunSpec, clients: Clients) -> None:
    """Say which clients of a run have no examples, if any."""
    if len(clients.participants) == len(clients):
        return
    idle = sorted(set(range(len(clients))) - set(clients.participants))
    named = ", ".join(map(str, idle[:MAX_NAMED])) + (" and others" if len(idle) > MAX_NAMED else "")
    logger.warning(
        "fedbench: %s seed=%d: %d of %d clients have no examples and take no part: %s; %s leaves fewer",
        *(run.cell, run.seed, len(idle), len(clients), named, run.spec.part("partition").remedy),
    )


def partition_table(run: RunSpec, dataset: Dataset) -> PartitionTable:
    """How many examples of each class each client of a run has; only the first clients if there are very many."""
    partition, table, parts = run.spec.part("partition"), _table(dataset), _deal(run, dataset)
    few = [parts[k] for k in range(min(len(parts), MAX_COUNTED))]
    names = [partition.client_name(table, k, part) for k, part in enumerate(few)]
    return PartitionTable(names, list(dataset.class_names), class_counts(few, table.labels, table.num_classes))


def _table(dataset: Dataset) -> TrainingTable:
    return TrainingTable(dataset.train_labels.numpy(), len(dataset.class_names), dataset.train_columns)


def _deal(run: RunSpec, dataset: Dataset) -> Dealt:
    spec = run.spec
    partition: Partition = spec.part("partition")
    stream = numpy_stream(run.seed, Purpose.PARTITION)
    size = spec.examples_per_client or len(dataset.train_labels) // spec.num_clients
    parts = partition.deal(_table(dataset), spec.num_clients, size, stream)
    if spec.component("partition").digest:  # not built in
        _check_dealt(parts, spec, len(dataset.train_labels), partition.is_overlapping)
    return parts


def _check_dealt(parts: Dealt, spec: CellSpec, num_examples: int, may_overlap: bool) -> None:
    """Check what a partition that is not built in has dealt."""
    if len(parts) != spec.num_clients:
        raise PartitionError(f"{spec.partition}: dealt to {len(parts)} clients instead of {spec.num_clients}")
    dealt = np.zeros(num_examples, dtype=np.bool_)
    for k, part in enumerate(map(np.asarray, parts)):
        if part.ndim != 1 or (len(part) and not np.issubdtype(part.dtype, np.integer)):
            raise PartitionError(f"{spec.partition}: client {k} has no list of whole numbers, the indices of examples")
        part = part.astype(np.int64)
        if len(outside := part[(part < 0) | (part >= num_examples)]):
            raise PartitionError(f"{spec.partition}: client {k} has example {outside[0]} of {num_examples}")
        if len(np.unique(part)) < len(part) or dealt[part].any():
            raise PartitionError(f"{spec.partition}: an example of client {k} is dealt twice; deal each at most once")
        if not may_overlap:
            dealt[part] = True
