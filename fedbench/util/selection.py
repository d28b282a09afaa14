"""How many clients a round has: the one home of the rule, which needs no PyTorch."""


def num_selected(client_fraction: float, num_clients: int) -> int:
    """The number of clients in a round, m = max(round(C·K), 1), where K counts all clients, with or without examples.

    Where C·K lies halfway between two whole numbers, the even one is taken: 2 for 2.5, 4 for 3.5. The paper
    (McMahan et al., 2017, Algorithm 1) has max(C·K, 1) and does not say how it rounds.
    """
    return max(round(client_fraction * num_clients), 1)
