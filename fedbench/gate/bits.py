"""Where the bits of a run begin to differ from its baseline."""

from __future__ import annotations

from collections.abc import Mapping

from fedbench.gate.baseline import RoundRecord, SeedRecord
from fedbench.measures import Verdict


def where_changed(before: Mapping[int, SeedRecord], now: Mapping[int, SeedRecord]) -> str | None:
    """Where the first bit of a common seed differs, as text; None if none does.

    For example ``3 of 5 seeds, first in seed 0: round 2, client 1``.
    """
    common = sorted(before.keys() & now.keys())
    now = {seed: _without_newer_metrics(before[seed], now[seed]) for seed in common}
    changed = [seed for seed in common if before[seed] not in (now[seed], _by_the_older_rule(now[seed]))]
    if not changed:
        return None
    seed = changed[0]
    return f"{len(changed)} of {len(common)} seeds, first in seed {seed}: {_first_change(before[seed], now[seed])}"


def _without_newer_metrics(before: SeedRecord, now: SeedRecord) -> SeedRecord:
    """As a baseline has it that is older than some metrics."""
    known = {name for each in before.rounds for name in each.metrics}
    rounds = tuple(
        each.model_copy(update={"metrics": {name: value for name, value in each.metrics.items() if name in known}})
        for each in now.rounds
    )
    return now.model_copy(update={"rounds": rounds})


def _by_the_older_rule(record: SeedRecord) -> SeedRecord:
    """As a baseline has it that is older than the verdict `below majority`."""
    is_split = record.verdict is Verdict.BELOW_MAJORITY
    return record.model_copy(update={"verdict": Verdict.COLLAPSED}) if is_split else record


def _first_change(before: SeedRecord, now: SeedRecord) -> str:
    for number, (one, other) in enumerate(zip(before.rounds, now.rounds, strict=False), start=1):
        if one != other:
            return f"round {number}, {_change_in_round(one, other)}"
    if len(before.rounds) != len(now.rounds):
        return f"{len(now.rounds)} rounds, were {len(before.rounds)}"
    if before.interpolation != now.interpolation:
        return "the models between the two clients'"
    return f"the verdict {now.verdict}, was {before.verdict}"


def _change_in_round(before: RoundRecord, now: RoundRecord) -> str:
    """The first thing that differs, in the order in which a round computes them."""
    if before.clients.keys() != now.clients.keys():
        return "which clients took part"
    if clients := [client for client in before.clients if before.clients[client] != now.clients[client]]:
        return f"client {clients[0]}" + (f" and {len(clients) - 1} more" if len(clients) > 1 else "")
    if before.model != now.model:
        return "the average of the same clients" if before.clients else "the model"
    names = [name for name in before.metrics if before.metrics[name] != now.metrics.get(name)]
    if names:
        return f"{names[0]} of the same model"
    return "which metrics there are" if before.others == now.others else "a client's or a class's metric, same model"
