"""The server's state between rounds, and what a round returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedbench.core.flat import ModelState
from fedbench.hooks import Vectors


@dataclass(frozen=True)
class ServerState:
    """All that the server needs for the next round: a run resumes from it with the same bits.

    Attributes
    ----------
    round
        t, the number of finished rounds.
    model
        w_t.
    memory
        What the algorithm's server remembers; empty in FedAvg.
    sent
        By client, the sum of its messages; clients that have sent none are left out.
    """

    round: int
    model: ModelState
    memory: Vectors = field(default_factory=dict)
    sent: Mapping[int, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> ServerState:
        """The same state on another device."""
        return ServerState(
            self.round,
            self.model.to(device),
            {name: vector.to(device) for name, vector in self.memory.items()},
            {client: vector.to(device) for client, vector in self.sent.items()},
        )


@dataclass(frozen=True)
class RoundResult:
    """The result of one round.

    Attributes
    ----------
    round
        t, counted from 1.
    model
        The model after the server's step. It is the server's own, and the next round changes it: copy it to keep it.
    selected_clients
        S_t, ascending.
    train_loss
        Mean cross-entropy over the round's local steps, each client weighted as in the average.
    server
        The server's state after the round.
    average
        What the aggregation made of the clients' models, before the server's step. It is `server.model` itself where
        the step took the average as it was, as FedAvg's does. Otherwise frozen parameters may be left out.
    aligned
        The clients' models as they were averaged, in the order of the clients, if the aggregation changes them first:
        with their units in one order.
    """

    round: int
    model: nn.Module
    selected_clients: tuple[int, ...]
    train_loss: float
    server: ServerState = field(repr=False)
    average: ModelState = field(repr=False)
    aligned: tuple[ModelState, ...] = field(default=(), repr=False)

    @property
    def is_average(self) -> bool:
        """Whether the server's step took the average as it was."""
        return self.average is self.server.model
