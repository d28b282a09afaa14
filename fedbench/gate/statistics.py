"""What can be said of differences over seeds: tests with a margin, for all cells at once. Pure functions.

All tests are Student's t tests of a `Difference`, at `LEVEL` for all cells together (Holm 1979). With margin δ:

- worse: d < 0 is shown; better: d > 0 is shown;
- not worse (non-inferiority): d > −δ is shown;
- equivalent (two one-sided tests, Schuirmann 1987): −δ < d < δ is shown. It goes before worse and better, since what is
  shown to be smaller than the margin does not matter even where it is shown not to be zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scipy.special import stdtr, stdtrit  # scipy.stats has them too, but takes half a second to import

from fedbench.gate.checks import Judgement
from fedbench.stats import Difference

LEVEL = 0.05  # the chance that any cell at all is taken for worse where none is; likewise for each other judgement
POWER = 0.9  # of what `least_effect` and `seeds_needed` say
MAX_SEEDS = 100_000  # beyond that nobody runs a suite


def judge_all(differences: Sequence[Difference], margin: float) -> list[Judgement]:
    """The judgement on each cell's difference, now − baseline, of a metric of which more is better."""

    def shown(p_value: Callable[[Difference], float]) -> list[bool]:
        return [p <= LEVEL for p in holm([p_value(each) for each in differences])]

    worse = shown(lambda each: at_most(each, 0.0))
    better = shown(lambda each: 1 - at_most(each, 0.0))
    not_worse = shown(lambda each: 1 - at_most(each, -margin))
    equivalent = shown(lambda each: max(1 - at_most(each, -margin), at_most(each, margin)))
    return [
        Judgement.EQUIVALENT
        if equivalent[index]
        else Judgement.WORSE
        if worse[index]
        else Judgement.BETTER
        if better[index]
        else Judgement.NOT_WORSE
        if not_worse[index]
        else Judgement.CANNOT_TELL
        for index in range(len(differences))
    ]


def at_most(difference: Difference, bound: float) -> float:
    """The chance of a mean as low as this one if the true difference is `bound`: small means that it is lower.

    One half, so that nothing is shown, with a single seed or a difference that is not finite.
    """
    distance = difference.mean - bound
    if difference.error is None or not math.isfinite(distance) or math.isnan(difference.error):
        return 0.5
    if difference.error == 0:
        return 0.5 if distance == 0 else float(distance > 0)
    return float(stdtr(difference.freedom, distance / difference.error))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being several, by Holm's step-down method: each is as if it were the only one."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def least_effect(difference: Difference, num_cells: int) -> float | None:
    """The true drop that is found worse with a probability of `POWER`, were it the only one of `num_cells`.

    The sum of two quantiles of Student's t distribution times the standard error, a usual and slightly low
    approximation. None where the scatter is not known.
    """
    if difference.error is None or not math.isfinite(difference.error):
        return None
    if difference.error == 0:
        return 0.0
    quantiles = stdtrit(difference.freedom, 1 - LEVEL / num_cells) + stdtrit(difference.freedom, POWER)
    return float(quantiles * difference.error)


def seeds_needed(std: float, margin: float, num_cells: int, is_paired: bool) -> int | None:
    """How many seeds show that an unchanged cell is equivalent with a probability of `POWER`.

    Parameters
    ----------
    std
        The standard deviation over seeds: of the differences if they are paired, else of one set.
    margin
        Greater than zero.

    Returns
    -------
    int or None
        Two at least; None if `std` is not finite, or if it were more than `MAX_SEEDS`.
    """
    if not math.isfinite(std):
        return None
    per_seed = std if is_paired else std * math.sqrt(2)

    def suffices(count: int) -> bool:
        freedom = count - 1 if is_paired else 2 * (count - 1)
        # Both one-sided tests must succeed: each may fail in half of the cases that are left.
        quantiles = stdtrit(freedom, 1 - LEVEL / num_cells) + stdtrit(freedom, (1 + POWER) / 2)
        return bool(quantiles * per_seed / math.sqrt(count) <= margin)

    low, high = 1, 2
    while not suffices(high):
        low, high = high, 2 * high
        if low > MAX_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high
