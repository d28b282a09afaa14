"""A part of each other kind."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn, optim

from fedbench.core import Algorithm


class Softmax(nn.Module):
    """Multinomial logistic regression.

    Parameters
    ----------
    inputs
        The number of inputs.
    """

    def __init__(self, inputs: int = 64):
        super().__init__()
        self.layer = nn.Linear(inputs, 2)

    def forward(self, x):
        return self.layer(x.flatten(1))


def by_label(table, num_clients, examples_per_client, rng):
    """Clients have one label each, as far as possible."""
    drawn = rng.permutation(len(table.labels))[: num_clients * examples_per_client]
    return np.split(drawn[np.argsort(table.labels[drawn], kind="stable")], num_clients)


@dataclass(frozen=True)
class PartialStep(Algorithm):
    """The server moves part of the way.

    Attributes
    ----------
    share
        1: all of it.
    """

    share: float = 0.5

    def server_step(self, average, context):
        return context.start + self.share * (average - context.start), context.memory


def rmsprop(parameters, learning_rate, smoothing: float = 0.9):
    """RMSprop."""
    return optim.RMSprop(parameters, learning_rate, alpha=smoothing)


def norm_capped(vectors, weights, largest: float = 10.0):
    """The mean of models that are no longer than a cap."""
    lengths = vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return weights @ (vectors * (largest / lengths).clamp(max=1))


def roll(inputs, generator, columns: int = 1):
    """Move all images of a batch."""
    shift = int(torch.randint(-columns, columns + 1, (), generator=generator))
    return inputs.roll(shift, dims=-1)
