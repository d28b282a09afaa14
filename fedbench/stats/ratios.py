"""Ratios of means, and of times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedbench.stats.differences import LEVEL
from fedbench.stats.spreads import spread, t_quantile

RESAMPLES = 10_000  # of the bootstrap


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
