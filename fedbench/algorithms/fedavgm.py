"""FedAvgM: the server's steps have momentum (Hsu, Qi and Brown, 2019, arXiv:1909.06335)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fedbench.hooks import Algorithm, ServerContext, Vectors
from fedbench.util.frozen import Fraction, Positive

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedAvgM(Algorithm):
    """The paper's server momentum, with Δ = w̄ − w_t, where w̄ is the average of the clients' models.

    v ← β v + Δ, then w ← w_t + η_s v. β = 0 and η_s = 1 make it FedAvg.

    Attributes
    ----------
    server_learning_rate, server_momentum
        η_s and β.
    """

    server_learning_rate: Positive = 1.0
    server_momentum: Annotated[Fraction, Field(lt=1)] = 0.9

    def initial(self, parameters: Tensor) -> Vectors:
        """No velocity: v = 0."""
        return {"velocity": parameters.new_zeros(parameters.shape)}

    def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Vectors]:
        """See the class."""
        velocity = self.server_momentum * context.memory["velocity"] + (average - context.start)
        return context.start + self.server_learning_rate * velocity, {"velocity": velocity}
