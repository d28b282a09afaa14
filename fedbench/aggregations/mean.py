"""The weighted mean, as in Federated Averaging (McMahan et al., 2017, arXiv:1602.05629, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.core import WeightedMean


@dataclass(frozen=True)
class Mean:
    """Σ_k weight_k · w_k, summed in the order of the clients, holding one sum."""

    is_portable: ClassVar[bool] = True

    def accumulator(self) -> WeightedMean:
        """The sum, to which models are added one by one."""
        from fedbench.core import WeightedMean

        return WeightedMean()

    def __call__(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """The same of all vectors at once."""
        return weights @ vectors
