"""FedAdam: the server takes steps of Adam (Reddi et al., 2020, arXiv:2003.00295, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fedbench.hooks import Algorithm, ServerContext, Vectors
from fedbench.util.frozen import Fraction, Positive

if TYPE_CHECKING:
    from torch import Tensor

SECOND_MOMENTUM = 0.99  # beta_2, as in the paper's experiments


@dataclass(frozen=True)
class FedAdam(Algorithm):
    """Algorithm 2 of the paper, with Δ = w̄ − w_t, where w̄ is the average of the clients' models.

    m ← β₁ m + (1 − β₁) Δ and v ← β₂ v + (1 − β₂) Δ², then w ← w_t + η_s m / (√v + τ), all by component, without Adam's
    correction of the bias. m starts at 0 and v at τ², the smallest value that the paper allows.

    Attributes
    ----------
    server_learning_rate, server_momentum, server_adaptivity
        η_s, β₁ and τ.
    """

    server_learning_rate: Positive = 0.01
    server_momentum: Annotated[Fraction, Field(lt=1)] = 0.9
    server_adaptivity: Positive = 1e-3

    def initial(self, parameters: Tensor) -> Vectors:
        """See the class."""
        tau_squared = self.server_adaptivity**2
        return {"m": parameters.new_zeros(parameters.shape), "v": parameters.new_full(parameters.shape, tau_squared)}

    def second_moment(self, v: Tensor, squared: Tensor) -> Tensor:
        """The next v, from the last one and Δ²."""
        return SECOND_MOMENTUM * v + (1 - SECOND_MOMENTUM) * squared

    def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Vectors]:
        """See the class."""
        change = average - context.start
        m = self.server_momentum * context.memory["m"] + (1 - self.server_momentum) * change
        v = self.second_moment(context.memory["v"], change.square())
        step = self.server_learning_rate * m / (v.sqrt() + self.server_adaptivity)
        return context.start + step, {"m": m, "v": v}
