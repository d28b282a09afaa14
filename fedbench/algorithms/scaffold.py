"""SCAFFOLD: control variates correct the clients' drift (Karimireddy et al., 2019, arXiv:1910.06378, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedbench.hooks import AffineTerm, Algorithm, ClientContext, ServerContext, Vectors
from fedbench.util.frozen import Positive

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scaffold(Algorithm):
    """Algorithm 1 of the paper, with option II for the control variates c of the server and c_k of client k.

    A client steps along g − c_k + c. After s steps from w_t to w_k, c_k⁺ = c_k − c + (w_t − w_k) / (s η), and it sends
    c_k⁺ − c_k. The server takes w ← w_t + η_s (w̄ − w_t), w̄ being the average of the w_k, and c ← c + n_S/n times the
    average of c_k⁺ − c_k, n_S and n being the examples of the selected and of all clients: c is always the average of
    all c_k. All averages have the weights n_k. The paper's clients all have the same, which makes n_S/n its |S|/N. All
    control variates start at 0, so round 1 is that of FedAvg.

    Attributes
    ----------
    server_learning_rate
        η_s, the paper's η_g.
    """

    server_learning_rate: Positive = 1.0
    assumes_descent: ClassVar[bool] = True

    def initial(self, parameters: Tensor) -> Vectors:
        """No correction: c = 0."""
        return {"c": parameters.new_zeros(parameters.shape)}

    def gradient_term(self, context: ClientContext) -> AffineTerm:
        """See the class; the messages of client k add up to c_k."""
        return AffineTerm(added=context.server["c"] - context.sent)

    def message(self, parameters: Tensor, num_steps: int, context: ClientContext) -> Tensor:
        """See the class: c_k⁺ − c_k."""
        return (context.start - parameters) / (num_steps * context.learning_rate) - context.server["c"]

    def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Vectors]:
        """See the class."""
        assert context.message is not None  # noqa: S101 - it sends messages
        c = context.memory["c"] + context.fraction * context.message
        return context.start + self.server_learning_rate * (average - context.start), {"c": c}
