"""Spreads over seeds, and Student's t intervals of their means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

CONFIDENCE = 0.95  # of every interval of a single spread or difference


@dataclass(frozen=True)
class Spread:
    """A number over the seeds of a cell. `std` is the sample standard deviation; None for a single seed."""

    mean: float
    std: float | None
    values: tuple[float, ...]

    @property
    def error(self) -> float | None:
        """The standard error of the mean; None for a single seed."""
        return None if self.std is None else self.std / math.sqrt(len(self.values))

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


@cache
def t_quantile(degrees_of_freedom: float, probability: float = (1 + CONFIDENCE) / 2) -> float:
    """A quantile of Student's t distribution; by default the half-width of a 95 % interval in standard errors."""
    from scipy.special import stdtrit  # importing scipy.stats, which also has it, takes half a second

    return float(stdtrit(degrees_of_freedom, probability))
