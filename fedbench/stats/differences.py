"""Differences of means, tests of them, and what many tests together show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fedbench.stats.spreads import spread, t_quantile

LEVEL = 0.05  # the probability of any false finding among all cells, or all benchmarks, of a check
TIED = 1e-12  # a standard error that is rounding alone
SAMPLES = 200_000  # that a reference distribution is made of
MAX_SKEWED = 30  # seeds in one of them; more seeds, whose distribution is closer to the normal, are judged by it too


@dataclass(frozen=True)
class Difference:
    """How much larger the mean of a second set of seeds is than that of a first.

    Attributes
    ----------
    mean
        Second − first.
    error
        Its standard error; None with a single seed.
    freedom
        Its degrees of freedom, for Student's t distribution.
    is_paired
        Whether both sets have the same seeds.
    """

    mean: float
    error: float | None = None
    freedom: float = 0.0
    is_paired: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval; None with a single seed."""
        if self.error is None:
            return None
        margin = t_quantile(self.freedom) * self.error if self.error else 0.0
        return self.mean - margin, self.mean + margin


def difference_of(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """How much larger the second set's mean is; each set by seed.

    Sets with the same seeds, two or more, are compared pair by pair (a seed has the same partition and random streams
    in both) by Student's t test of the differences. Others are compared as independent samples, by Welch's.
    """
    if len(first) > 1 and first.keys() == second.keys():
        over = spread([second[seed] - first[seed] for seed in first])
        return Difference(over.mean, over.error, len(first) - 1, is_paired=True)
    one, other = spread(list(first.values())), spread(list(second.values()))
    mean = other.mean - one.mean
    errors = [one.error, other.error]
    if errors[0] is None or errors[1] is None:
        return Difference(mean)
    error = math.hypot(errors[0], errors[1])
    if error == 0:
        return Difference(mean, error)
    counts = (len(one.values), len(other.values))
    parts = sum((each or 0) ** 4 / (count - 1) for each, count in zip(errors, counts, strict=True))
    return Difference(mean, error, error**4 / parts)


# Tests of differences


def p_lower(difference: Difference, bound: float) -> float:
    """The p-value of Student's one-sided t test that the true difference is below `bound`.

    It is one half, which shows nothing, for a single seed and for a difference that is not finite.
    """
    from scipy.special import stdtr

    distance = _distance(difference, bound)
    return float(stdtr(max(difference.freedom, 1), distance))


def p_lower_if_skewed(difference: Difference, bound: float) -> float:
    """The same where rare seeds that rise a lot may make up for many that fall a little.

    Student's test takes such pairs, if none of the rare ones is among them, for a shift. Their statistic is therefore
    compared with that of samples of the exponential distribution. Independent samples have no such problem as long as
    both are of about the same size: the difference of two means has little skewness.
    """
    if not difference.is_paired:
        return p_lower(difference, bound)
    if (difference.error or 0) < TIED < abs(difference.mean - bound):  # equal differences tell no more than their signs
        return 0.5 ** (difference.freedom + 1) if difference.mean < bound else 1.0
    reference = skewed_statistics(difference.freedom)
    return float(np.searchsorted(reference, _distance(difference, bound), "right") + 1) / (len(reference) + 1)


def critical_distance(difference: Difference, level: float) -> float:
    """How many standard errors below a bound `p_lower_if_skewed` requires at a level."""
    if not difference.is_paired:
        return t_quantile(difference.freedom, 1 - level)
    return float(-np.quantile(skewed_statistics(difference.freedom), level))


def _distance(difference: Difference, bound: float) -> float:
    """How far a difference is above `bound`, in standard errors; zero where that is not known."""
    distance = difference.mean - bound
    if difference.error is None or not math.isfinite(distance) or math.isnan(difference.error):
        return 0.0
    return distance / difference.error if difference.error else math.copysign(math.inf, distance) if distance else 0.0


@cache
def skewed_statistics(freedom: float, shape: float = 1) -> NDArray[np.float64]:
    """The t statistics of samples of a gamma distribution shifted to mean zero, ascending; the seed is fixed.

    Its skewness is 2/√shape; with shape 1 it is the exponential distribution.
    """
    count = min(int(freedom) + 1, MAX_SKEWED)
    drawn = np.random.default_rng(0).gamma(shape, size=(SAMPLES, count))
    return np.sort((drawn.mean(axis=1) - shape) / (drawn.std(axis=1, ddof=1) / math.sqrt(count)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for multiple tests by Holm's step-down method (1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class Shown:
    """What tests show of a difference: that it is above or below ±margin, above −margin, and within ±margin."""

    better: bool
    worse: bool
    not_worse: bool
    equivalent: bool


def shown_of(differences: Sequence[Difference], margin: float) -> list[Shown]:
    """What tests show of each difference, at `LEVEL` for all of them together (Holm).

    ``better`` and ``worse`` are differences of more than the margin, by a test that holds for skewed differences.
    ``not_worse`` is Student's test of non-inferiority, ``equivalent`` two one-sided tests (Schuirmann 1987).
    """

    def significant(p_values: Sequence[float]) -> list[bool]:
        return [p <= LEVEL for p in holm(p_values)]

    above_margin = [1 - p_lower(each, -margin) for each in differences]
    columns = (
        significant([p_lower_if_skewed(replace(each, mean=-each.mean), -margin) for each in differences]),
        significant([p_lower_if_skewed(each, -margin) for each in differences]),
        significant(above_margin),
        significant([max(p, p_lower(each, margin)) for p, each in zip(above_margin, differences, strict=True)]),
    )
    return [Shown(*row) for row in zip(*columns, strict=True)]
