"""A suite compared with its baseline: first bit by bit, then by statistics over seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.executors import THREADS
from fedbench.gate.baseline import Baseline, CellRecord, SeedRecord, require_data
from fedbench.gate.bits import where_changed
from fedbench.gate.checks import AccuracyCheck, CellCheck, Judgement
from fedbench.gate.measure import measure_suite
from fedbench.measures import Verdict
from fedbench.runs.identity import ALGORITHM_REVISION
from fedbench.stats import (
    Difference,
    difference_of,
    minimum_detectable_effect,
    seeds_needed,
    shown_of,
    spread,
)
from fedbench.suites.schema import Cell, Suite
from fedbench.util.environment import environment, environment_changes

if TYPE_CHECKING:
    from fedbench.executors import Executor
    from fedbench.runs.data import DataSource


def check_suite(
    suite: Suite, baseline: Baseline, path: Path, data: DataSource, execute: Executor, ignore_bits: bool = False
) -> AccuracyCheck:
    """Measure a suite and compare it with its baseline, that of `comparable_baseline` in the file `path`.

    Raises
    ------
    BaselineError
        If the baseline was made with other data.
    """
    started = time.perf_counter()
    cells = measure_suite(suite, data, execute)
    require_data(baseline, cells, path)
    return check_against_baseline(suite, baseline, cells, data.device, time.perf_counter() - started, ignore_bits)


def check_against_baseline(
    suite: Suite,
    baseline: Baseline,
    now: Sequence[CellRecord],
    device: str,
    seconds: float,
    ignore_bits: bool = False,
) -> AccuracyCheck:
    """Compare what was measured with a baseline, in the cells that both have.

    Parameters
    ----------
    now
        The suite's cells as measured now.
    device
        The device that computed them.
    seconds
        How long that took.
    ignore_bits
        Judge by statistics alone, in the baseline's environment too.
    """
    by_label = {record.label: record for record in now}
    pairs = [(cell, before, by_label[cell.label]) for cell in suite.cells if (before := baseline.of(cell))]
    others = environment_changes(baseline.environment, environment(device, THREADS))
    compare_bits = not others and not ignore_bits and baseline.revision == ALGORITHM_REVISION
    cells = check_cells(pairs, baseline.metric, baseline.margin, compare_bits)
    return AccuracyCheck(
        suite.name, baseline.metric, baseline.margin, baseline.commit, others, compare_bits, cells, seconds
    )


@dataclass(frozen=True)
class _Pair:
    """A cell's runs before and now, by seed: of the seeds in common if there are two or more.

    `broken` says what is wrong whatever the numbers are.
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
        A cell, its baseline, and what was measured now.
    metric
        A metric's name; higher is better.
    margin
        The equivalence margin, a fraction.
    compare_bits
        Whether any difference within a common seed counts as a change.
    """
    matched = [_pair(*each) for each in pairs]
    tested = [pair for pair in matched if not pair.is_same and pair.broken is None]
    differences = {pair.cell.label: pair.difference(metric) for pair in tested}
    judged = dict(zip(differences, judge_all(list(differences.values()), margin), strict=True))
    return tuple(_check(pair, metric, margin, compare_bits, judged, max(len(tested), 1)) for pair in matched)


def judge_all(differences: Sequence[Difference], margin: float) -> list[Judgement]:
    """The judgement on each cell's difference, now − baseline, of a metric of which more is better.

    Equivalent goes first: what is shown to be smaller than the margin does not matter, even if it is not zero.
    """
    judgements = []
    for shown in shown_of(differences, margin):
        candidates = (
            (shown.equivalent, Judgement.EQUIVALENT),
            (shown.worse, Judgement.WORSE),
            (shown.better, Judgement.BETTER),
            (shown.not_worse, Judgement.NOT_WORSE),
        )
        judgements.append(next((judgement for is_shown, judgement in candidates if is_shown), Judgement.INCONCLUSIVE))
    return judgements


def _pair(cell: Cell, before: CellRecord, now: CellRecord) -> _Pair:
    sides = before.by_seed, now.by_seed
    common = sides[0].keys() & sides[1].keys()
    if len(common) > 1 or common == sides[1].keys():  # the others have no counterpart
        sides = ({seed: sides[0][seed] for seed in sorted(common)}, {seed: sides[1][seed] for seed in sorted(common)})
    return _Pair(cell, *sides, _broken(before.by_seed, now.by_seed))


def _check(
    pair: _Pair, metric: str, margin: float, compare_bits: bool, judged: Mapping[str, Judgement], num_tested: int
) -> CellCheck:
    before, now = (spread(list(_values(side, metric).values())) for side in (pair.before, pair.now))
    fresh = None if before.std is None else seeds_needed(before.std, margin, num_tested, is_paired=False)
    if pair.is_same:
        return CellCheck(pair.cell, before, now, 0.0, (0.0, 0.0), True, Judgement.SAME, fresh_seeds_needed=fresh)
    difference = pair.difference(metric)
    error = difference.error
    scatter = None if error is None or not difference.is_paired else error * math.sqrt(len(now.values))
    return CellCheck(
        pair.cell,
        before,
        now,
        difference.mean,
        difference.interval,
        difference.is_paired,
        Judgement.WORSE if pair.broken else judged[pair.cell.label],
        changed=where_changed(pair.before, pair.now) if compare_bits else None,
        reason=pair.broken or ("one seed" if error is None else None),
        detectable_effect=minimum_detectable_effect(difference, num_tested),
        seeds_needed=None if scatter is None else seeds_needed(scatter, margin, num_tested, is_paired=True),
        fresh_seeds_needed=fresh,
    )


def _broken(before: Mapping[int, SeedRecord], now: Mapping[int, SeedRecord]) -> str | None:
    """Runs that failed, or a larger share of runs that diverged."""
    failed = [record for record in now.values() if record.verdict is Verdict.FAILED]
    if failed:
        return f"{len(failed)} of {len(now)} seeds failed: {failed[0].reason}"
    was, share = _share_diverged(before), _share_diverged(now)
    return f"{share:.0%} of the seeds diverged, in the baseline {was:.0%}" if share > was else None


def _share_diverged(side: Mapping[int, SeedRecord]) -> float:
    return sum(record.verdict is Verdict.DIVERGED for record in side.values()) / len(side)


def _values(side: Mapping[int, SeedRecord], metric: str) -> dict[int, float]:
    """Each seed's metric after its last round; NaN for a run that failed before it had one."""
    last = {seed: record.rounds[-1].metrics.get(metric) if record.rounds else None for seed, record in side.items()}
    return {seed: math.nan if value is None else value for seed, value in last.items()}
