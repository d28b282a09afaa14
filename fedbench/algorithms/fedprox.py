"""FedProx: clients stay near the server's model (Li et al., 2018, arXiv:1812.06127)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fedbench.hooks import AffineTerm, Algorithm, ClientContext


@dataclass(frozen=True)
class FedProx(Algorithm):
    """Equation 2 of the paper: a client's objective has the term μ/2 ‖w − w_t‖², whose gradient is μ (w − w_t).

    μ = 0 makes it FedAvg. Every client does all its local epochs; the paper also lets some do fewer.

    Attributes
    ----------
    proximal_weight
        μ.
    """

    proximal_weight: Annotated[float, Field(ge=0)] = 0.01

    def gradient_term(self, context: ClientContext) -> AffineTerm:
        """See the class."""
        return AffineTerm(self.proximal_weight, context.start)
