"""Every statistical test and interval: spreads over seeds, differences and ratios of means, ratios of times."""

from fedbench.stats.contrasts import detectable_difference, interval_of, p_differs, seeds_to_show
from fedbench.stats.differences import (
    LEVEL,
    TIED,
    Difference,
    Shown,
    critical_distance,
    difference_of,
    holm,
    p_lower,
    p_lower_if_skewed,
    shown_of,
)
from fedbench.stats.ratios import MeanRatio, RatioEstimate, estimate_ratio, ratio_of_means
from fedbench.stats.spreads import CONFIDENCE, Spread, spread, spread_by_step, spread_if_all, t_quantile

__all__ = [
    "CONFIDENCE",
    "LEVEL",
    "TIED",
    "Difference",
    "MeanRatio",
    "RatioEstimate",
    "Shown",
    "Spread",
    "critical_distance",
    "detectable_difference",
    "difference_of",
    "estimate_ratio",
    "holm",
    "interval_of",
    "p_differs",
    "p_lower",
    "p_lower_if_skewed",
    "ratio_of_means",
    "seeds_to_show",
    "shown_of",
    "spread",
    "spread_by_step",
    "spread_if_all",
    "t_quantile",
]
