"""How training examples are dealt to clients: one file each, and one line each in `PARTITIONS`.

A partition's module has one function, ``partition(labels, num_clients, examples_per_client, rng)``: for each client
the indices of its training examples, as a (K, n) array or a sequence that makes them when they are asked for. `rng` is
a NumPy generator of its own stream; a scheme without chance leaves it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

PARTITIONS: dict[str, str] = {
    "consecutive": "consecutive",
    "iid": "iid",
    "overlapping": "overlapping",
}
OVERLAPPING = frozenset({"overlapping"})  # those whose clients may share examples; the others' parts are disjoint


def make_partition(
    name: str, labels: NDArray[Any], num_clients: int, examples_per_client: int, rng: np.random.Generator
) -> Sequence[NDArray[np.int64]]:
    """Deal examples to clients by the scheme `name`.

    Parameters
    ----------
    name
        A key of `PARTITIONS`.
    labels
        (N,) the training labels.
    num_clients, examples_per_client
        K and n; K·n is at most N, and n is if the scheme is one of `OVERLAPPING`.
    rng
        The stream that a scheme with chance draws from.

    Returns
    -------
    sequence of ndarray
        K arrays of n training indices; disjoint if the scheme is not one of `OVERLAPPING`.
    """
    parts: Sequence[NDArray[np.int64]] = import_module(f"fedbench.partitions.{PARTITIONS[name]}").partition(
        labels, num_clients, examples_per_client, rng
    )
    return parts
