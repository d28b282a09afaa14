"""Which clients take part in a round."""

from __future__ import annotations

from collections.abc import Sequence

from fedbench.core.client import Client
from fedbench.core.streams import Purpose, numpy_stream


def select_clients(seed: int, t: int, participants: Sequence[int], m: int) -> list[int]:
    """S_t: m of the participants, drawn without replacement from round t's own stream, ascending."""
    if m == len(participants):
        return list(participants)
    stream = numpy_stream(seed, Purpose.CLIENT_SAMPLING, t)
    return [participants[i] for i in sorted(stream.choice(len(participants), m, replace=False).tolist())]


def require_valid(
    clients: Sequence[Client], participants: Sequence[int], rounds: int, client_fraction: float, init: str, weights: str
) -> None:
    """Raise a `ValueError` for arguments of `fedavg` that are invalid."""
    if len(clients) == 0:
        raise ValueError("there are no clients")
    if len(participants) == 0:
        raise ValueError("no client has examples")
    if rounds < 1:
        raise ValueError(f"rounds={rounds} must be at least 1")
    if not 0 <= client_fraction <= 1:
        raise ValueError(f"client_fraction={client_fraction} must be in [0, 1]")
    if init not in ("shared", "independent"):
        raise ValueError(f"init={init!r} must be 'shared' or 'independent'")
    if weights not in ("examples", "uniform"):
        raise ValueError(f"weights={weights!r} must be 'examples' or 'uniform'")
