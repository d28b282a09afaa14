"""FedAvgM: the server's steps have momentum (Hsu, Qi and Brown, 2019, arXiv:1909.06335)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedbench.hooks import Algorithm, ServerContext, Vectors


@dataclass(frozen=True)
class FedAvgM(Algorithm):
    """Section 4.3 of the paper, with Δ = w̄ − w_t, what the clients' average w̄ changes.

    v ← β v + Δ, then w ← w_t + η_s v. β = 0 and η_s = 1 make it FedAvg.

    Attributes
    ----------
    server_learning_rate, server_momentum
        η_s and β.
    """

    server_learning_rate: float
    server_momentum: float

    def initial(self, parameters: Tensor) -> Vectors:
        """No velocity: v = 0."""
        return {"velocity": torch.zeros_like(parameters)}

    def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Vectors]:
        """See the class."""
        velocity = self.server_momentum * context.memory["velocity"] + (average - context.start)
        return context.start + self.server_learning_rate * velocity, {"velocity": velocity}
