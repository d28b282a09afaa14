"""Quantity skew: IID examples, but some clients have many more than others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedbench.partitions import Partition, TrainingTable
from fedbench.partitions.proportions import Concentration, divide, proportions


@dataclass(frozen=True)
class QuantitySkew(Partition):
    """The clients' shares of K·n examples are random. One of the two options is given.

    Attributes
    ----------
    partition_alpha
        α: the shares are Dirichlet(α, …, α), as in Li et al. (2022), arXiv:2102.02079.
    partition_sigma
        σ: the shares are proportional to log-normal variates, whose logarithms have this standard deviation.
    """

    is_equal: ClassVar[bool] = False

    partition_alpha: Concentration | None = None
    partition_sigma: Annotated[float, Field(gt=0, le=100)] | None = None

    def __post_init__(self) -> None:
        if (self.partition_alpha is None) == (self.partition_sigma is None):
            raise ValueError("set partition_sigma for log-normal sizes, or partition_alpha for Dirichlet ones")

    @property
    def remedy(self) -> str:
        """A larger α or a smaller σ."""
        return "a smaller partition_sigma" if self.partition_alpha is None else "a larger partition_alpha"

    def deal(
        self, table: TrainingTable, num_clients: int, examples_per_client: int, rng: np.random.Generator
    ) -> Sequence[NDArray[np.int64]]:
        """See `Partition.deal`."""
        shuffled = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
        if self.partition_alpha is not None:
            return divide(shuffled, proportions(num_clients, self.partition_alpha, rng))
        logarithms = (self.partition_sigma or 0.0) * rng.standard_normal(num_clients)
        shares = np.exp(logarithms - logarithms.max())
        return divide(shuffled, shares / shares.sum())
