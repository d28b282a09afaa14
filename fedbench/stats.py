"""Every statistical test and interval: spreads over seeds, differences and ratios of means, ratios of times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95  # of every interval of a single spread or difference
LEVEL = 0.05  # the probability of any false finding among all cells, or all benchmarks, of a check
RESAMPLES = 10_000  # of the bootstrap
TIED = 1e-12  # a standard error that is rounding alone
SAMPLES = 200_000  # that a reference distribution is made of
MAX_SKEWED = 30  # seeds in one of them; more seeds, whose distribution is closer to the normal, are judged by it too


@dataclass(frozen=True)
class Spread:
    """A number over the seeds of a cell. `std` is the sample standard deviation; None for a single seed."""

    mean: float
    std: float | None
    values: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean, by Student's t distribution; None for a single seed."""
        if self.std is None:
            return None
        margin = t_quantile(len(self.values) - 1) * self.std / math.sqrt(len(self.values))
        return self.mean - margin, self.mean + margin


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (n − 1 in the denominator) of at least one value."""
    with np.errstate(all="ignore"):  # the loss of a diverged run may be infinite
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Spread(float(np.mean(values)), std, tuple(values))


def spread_if_all(values: Sequence[float | None]) -> Spread | None:
    """The spread of `values`; None if there are none, or if any is None."""
    known = [value for value in values if value is not None]
    return spread(known) if known and len(known) == len(values) else None


def spread_by_step(series: Sequence[Mapping[int, float]]) -> dict[int, Spread]:
    """The spread over runs at each step, from the first step that all runs have reached; each run by step.

    A run that ended early keeps its last value: a diverged run would stay diverged, and a run that stopped at its
    target is assumed to stay there.
    """
    if not series or not all(series):
        return {}
    begun = max(min(values) for values in series)
    steps = sorted(step for step in set().union(*series) if step >= begun)
    return {step: spread([values[max(each for each in values if each <= step)] for values in series]) for step in steps}


# Differences of means


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
        return Difference(over.mean, _standard_error(over), len(first) - 1, is_paired=True)
    one, other = spread(list(first.values())), spread(list(second.values()))
    mean = other.mean - one.mean
    errors = [_standard_error(each) for each in (one, other)]
    if errors[0] is None or errors[1] is None:
        return Difference(mean)
    error = math.hypot(errors[0], errors[1])
    if error == 0:
        return Difference(mean, error)
    counts = (len(one.values), len(other.values))
    parts = sum((each or 0) ** 4 / (count - 1) for each, count in zip(errors, counts, strict=True))
    return Difference(mean, error, error**4 / parts)


def _standard_error(over: Spread) -> float | None:
    return None if over.std is None else over.std / math.sqrt(len(over.values))


@cache
def t_quantile(degrees_of_freedom: float, probability: float = (1 + CONFIDENCE) / 2) -> float:
    """A quantile of Student's t distribution; by default the half-width of a 95 % interval in standard errors."""
    from scipy.special import stdtrit  # importing scipy.stats, which also has it, takes half a second

    return float(stdtrit(degrees_of_freedom, probability))


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
    reference = _skewed_statistics(difference.freedom)
    return float(np.searchsorted(reference, _distance(difference, bound), "right") + 1) / (len(reference) + 1)


def critical_distance(difference: Difference, level: float) -> float:
    """How many standard errors below a bound `p_lower_if_skewed` requires at a level."""
    if not difference.is_paired:
        return t_quantile(difference.freedom, 1 - level)
    return float(-np.quantile(_skewed_statistics(difference.freedom), level))


def _distance(difference: Difference, bound: float) -> float:
    """How far a difference is above `bound`, in standard errors; zero where that is not known."""
    distance = difference.mean - bound
    if difference.error is None or not math.isfinite(distance) or math.isnan(difference.error):
        return 0.0
    return distance / difference.error if difference.error else math.copysign(math.inf, distance) if distance else 0.0


