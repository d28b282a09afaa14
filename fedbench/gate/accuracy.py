"""A suite against its baseline: first bit by bit, then by statistics over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedbench.gate.baseline import CellRecord, RoundRecord, SeedRecord
from fedbench.gate.checks import CellCheck, Judgement
from fedbench.gate.statistics import judge_all, least_effect, seeds_needed
from fedbench.measures import Verdict
from fedbench.stats import Difference, difference_of, spread
from fedbench.suites.schema import Cell


@dataclass(frozen=True)
class _Pair:
    """A cell's runs before and now, by seed: of the seeds in common if these are two or more.

    `broken` is what is wrong beyond what numbers tell, with whatever seed.
    """

    cell: Cell
    before: Mapping[int, SeedRecord]
    now: Mapping[int, SeedRecord]
    broken: str | None

    @property
    def is_same(self) -> bool:
        return self.before == self.now and self.broken is None

    def difference(self, metric: str) -> Difference:
        return difference_of(_values(self.before, metric), _values(self.now, metric))


def check_cells(
    pairs: Iterable[tuple[Cell, CellRecord, CellRecord]], metric: str, margin: float, compare_bits: bool
) -> tuple[CellCheck, ...]:
    """Compare each cell's record now with the one before.

    Parameters
    ----------
    pairs
        A cell, its baseline, and what was measured now. Every run before now has ended with a model.
    metric
        A metric's name, of which more is better.
    margin
        The difference that does not matter; a fraction.
    compare_bits
        Whether the two are of one environment, so that any difference of a seed that both have is a change.
    """
    matched = [_pair(*each) for each in pairs]
    tested = [pair for pair in matched if not pair.is_same and pair.broken is None]
    differences = {pair.cell.label: pair.difference(metric) for pair in tested}
    judged = dict(zip(differences, judge_all(list(differences.values()), margin), strict=True))
    return tuple(_check(pair, metric, margin, compare_bits, judged, len(tested)) for pair in matched)


def _pair(cell: Cell, before: CellRecord, now: CellRecord) -> _Pair:
    sides = before.by_seed, now.by_seed
    common = sides[0].keys() & sides[1].keys()
    if len(common) > 1 or common == sides[1].keys():  # the others have nothing to be compared with
        sides = ({seed: sides[0][seed] for seed in sorted(common)}, {seed: sides[1][seed] for seed in sorted(common)})
    return _Pair(cell, *sides, _broken(before.by_seed, now.by_seed))


def _check(
    pair: _Pair, metric: str, margin: float, compare_bits: bool, judged: Mapping[str, Judgement], num_tested: int
) -> CellCheck:
    before, now = (list(_values(side, metric).values()) for side in (pair.before, pair.now))
    over_seeds = spread(before).std
    fresh = None if over_seeds is None else seeds_needed(over_seeds, margin, max(num_tested, 1), is_paired=False)
    if pair.is_same:
        return CellCheck(
            pair.cell, spread(before), spread(now), 0.0, (0.0, 0.0), True, Judgement.SAME, fresh_seeds_needed=fresh
        )
    difference = pair.difference(metric)
    error = difference.error
    scatter = None if error is None or not difference.is_paired else error * math.sqrt(len(now))
    return CellCheck(
        pair.cell,
        spread(before),
        spread(now),
        difference.mean,
        difference.interval,
        difference.is_paired,
        Judgement.WORSE if pair.broken else judged[pair.cell.label],
        changed=where_changed(pair.before, pair.now) if compare_bits else None,
        reason=pair.broken or ("one seed" if error is None else None),
        least_effect=least_effect(difference, max(num_tested, 1)),
        seeds_needed=None if scatter is None else seeds_needed(scatter, margin, max(num_tested, 1), is_paired=True),
        fresh_seeds_needed=fresh,
    )


def _broken(before: Mapping[int, SeedRecord], now: Mapping[int, SeedRecord]) -> str | None:
    """Runs that failed, or that diverge and did not."""
    failed = [record for record in now.values() if record.verdict is Verdict.FAILED]
    if failed:
        return f"{len(failed)} of {len(now)} seeds failed: {failed[0].reason}"
    was, share = _share_diverged(before), _share_diverged(now)
    return f"{share:.0%} of the seeds diverged, in the baseline {was:.0%}" if share > was else None


def _share_diverged(side: Mapping[int, SeedRecord]) -> float:
    return sum(record.verdict is Verdict.DIVERGED for record in side.values()) / len(side)


def _values(side: Mapping[int, SeedRecord], metric: str) -> dict[int, float]:
    """Each seed's metric after its last round; not a number for a run that failed before it had one."""
    last = {seed: record.rounds[-1].metrics.get(metric) if record.rounds else None for seed, record in side.items()}
    return {seed: math.nan if value is None else value for seed, value in last.items()}


def where_changed(before: Mapping[int, SeedRecord], now: Mapping[int, SeedRecord]) -> str | None:
    """Where the bits of seeds that both have begin to differ, in words; None if they do not.

    Such as ``3 of 5 seeds, first in seed 0: round 2, client 1``.
    """
    common = sorted(before.keys() & now.keys())
    changed = [seed for seed in common if before[seed] != now[seed]]
    if not changed:
        return None
    seed = changed[0]
    return f"{len(changed)} of {len(common)} seeds, first in seed {seed}: {_first_change(before[seed], now[seed])}"


def _first_change(before: SeedRecord, now: SeedRecord) -> str:
    for number, (one, other) in enumerate(zip(before.rounds, now.rounds, strict=False), start=1):
        if one != other:
            return f"round {number}, {_what_changed(one, other)}"
    if len(before.rounds) != len(now.rounds):
        return f"{len(now.rounds)} rounds, were {len(before.rounds)}"
    if before.interpolation != now.interpolation:
        return "the models between the two clients'"
    return f"the verdict {now.verdict}, was {before.verdict}"


def _what_changed(before: RoundRecord, now: RoundRecord) -> str:
    """The first thing that differs, in the order in which a round makes them."""
    if before.clients.keys() != now.clients.keys():
        return "which clients took part"
    if clients := [client for client in before.clients if before.clients[client] != now.clients[client]]:
        return f"client {_listed(clients)}"
    if before.model != now.model:
        return "the average of the same clients" if before.clients else "the model"
    names = [name for name in before.metrics if before.metrics[name] != now.metrics.get(name)]
    if names:
        return f"{names[0]} of the same model"
    return "which metrics there are" if before.others == now.others else "a client's or a class's metric, same model"


def _listed(clients: Sequence[str]) -> str:
    return clients[0] + (f" and {len(clients) - 1} more" if len(clients) > 1 else "")
