"""Two cells compared seed by seed: an interval of the mean difference, whether it is shown, and what would show it.

With five seeds and skewed values Student's interval is too narrow: it holds in 88 % for exponential differences. The
bootstrap-t interval (Efron and Tibshirani 1993, chapter 12) is too wide for so few. The interval here lies midway
between both. What it holds is simulated in benchmarks/statistics/contrasts.py.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fedbench.stats.differences import LEVEL, MAX_SKEWED, TIED, skewed_statistics
from fedbench.stats.spreads import CONFIDENCE, Spread, t_quantile

POWER = 0.8
RESAMPLES = 9_999
MIN_BOOTSTRAP = 4  # seeds; the bootstrap-t interval of fewer is unbounded
MOST_WIDENED = 2.0  # how far a bootstrap quantile may be from zero, in Student's
SHAPE = 3  # of the gamma distribution that differences may be as skewed as: a skewness of 2 / √3
MAX_SEEDS = 10_000  # nobody runs a suite with more


def interval_of(differences: Spread) -> tuple[float, float] | None:
    """The 95 % confidence interval of the mean difference of two cells; None for one seed, or if all are equal.

    Each bound is the mean of Student's and of the bootstrap-t interval's; with two or three seeds it is Student's.
    Where differences are tied, so that many resamples have no spread, it is at most half as far again as Student's.
    """
    error = differences.error
    if error is None or error < TIED or not math.isfinite(differences.mean):
        return None
    count, values = len(differences.values), np.array(differences.values) - differences.mean
    student = t_quantile(count - 1)
    low, high = -student, student
    if count >= MIN_BOOTSTRAP:
        times = _resamples(count)  # (RESAMPLES, count)
        means = times @ values / count
        errors = np.sqrt(np.maximum(times @ values**2 / count - means**2, 0) / (count - 1))
        furthest = MOST_WIDENED * student
        statistics = np.where(np.abs(means) < TIED, 0.0, np.sign(means) * furthest)
        np.divide(means, errors, out=statistics, where=errors > 1e-6 * error)  # else no spread but rounding
        quantiles = np.quantile(np.clip(statistics, -furthest, furthest), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        low, high = (low + float(quantiles[0])) / 2, (high + float(quantiles[1])) / 2
    return differences.mean - high * error, differences.mean - low * error


def p_differs(differences: Spread) -> float:
    """The two-sided p-value of the mean difference of two cells being zero; 1 for a single seed.

    Student's statistic is compared with that of samples as skewed as a gamma distribution of shape `SHAPE`, whose rare
    large values may be missing among few seeds. Equal differences tell no more than their signs.
    """
    error = differences.error
    if error is None or not math.isfinite(differences.mean):
        return 1.0
    if error < TIED:
        return min(1.0, 2 * 0.5 ** len(differences.values)) if abs(differences.mean) > TIED else 1.0
    reference = _reference(len(differences.values))
    reached = np.searchsorted(reference, -abs(differences.mean) / error, "right") + 1
    return min(1.0, 2 * float(reached) / (len(reference) + 1))


def detectable_difference(differences: Spread, num_tests: int = 1) -> float | None:
    """The minimum detectable effect: the true difference that so many seeds show with probability `POWER`.

    By the noncentral t distribution, for normal differences that scatter as the observed ones, and for the first of
    `num_tests` tests (Holm). In the unit of the differences. None if their spread is not known or zero.
    """
    error = differences.error
    if error is None or error < TIED or not math.isfinite(error):
        return None
    count = len(differences.values)
    return _detectable(count, _critical(count, num_tests)) * error


def seeds_to_show(differences: Spread, num_tests: int = 1) -> int | None:
    """How many seeds show a true difference as large as the observed one with probability `POWER`.

    None if that is not known, or more than `MAX_SEEDS`. See `detectable_difference`.
    """
    error = differences.error
    if error is None or not math.isfinite(differences.mean) or abs(differences.mean) < TIED:
        return None
    if error < TIED:
        return math.ceil(math.log2(2 * num_tests / LEVEL))  # so many equal signs
    size = abs(differences.mean) / (error * math.sqrt(len(differences.values)))  # in standard deviations
    # What skewness adds to Student's quantile falls as a power of the number of seeds: simulating each takes too long.
    few, many = 5, MAX_SKEWED
    added = [_critical(count, num_tests) / _student(count, num_tests) - 1 for count in (few, many)]
    falls = math.log(added[0] / added[1]) / math.log(many / few)

    def suffices(seeds: int) -> bool:
        critical = _student(min(seeds, many), num_tests) * (1 + added[1] * (many / seeds) ** falls)
        return _detectable(seeds, critical) <= size * math.sqrt(seeds)

    counts = range(2, MAX_SEEDS + 1)
    place = bisect_left(counts, True, key=suffices)
    return counts[place] if place < len(counts) else None


def _detectable(count: int, critical: float) -> float:
    """The true difference, in its standard errors, of which a t statistic exceeds `critical` with probability `POWER`.

    SciPy's cumulative distribution, the inverse of this, is NaN for some statistics of 37 and more.
    """
    from scipy.special import nctdtrinc

    return float(nctdtrinc(count - 1, 1 - POWER, critical))


def _reference(count: int) -> NDArray[np.float64]:
    """The statistics that those of so many seeds are compared with.

    The mean of twice as many values of a gamma distribution is as skewed as one of twice its shape.
    """
    return skewed_statistics(min(count, MAX_SKEWED) - 1, SHAPE * max(count / MAX_SKEWED, 1))


@cache
def _critical(count: int, num_tests: int) -> float:
    """How many standard errors from zero `p_differs` requires of a difference that is tested first among so many."""
    return float(-np.quantile(_reference(count), LEVEL / num_tests / 2))


def _student(count: int, num_tests: int) -> float:
    """The same of Student's test."""
    return t_quantile(count - 1, 1 - LEVEL / num_tests / 2)


@cache
def _resamples(count: int) -> NDArray[np.float64]:
    """How often each seed is in each resample, (`RESAMPLES`, count); the seed is fixed."""
    drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=RESAMPLES)
    return drawn.astype(np.float64)
