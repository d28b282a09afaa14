"""Random shares of a whole, and a whole divided by them: what the skewed partitions have in common."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

# Of a symmetric Dirichlet distribution: a small one makes shares unequal.
Concentration = Annotated[float, Field(ge=1e-6, le=1e6)]


def proportions(count: int, alpha: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count,) a draw from the symmetric Dirichlet distribution of concentration `alpha`; it sums to one.

    It is made of gamma variates by their logarithms, since for a small `alpha` they are too small for a float: a
    variate of shape α is one of shape α + 1 times U^(1/α), U being uniform (Marsaglia and Tsang, 2000).
    """
    logarithms = np.log(rng.standard_gamma(alpha + 1, count)) + np.log1p(-rng.random(count)) / alpha
    weights = np.exp(logarithms - logarithms.max())
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def divide(items: NDArray[np.int64], shares: NDArray[np.float64]) -> Sequence[NDArray[np.int64]]:
    """Consecutive parts of `items`, each as large as its share of them up to rounding, and all of them together."""
    ends = np.round(np.cumsum(shares) * len(items)).astype(np.int64)
    ends[-1] = len(items)
    return np.split(items, ends[:-1])
