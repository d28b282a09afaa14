"""The mean of each component without its extremes (Yin et al., 2018, arXiv:1803.01498, definition 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrimmedMean:
    """The mean without the f smallest and the f largest values; the paper's β is f / m. All clients count the same.

    It needs m ≥ 2 f + 1 clients in each round. What is not a number counts as larger than all numbers.

    Attributes
    ----------
    byzantine_clients
        f, the number of clients whose models may be wrong in any way.
    """

    byzantine_clients: Annotated[int, Field(ge=1)] = 1

    @property
    def min_clients(self) -> int:
        """2 f + 1."""
        return 2 * self.byzantine_clients + 1

    def __call__(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """See the class."""
        del weights
        f = self.byzantine_clients
        return vectors.sort(dim=0).values[f : len(vectors) - f].mean(dim=0)
