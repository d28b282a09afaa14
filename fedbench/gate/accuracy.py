"""A suite compared with its baseline: first bit by bit, then by statistics over seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.gate.baseline import Baseline, CellRecord, SeedRecord, environment_of, require_data
from fedbench.gate.bits import where_changed
from fedbench.gate.checks import AccuracyCheck, CellCheck, Judgement
from fedbench.gate.measure import measure_suite
from fedbench.gate.power import minimum_detectable_effect, seeds_needed
from fedbench.measures import Verdict, without_skill
from fedbench.runs.identity import ALGORITHM_REVISION
from fedbench.stats import Difference, difference_of, shown_of, spread
from fedbench.suites.files import argument_of
from fedbench.suites.schema import Cell, Scenario, Suite
from fedbench.util.environment import environment_changes

if TYPE_CHECKING:
    from fedbench.executors import Executor
    from fedbench.runs.data import DataSource


def check_suite(
    suite: Suite,
    baseline: Baseline,
    path: Path,
    data: DataSource,
    execute: Executor,
    ignore_bits: bool = False,
    uses_reserve: bool = False,
) -> AccuracyCheck:
    """Measure a suite and compare it with its baseline, that of `comparable_baseline` in the file `path`.

    With `uses_reserve`, cells that seem to differ by more than the margin are judged a second time, by all seeds that
    the baseline has. The second judgement replaces the first. Raises `BaselineError` if the baseline was made with
    other data.
    """
    started = time.perf_counter()
    cells = measure_suite(suite, data, execute)
    require_data(baseline, cells, path, argument_of(suite.name, suite.path))

    def compare(now: Sequence[CellRecord]) -> AccuracyCheck:
        seconds = time.perf_counter() - started
        return check_against_baseline(suite, baseline, now, data.device, seconds, ignore_bits, uses_reserve)

    first = compare(cells)
    reserve = _second_look(suite, baseline, first) if uses_reserve and not first.compares_bits else None
    if reserve is None:
        return first
    more = {record.label: record.seeds for record in measure_suite(reserve, data, execute)}
    second = compare(
        [record.model_copy(update={"seeds": record.seeds + more.get(record.label, ())}) for record in cells]
    )
    counts = {each.cell.label: len(each.now.values) for each in first.cells if each.cell.label in more}
    return replace(second, cells=tuple(replace(each, first_seeds=counts.get(each.cell.label)) for each in second.cells))


def _second_look(suite: Suite, baseline: Baseline, first: AccuracyCheck) -> Suite | None:
    """The suspected cells with the seeds of the baseline that were not computed yet; None if there are none."""
    scenarios = []
    for check in first.cells:
        record = baseline.of(check.cell)
        seeds = tuple(sorted(record.by_seed.keys() - set(check.cell.seeds))) if record else ()
        if seeds and check.suggests_change(baseline.margin):
            cell = check.cell.model_copy(update={"seeds": seeds})
            scenarios.append(Scenario(name=cell.scenario, cells=(cell,)))
    update = {"name": f"{suite.name}, second look", "scenarios": tuple(scenarios)}
    return suite.model_copy(update=update) if scenarios else None


def check_against_baseline(
    suite: Suite,
    baseline: Baseline,
    now: Sequence[CellRecord],
    device: str,
    seconds: float,
    ignore_bits: bool = False,
    uses_reserve: bool = False,
) -> AccuracyCheck:
    """Compare the cells as measured `now`, in `seconds` on `device`, with those that the baseline has.

    With `ignore_bits`, statistics alone judge, in the baseline's environment too. `uses_reserve` says whether a
    suspected change is judged by all seeds of the baseline.
    """
    by_label = {record.label: record for record in now}
    pairs = [(cell, before, by_label[cell.label]) for cell in suite.cells if (before := baseline.of(cell))]
    others = environment_changes(baseline.environment, environment_of(suite, device))
    is_repeatable = device == "cpu"  # a GPU adds in another order each time
    compare_bits = is_repeatable and not (others or ignore_bits) and baseline.revision == ALGORITHM_REVISION
    cells = check_cells(pairs, baseline.metric, baseline.margin, compare_bits, uses_reserve and not compare_bits)
    return AccuracyCheck(
        suite.name, baseline.metric, baseline.margin, baseline.commit, others, compare_bits, cells, seconds
    )


@dataclass(frozen=True)
class _Pair:
    """A cell's runs before and now, by seed: of the seeds in common if there are two or more.

    `num_known` is the number of the baseline's seeds; `broken` says what is wrong whatever the numbers are;
    `difference` is None if every bit is the same.
    """

    cell: Cell
    before: Mapping[int, SeedRecord]
    now: Mapping[int, SeedRecord]
    num_known: int
    broken: str | None
    difference: Difference | None


def check_cells(
    pairs: Iterable[tuple[Cell, CellRecord, CellRecord]],
    metric: str,
    margin: float,
    compare_bits: bool,
    uses_reserve: bool = False,
) -> tuple[CellCheck, ...]:
    """Compare each cell's record now with the one before: `pairs` are a cell, its baseline, and what was measured now.

    Of the metric, higher is better; the margin is a fraction. With `compare_bits`, any difference within a common seed
    counts as a change. With `uses_reserve`, a suspected change is judged by all seeds of the baseline, of which the
    minimum detectable effect is then.
    """
    matched = [_pair(*each, metric) for each in pairs]
    tested = {pair.cell.label: pair.difference for pair in matched if pair.difference and pair.broken is None}
    judged = dict(zip(tested, judge_all(list(tested.values()), margin), strict=True))
    test = partial(_check, metric=metric, margin=margin, num_tested=max(len(tested), 1), uses_reserve=uses_reserve)
    return tuple(test(pair, judged.get(pair.cell.label), compare_bits) for pair in matched)


def judge_all(differences: Sequence[Difference], margin: float) -> list[Judgement]:
    """The judgement on each cell's difference, now − baseline, of a metric of which more is better."""
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


