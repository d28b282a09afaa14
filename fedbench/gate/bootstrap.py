"""How much slower the code has become, from pairs of timings in several pairs of processes. Pure functions.

Where a process's memory happens to lie makes it a little slower or faster for all of its life. So what is drawn anew
in the bootstrap are the sessions, each a pair of processes, and each is taken as it is: to draw the timings in it anew
as well would count their scatter twice (Davison and Hinkley 1997, section 3.8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from fedbench.gate.checks import Judgement

LEVEL = 0.05  # the chance that the interval of any benchmark at all leaves out the truth
RESAMPLES = 10_000
Session = Sequence[float]  # the logarithms of the ratios of its pairs, now over before


@dataclass(frozen=True)
class RatioEstimate:
    """A ratio of times, now over before, and its interval."""

    ratio: float
    low: float
    high: float


def estimate(sessions: Sequence[Session], num_benchmarks: int) -> RatioEstimate:
    """The ratio of times and its interval, at `LEVEL` for all benchmarks together (Bonferroni).

    The ratio is the exponential of the mean over sessions of the median over the session's pairs. The interval is the
    bootstrap's percentiles, drawn with a fixed seed. Percentiles of few sessions lie too close together: their
    distances from the estimate are multiplied by √(n/(n − 1)) and by the ratio of Student's quantile with n − 1
    degrees of freedom to the normal one (after Hesterberg 2015, section 3.2). A single session's interval has no ends.

    The interval is one look's: who looks again after each session errs more often. That a benchmark must be slower by
    the threshold, and not merely slower, is worth more than that.

    Raises
    ------
    ValueError
        If there are no sessions.
    """
    if not sessions:
        raise ValueError("there are no sessions")
    medians = np.array([np.median(session) for session in sessions])
    number, tail, middle = len(sessions), LEVEL / num_benchmarks / 2, float(medians.mean())
    if number == 1:
        return RatioEstimate(math.exp(middle), 0.0, math.inf)
    drawn = np.random.default_rng(0).integers(number, size=(RESAMPLES, number))
    quantiles = np.quantile(medians[drawn].mean(axis=1), [tail, 1 - tail])
    widening = math.sqrt(number / (number - 1)) * float(stdtrit(number - 1, tail) / ndtri(tail))
    low, high = middle + widening * (quantiles - middle)
    return RatioEstimate(math.exp(middle), math.exp(low), math.exp(high))


def judge(found: RatioEstimate, threshold: float) -> Judgement:
    """What the interval shows: that it is slower than the threshold, faster than its reciprocal, or not slower."""
    if found.low > threshold:
        return Judgement.WORSE
    if found.high < 1 / threshold:
        return Judgement.BETTER
    return Judgement.NOT_WORSE if found.high < threshold else Judgement.CANNOT_TELL