@cache
def _skewed_statistics(freedom: float) -> NDArray[np.float64]:
    """The t statistics of samples of an exponential distribution shifted to mean zero, ascending; the seed is fixed."""
    count = min(int(freedom) + 1, MAX_SKEWED)
    drawn = np.random.default_rng(0).exponential(size=(SAMPLES, count))
    return np.sort((drawn.mean(axis=1) - 1) / (drawn.std(axis=1, ddof=1) / math.sqrt(count)))


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


# Ratios of means


@dataclass(frozen=True)
class MeanRatio:
    """A ratio of two means over the same seeds, and the ends of its 95 % confidence interval."""

    ratio: float
    low: float
    high: float


def ratio_of_means(numerators: Sequence[float], denominators: Sequence[float]) -> MeanRatio | None:
    """The ratio of two means over the same seeds, one pair a seed, with Fieller's interval (1954).

    It has the ratios R that Student's t test of the differences ``numerator − R · denominator`` does not reject. Unlike
    the mean of the seeds' own ratios, it is not ruled by a seed whose denominator is near zero.

    Returns
    -------
    MeanRatio or None
        None unless the denominator's own 95 % interval is above zero: then the ratio means nothing. So for one seed.
    """
    one, other = spread(numerators), spread(denominators)
    if other.interval is None or not other.interval[0] > 0 or not math.isfinite(one.mean):
        return None
    (var, both), (_, other_var) = np.cov(numerators, denominators)
    share = t_quantile(len(denominators) - 1) ** 2 / len(denominators)
    a = other.mean**2 - share * other_var  # above zero, as the interval is; the ends are the roots of aR² − 2bR + c
    b = one.mean * other.mean - share * both
    c = one.mean**2 - share * var
    margin = math.sqrt(max(b**2 - a * c, 0.0))
    return MeanRatio(one.mean / other.mean, float((b - margin) / a), float((b + margin) / a))


# Ratios of times


@dataclass(frozen=True)
class RatioEstimate:
    """A ratio of times, now over before, and its interval."""

    ratio: float
    low: float
    high: float


def estimate_ratio(sessions: Sequence[Sequence[float]], num_benchmarks: int) -> RatioEstimate:
    """The ratio of times and its interval, at `LEVEL` for all benchmarks together (Bonferroni).

    The ratio is the exponential of the mean over sessions of the median over a session's pairs. Where the memory of a
    process lies makes it slower or faster for all its life, so the bootstrap resamples whole sessions, each a pair of
    processes, and not the pairs in them (Davison and Hinkley 1997, section 3.8). Percentiles of few sessions lie too
    close together: their distances from the estimate are multiplied by √(n/(n − 1)) and by the ratio of Student's
    quantile with n − 1 degrees of freedom to the normal one (after Hesterberg 2015, section 3.2). The seed is fixed.

    The level is that of one look: looking again after each session errs more often. Requiring a ratio above a
    threshold, not merely above 1, more than makes up for that.

    Parameters
    ----------
    sessions
        Of each session, at least one, the logarithms of its pairs' ratios. The interval of a single one is unbounded.
    """
    from scipy.special import ndtri

    medians = np.array([np.median(session) for session in sessions])
    number, tail, middle = len(sessions), LEVEL / num_benchmarks / 2, float(medians.mean())
    if number == 1:
        return RatioEstimate(math.exp(middle), 0.0, math.inf)
    drawn = np.random.default_rng(0).integers(number, size=(RESAMPLES, number))
    quantiles = np.quantile(medians[drawn].mean(axis=1), [tail, 1 - tail])
    widening = math.sqrt(number / (number - 1)) * (t_quantile(number - 1, tail) / float(ndtri(tail)))
    low, high = middle + widening * (quantiles - middle)
    return RatioEstimate(math.exp(middle), math.exp(low), math.exp(high))