def _pair(cell: Cell, before: CellRecord, now: CellRecord, metric: str) -> _Pair:
    sides = before.by_seed, now.by_seed
    common = sides[0].keys() & sides[1].keys()
    if len(common) > 1 or common == sides[1].keys():  # the others have no counterpart
        sides = ({seed: sides[0][seed] for seed in sorted(common)}, {seed: sides[1][seed] for seed in sorted(common)})
    broken = _broken(before.by_seed, now.by_seed)
    is_same = sides[0].keys() == sides[1].keys() and where_changed(*sides) is None and broken is None
    difference = None if is_same else difference_of(*(_values(side, metric) for side in sides))
    return _Pair(cell, *sides, len(before.seeds), broken, difference)


def _check(
    pair: _Pair,
    judged: Judgement | None,
    compare_bits: bool,
    metric: str,
    margin: float,
    num_tested: int,
    uses_reserve: bool,
) -> CellCheck:
    before, now = (spread(list(_values(side, metric).values())) for side in (pair.before, pair.now))
    fresh = both = known = None
    if before.std is not None:
        fresh = seeds_needed(before.std, margin, num_tested, num_baseline=pair.num_known)
        both = None if fresh else seeds_needed(before.std, margin, num_tested)
    lost = without_skill([record.verdict for record in pair.now.values()])
    check = partial(CellCheck, pair.cell, before, now, fresh_seeds_needed=fresh, baseline_seeds_needed=both, lost=lost)
    if pair.difference is None:
        return check(0.0, (0.0, 0.0), True, Judgement.SAME)
    difference = of_all = pair.difference
    if difference.is_paired and difference.error is not None:
        scatter = difference.error * math.sqrt(len(pair.now))
        known = seeds_needed(scatter, margin, num_tested, is_paired=True)
        if uses_reserve:
            of_all = replace(difference, error=scatter / math.sqrt(pair.num_known), freedom=pair.num_known - 1)
    return check(
        difference.mean,
        difference.interval,
        difference.is_paired,
        judged or Judgement.WORSE,  # not judged: broken
        changed=where_changed(pair.before, pair.now) if compare_bits else None,
        reason=pair.broken or ("one seed" if difference.error is None else None),
        detectable_effect=minimum_detectable_effect(of_all, margin, num_tested),
        seeds_needed=known,
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
