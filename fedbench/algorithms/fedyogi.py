"""FedYogi: the server's step is Yogi's (Reddi et al., 2020, arXiv:2003.00295, algorithm 2)."""

from dataclasses import dataclass

from torch import Tensor

from fedbench.algorithms.fedadam import SECOND_MOMENTUM, FedAdam


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """FedAdam but for v ← v − (1 − β₂) Δ² sign(v − Δ²), which comes down no faster than it goes up."""

    def second_moment(self, v: Tensor, squared: Tensor) -> Tensor:
        """The next v, by the last one and Δ²."""
        return v - (1 - SECOND_MOMENTUM) * squared * (v - squared).sign()
