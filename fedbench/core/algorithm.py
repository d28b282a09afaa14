"""What one federated algorithm does otherwise than another: three pure functions, which do nothing in FedAvg.

All vectors are (P,): a model's parameters as `FlatModel` has them, or something of the same length. An algorithm is a
frozen object; what it remembers from round to round is handed to it and comes back from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Vectors = Mapping[str, Tensor]
GradientTerm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What a client goes by in a round.

    Attributes
    ----------
    start
        (P,) the parameters that it begins with, w_t.
    server
        What the server remembers.
    sent
        (P,) the sum of the messages that this client has sent in earlier rounds; zeros at first.
    learning_rate
        η.
    """

    start: Tensor
    server: Vectors
    sent: Tensor
    learning_rate: float


@dataclass(frozen=True)
class ServerUpdate:
    """What the server goes by when the clients' average is there.

    Attributes
    ----------
    start
        (P,) the parameters that the round began with, w_t.
    memory
        What it remembers.
    message
        (P,) the average of the clients' messages, with the weights of the models; None if they send none.
    fraction
        m / K, the share of the clients who took part.
    """

    start: Tensor
    memory: Vectors
    message: Tensor | None
    fraction: float


@dataclass(frozen=True)
class Memory:
    """What an algorithm has to go on from after a round, beside the model.

    Attributes
    ----------
    server
        What the server remembers.
    sent
        By client, the sum of its messages; clients who have sent none are left out.
    """

    server: Vectors = field(default_factory=dict)
    sent: Mapping[int, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Memory:
        """The same on another device."""
        return Memory(
            {name: vector.to(device) for name, vector in self.server.items()},
            {client: vector.to(device) for client, vector in self.sent.items()},
        )


@dataclass(frozen=True)
class Algorithm:
    """Federated Averaging. Other algorithms override what they do otherwise."""

    def initial(self, parameters: Tensor) -> Vectors:
        """What the server remembers before round 1; `parameters` are w_0."""
        del parameters
        return {}

    def gradient_term(self, task: Task) -> GradientTerm | None:
        """What a client adds to its gradient in this round, as a function of its parameters; None: nothing."""
        del task
        return None

    def message(self, parameters: Tensor, num_steps: int, task: Task) -> Tensor | None:
        """What a client sends beside its `parameters` after `num_steps` steps; None, from each client: nothing."""
        del parameters, num_steps, task
        return None

    def server_step(self, average: Tensor, update: ServerUpdate) -> tuple[Tensor, Vectors]:
        """The next model's parameters, and what the server remembers next; `average` is that of the clients'."""
        return average, update.memory
