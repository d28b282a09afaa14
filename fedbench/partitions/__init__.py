"""How training examples are dealt to clients: one file each, and one line each in `PARTITIONS`.

A partition's module has one function, ``partition(labels, num_clients, examples_per_client, rng)``: for each client
the indices of its training examples. `rng` is a NumPy generator of its own stream; a scheme without chance leaves it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTITIONS: dict[str, str] = {
    "consecutive": "consecutive",
    "iid": "iid",
}


def make_partition(
    name: str, labels: NDArray[Any], num_clients: int, examples_per_client: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Deal examples to clients by the scheme `name`.

    Parameters
    ----------
    name
        A key of `PARTITIONS`.
    labels
        (N,) the training labels.
    num_clients, examples_per_client
        K and n; K·n is at most N.
    rng
        The stream that a scheme with chance draws from.

    Returns
    -------
    list of ndarray
        K arrays of training indices, disjoint.
    """
    parts: list[NDArray[np.int64]] = import_module(f"fedbench.partitions.{PARTITIONS[name]}").partition(
        labels, num_clients, examples_per_client, rng
    )
    return parts
