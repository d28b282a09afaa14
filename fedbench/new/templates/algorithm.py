"""An algorithm of your own: a frozen dataclass with hooks into Federated Averaging. Its fields are its options."""

from dataclasses import dataclass

from torch import Tensor

from fedbench.core import Algorithm, ServerContext, Vectors


@dataclass(frozen=True)
class MyAlgorithm(Algorithm):
    """The server moves only part of the way to the clients' average.

    Attributes
    ----------
    share
        1: to the average itself, as FedAvg does.
    """

    share: float = 0.5

    def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Vectors]:
        """Return the next model and what the server remembers. Models are flat vectors, (P,)."""
        return context.start + self.share * (average - context.start), context.memory
