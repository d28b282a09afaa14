"""What so many seeds can show: the minimum detectable effect, and the seeds that are needed. Pure functions."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fedbench.stats import LEVEL, TIED, Difference, critical_distance, t_quantile

POWER = 0.9  # of both
MAX_SEEDS = 100_000  # nobody runs a suite with more


def minimum_detectable_effect(difference: Difference, margin: float, num_cells: int) -> float | None:
    """The true drop that is shown to be `worse` with probability `POWER`, if it is the only one in `num_cells` cells.

    By the noncentral t distribution, that of the statistic of normal differences. It is never below the margin. None
    if the standard error is not known, or if so few equal differences show nothing.
    """
    from scipy.special import nctdtrinc

    if difference.error is None or not math.isfinite(difference.error):
        return None
    if difference.error < TIED:
        is_shown = not difference.is_paired or 0.5 ** (difference.freedom + 1) <= LEVEL / num_cells
        return margin if is_shown else None
    critical = critical_distance(difference, LEVEL / num_cells)
    return margin + float(nctdtrinc(difference.freedom, 1 - POWER, critical)) * difference.error


def seeds_needed(
    std: float, margin: float, num_cells: int, is_paired: bool = False, num_baseline: int | None = None
) -> int | None:
    """How many seeds show with probability `POWER` that an unchanged cell is equivalent.

    `std` is the standard deviation over seeds: of the differences if they are paired, else of one set; then the
    baseline has `num_baseline` seeds, or as many as there are new ones. The margin is greater than zero. Returns at
    least two, above a hundred up to 2 % too many; None if `std` is not finite, or if `MAX_SEEDS` are too few.
    """
    from scipy.special import ndtr

    if not math.isfinite(std):
        return None

    def suffices(count: int) -> bool:
        counts = [count] if is_paired else [count, num_baseline or count]
        parts = [1 / each for each in counts]
        freedom = sum(parts) ** 2 / sum(part**2 / (each - 1) for part, each in zip(parts, counts, strict=True))
        error = std * math.sqrt(sum(parts))
        if error == 0:
            return True
        critical = t_quantile(freedom, 1 - LEVEL / num_cells)
        room = margin / error - critical * _relative_errors(freedom)  # both one-sided tests must succeed
        return bool(np.mean(np.maximum(2 * ndtr(room) - 1, 0)) >= POWER)

    counts = np.unique(np.geomspace(2, MAX_SEEDS, 1 + int(math.log(MAX_SEEDS / 2, 1.02))).round().astype(int))
    return next((count for count in counts.tolist() if suffices(count)), None)


@cache
def _relative_errors(freedom: float) -> NDArray[np.float64]:
    """Quantiles of an estimated standard error over the true one, equally likely."""
    from scipy.special import chdtri

    quantiles: NDArray[np.float64] = np.sqrt(chdtri(freedom, (np.arange(200) + 0.5) / 200) / freedom)
    return quantiles
