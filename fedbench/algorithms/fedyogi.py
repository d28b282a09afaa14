"""FedYogi: the server takes steps of Yogi (Reddi et al., 2020, arXiv:2003.00295, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedbench.algorithms.fedadam import SECOND_MOMENTUM, FedAdam

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """FedAdam with v ← v − (1 − β₂) Δ² sign(v − Δ²), which falls no faster than it rises."""

    def second_moment(self, v: Tensor, squared: Tensor) -> Tensor:
        """The next v, from the last one and Δ²."""
        return v - (1 - SECOND_MOMENTUM) * squared * (v - squared).sign()
