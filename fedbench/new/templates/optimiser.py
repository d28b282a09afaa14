"""An optimiser of your own: a function that makes the optimiser of a client's training."""

from collections.abc import Iterable

from torch import Tensor, optim


def my_optimiser(parameters: Iterable[Tensor], learning_rate: float, momentum: float = 0.9) -> optim.Optimizer:
    """RMSprop. It is made anew for each client in each round, so what it remembers ends with the round.

    Parameters
    ----------
    parameters, learning_rate
        What is trained, and the field ``learning_rate`` of the suite.
    momentum
        A parameter with a default is an option that a suite can set.
    """
    return optim.RMSprop(parameters, lr=learning_rate, momentum=momentum)
