"""Means over seeds, their spread and intervals, and differences of means. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

CONFIDENCE = 0.95  # of every interval


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
    with np.errstate(all="ignore"):  # a diverged run's loss may be infinite; then so is, or is not a number, the rest
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Spread(float(np.mean(values)), std, tuple(values))


def spread_if_all(values: Sequence[float | None]) -> Spread | None:
    """The spread of `values` if there are some and each is known: of seeds that all reached their target."""
    known = [value for value in values if value is not None]
    return spread(known) if known and len(known) == len(values) else None


def spread_by_step(series: Sequence[Mapping[int, float]]) -> dict[int, Spread]:
    """The spread over runs at each step, from the first at which all have begun; each run by step.

    A run that ended before the others counts in the later rounds with its last value: one that diverged would stay so,
    and one that stopped at its target is taken to stay where it stopped.
    """
    if not series or not all(series):
        return {}
    begun = max(min(values) for values in series)
    steps = sorted(step for step in set().union(*series) if step >= begun)
    return {step: spread([values[max(each for each in values if each <= step)] for values in series]) for step in steps}


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
        The degrees of freedom of Student's t distribution that belongs to it.
    is_paired
        Whether the two sets are of the same seeds.
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
    """How much larger the second set's mean is.

    Sets of the same seeds, two or more, are compared pair by pair, since a seed's partition and random streams are the
    same in both: Student's t distribution of the differences. Others are compared as independent samples: Welch's.
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
def t_quantile(degrees_of_freedom: float) -> float:
    """How many standard errors from its middle an interval of 95 % ends, by Student's t distribution."""
    from scipy.special import stdtrit  # scipy.stats has it too, but takes half a second to import

    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
