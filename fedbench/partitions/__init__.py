"""How training examples are dealt to clients: one file each, and one line each in `PARTITIONS`.

A partition is a frozen dataclass that extends `Partition`; its fields are its options. A suite may also name a function
``deal(table, num_clients, examples_per_client, rng, **options)`` that returns the same as `Partition.deal`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Dealt = Sequence[NDArray[np.int64]] | NDArray[np.int64]

PARTITIONS: dict[str, str] = {
    "consecutive": "fedbench.partitions.consecutive:Consecutive",
    "iid": "fedbench.partitions.iid:IID",
    "overlapping": "fedbench.partitions.overlapping:Overlapping",
    "shards": "fedbench.partitions.shards:Shards",
    "dirichlet": "fedbench.partitions.dirichlet:Dirichlet",
    "quantity-skew": "fedbench.partitions.quantity_skew:QuantitySkew",
    "by-column": "fedbench.partitions.by_column:ByColumn",
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


@dataclass(frozen=True)
class Partition:
    """The base of partitions. Subclasses override `deal` and the facts in which they differ.

    A subclass refuses options that do not fit together with a `ValueError` in ``__post_init__``.

    Attributes
    ----------
    is_equal
        Whether every client has exactly n examples. Otherwise n is their mean, and some may have none.
    is_overlapping
        Whether clients may share examples. Otherwise their parts are disjoint.
    has_own_sizes
        Whether the data alone determines the clients' sizes, so that a suite may not set ``examples_per_client``.
    """

    is_equal: ClassVar[bool] = True
    is_overlapping: ClassVar[bool] = False
    has_own_sizes: ClassVar[bool] = False

    @property
    def parts_per_client(self) -> int:
        """A client's examples consist of this many equal parts, so it divides n."""
        return 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of metadata that are read."""
        return ()

    @property
    def remedy(self) -> str:
        """What leaves fewer clients without examples."""
        return "a larger examples_per_client"

    def deal(self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator) -> Dealt:
        """Deal the training examples to the clients.

        Parameters
        ----------
        table
            The training examples.
        num_clients, examples_per_client
            K and n; K·n is at most N, and so is n if the partition is overlapping.
        rng
            The partition's own random stream. A partition without chance does not use it.

        Returns
        -------
        sequence of ndarray
            K arrays of training indices, or one of shape (K, n). A sequence may compute an item when it is asked for.

        Raises
        ------
        PartitionError
            If the data cannot be dealt so: one line that says why and what to do.
        """
        raise NotImplementedError

    def client_name(self, table: TrainingTable, client: int, part: NDArray[np.int64]) -> str:
        """The name of a client that has the examples `part`: its number, unless it is a group with a name."""
        del table, part
        return str(client)


@dataclass(frozen=True)
class FunctionPartition(Partition):
    """A function as a partition, with its options; its clients may have any number of disjoint examples."""

    function: Callable[..., Dealt]
    options: Mapping[str, Any]
    is_equal: ClassVar[bool] = False

    def deal(self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator) -> Dealt:
        """Call the function."""
        return self.function(table, num_clients, examples_per_client, rng, **self.options)
