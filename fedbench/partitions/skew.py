"""Who has what, and how far that is from an even spread of the labels."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def class_counts(parts: Iterable[NDArray[np.int64]], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """(K, C) how many examples of each class each client has."""
    counts = [np.bincount(labels[part], minlength=num_classes) for part in parts]
    return np.stack(counts).astype(np.int64)


def label_skew(counts: NDArray[np.int64]) -> float | None:
    """The mean distance of the clients' label distributions from that of all together, in [0, 1].

    The distance is that of total variation, ½ Σ_c |p_k(c) − p(c)|: the share of a client's examples that would need
    another label for the two to be equal. `counts` is (K, C); clients without examples do not count. None if no client
    has any, which can be so of the first of very many.
    """
    counts = counts[counts.sum(axis=1) > 0]
    if not len(counts):
        return None
    distributions = counts / counts.sum(axis=1, keepdims=True)
    overall = counts.sum(axis=0) / counts.sum()
    return float(np.abs(distributions - overall).sum(axis=1).mean() / 2)
