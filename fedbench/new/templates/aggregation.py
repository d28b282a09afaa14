"""An aggregation of your own: a function that combines the clients' models into the server's."""

from torch import Tensor


def my_aggregation(vectors: Tensor, weights: Tensor, power: float = 0.5) -> Tensor:
    """The average in which a client counts by a power of its share of the examples.

    Parameters
    ----------
    vectors
        (m, D): the models of the round's m clients, each as one vector.
    weights
        (m,): the clients' shares of the examples; they sum to 1.
    power
        1: as FedAvg; 0: all clients count the same. A parameter with a default is an option that a suite can set.

    Returns
    -------
    Tensor
        (D,)
    """
    changed = weights**power
    return (changed / changed.sum()) @ vectors
