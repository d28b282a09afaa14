"""FedAdam: the server's step is Adam's (Reddi et al., 2020, arXiv:2003.00295, algorithm 2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedbench.hooks import Algorithm, ServerContext, Vectors

SECOND_MOMENTUM = 0.99  # beta_2, as in the paper's experiments


@dataclass(frozen=True)
class FedAdam(Algorithm):
    """Algorithm 2 of the paper, with Δ = w̄ − w_t, what the clients' average w̄ changes.

    m ← β₁ m + (1 − β₁) Δ and v ← β₂ v + (1 − β₂) Δ², then w ← w_t + η_s m / (√v + τ), all by component, without Adam's
    correction of the bias. m begins with 0 and v with τ², the least that the paper allows.

    Attributes
    ----------
    server_learning_rate, server_momentum, server_adaptivity
        η_s, β₁ and τ.
    """

    server_learning_rate: float
    server_momentum: float
    server_adaptivity: float

    def initial(self, parameters: Tensor) -> Vectors:
        """See the class."""
        return {"m": torch.zeros_like(parameters), "v": torch.full_like(parameters, self.server_adaptivity**2)}

    def second_moment(self, v: Tensor, squared: Tensor) -> Tensor:
        """The next v, by the last one and Δ²."""
        return SECOND_MOMENTUM * v + (1 - SECOND_MOMENTUM) * squared

    def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Vectors]:
        """See the class."""
        change = average - context.start
        m = self.server_momentum * context.memory["m"] + (1 - self.server_momentum) * change
        v = self.second_moment(context.memory["v"], change.square())
        step = self.server_learning_rate * m / (v.sqrt() + self.server_adaptivity)
        return context.start + step, {"m": m, "v": v}
