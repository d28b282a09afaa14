"""How training examples are dealt to clients: one file each, and one line each in `PARTITIONS`.

A partition's module has one function, ``partition(table, num_clients, examples_per_client, rng, **options)``: for each
client the indices of its training examples, as a (K, n) array or a sequence of K arrays, which may make them when they
are asked for. `rng` is a NumPy generator of its own stream; a scheme without chance leaves it. What cannot be dealt
raises `PartitionError` with a line that says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PartitionInfo:
    """What is known of a partition without importing it.

    Attributes
    ----------
    module
        Below `fedbench.partitions`.
    options
        The scenario fields that it reads, with their defaults; None where there is none.
    is_overlapping
        Whether clients may share examples. Otherwise their parts are disjoint.
    is_equal
        Whether every client has exactly n examples. Otherwise n is their mean.
    """

    module: str
    options: Mapping[str, float | str | None] = field(default_factory=dict)
    is_overlapping: bool = False
    is_equal: bool = True


PARTITIONS: dict[str, PartitionInfo] = {
    "consecutive": PartitionInfo("consecutive"),
    "iid": PartitionInfo("iid"),
    "overlapping": PartitionInfo("overlapping", is_overlapping=True),
    "shards": PartitionInfo("shards", {"shards_per_client": 2}),
    "dirichlet": PartitionInfo("dirichlet", {"partition_alpha": 0.5}, is_equal=False),
    "quantity-skew": PartitionInfo("quantity_skew", {"partition_alpha": None, "partition_sigma": None}, is_equal=False),
    "by-column": PartitionInfo("by_column", {"partition_column": None}, is_equal=False),
}


@dataclass(frozen=True)
class TrainingTable:
    """What partitions know of the training examples.

    Attributes
    ----------
    labels
        (N,) int64.
    num_classes
        C; labels are below it.
    columns
        Metadata by name, each (N,) text, empty where a value is missing; no columns where the dataset has none.
    """

    labels: NDArray[np.int64]
    num_classes: int
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)


def make_partition(
    name: str,
    table: TrainingTable,
    num_clients: int,
    examples_per_client: int,
    rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Sequence[NDArray[np.int64]]:
    """Deal examples to clients by the scheme `name`.

    Parameters
    ----------
    name
        A key of `PARTITIONS`.
    table
        The training examples.
    num_clients, examples_per_client
        K and n; K·n is at most N, and n is if the scheme is overlapping.
    rng
        The stream that a scheme with chance draws from.
    options
        A value for each of the scheme's own options.

    Returns
    -------
    sequence of ndarray
        K arrays of training indices; of n each, or n in the mean, and disjoint, as the scheme's `PartitionInfo` says.

    Raises
    ------
    PartitionError
        If the data cannot be dealt so: one line that says why and what to do.
    """
    module = import_module(f"fedbench.partitions.{PARTITIONS[name].module}")
    parts: Sequence[NDArray[np.int64]] = module.partition(table, num_clients, examples_per_client, rng, **options)
    return parts
