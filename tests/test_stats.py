"""Tests and intervals, with numbers from printed tables of Student's t distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fedbench.stats import (
    Difference,
    RatioEstimate,
    Shown,
    critical_distance,
    difference_of,
    estimate_ratio,
    holm,
    p_lower,
    p_lower_if_skewed,
    ratio_of_means,
    shown_of,
    spread,
    t_quantile,
)

T4_95 = 2.131847  # the 95 % point with 4 degrees of freedom


def paired(*differences: float) -> Difference:
    return difference_of(dict.fromkeys(range(len(differences)), 0.0), dict(enumerate(differences)))


def shown(*cells: Difference, margin: float = 0.01) -> list[str]:
    """What is shown of each cell: the initials of better, worse, not worse and equivalent."""
    names = ("better", "worse", "not_worse", "equivalent")
    return ["".join(name[0] for name in names if getattr(each, name)) for each in shown_of(cells, margin)]


def test_holm_multiplies_the_smallest_by_their_number_and_is_monotone() -> None:
    assert pytest.approx([0.03, 0.06, 0.06]) == holm([0.01, 0.04, 0.03])
    assert [1.0, 1.0] == holm([0.6, 0.9])
    assert [] == holm([])


def test_the_p_value_is_that_of_students_t() -> None:
    difference = Difference(-T4_95, 1.0, 4)
    assert pytest.approx(0.05, abs=1e-6) == p_lower(difference, 0.0)
    assert pytest.approx(0.5) == p_lower(difference, -T4_95)
    assert pytest.approx(0.95, abs=1e-6) == p_lower(difference, -2 * T4_95)


def test_without_scatter_any_distance_is_certain() -> None:
    assert [0.0, 0.5, 1.0] == [p_lower(Difference(-0.1, 0.0, 4), bound) for bound in (0.0, -0.1, -0.2)]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((0.001, -0.001, 0.002, -0.002, 0.0), "ne"),
        ((-0.001, -0.001, -0.002, -0.002, -0.0015), "ne"),  # lower, but by less than the margin
        ((-0.009, -0.011, -0.010, -0.012, -0.008), ""),  # as much as the margin
        ((-0.10, -0.12, -0.08, -0.09, -0.11), "w"),
        ((0.10, 0.12, 0.08, 0.09, 0.11), "bn"),
        ((0.04, -0.005, 0.03, 0.0, 0.02), "n"),
        ((0.1, -0.1, 0.2, -0.2, 0.0), ""),
        ((-0.1, -0.1, -0.1), ""),  # equal drops by chance: 1 in 8
        ((-0.1, -0.1, -0.1, -0.1, -0.1), "w"),  # 1 in 32
        ((-0.5,), ""),  # a single seed
    ],
)
def test_what_is_shown_of_a_single_cell(differences: Sequence[float], expected: str) -> None:
    assert [expected] == shown(paired(*differences))


def test_nan_shows_nothing() -> None:
    assert [Shown(False, False, False, False)] == shown_of([Difference(math.nan, math.nan, 4, is_paired=True)], 0.01)


def test_a_drop_that_is_shown_for_one_cell_is_not_shown_among_twenty() -> None:
    """It is 8 standard errors below the margin: p = 0.015 alone, 0.3 among twenty."""
    drop, still = Difference(-0.05, 0.005, 4, is_paired=True), paired(0.1, -0.1, 0.2, -0.2, 0.0)
    assert ["w"] == shown(drop)
    assert [""] * 20 == shown(drop, *[still] * 19)


def test_pairs_that_a_rare_seed_may_make_up_for_are_no_drop_by_students_distribution() -> None:
    """A t of −5 is a p-value of 0.004 by Student's distribution; of exponential differences it is 4 % (simulated)."""
    difference = Difference(-5.0, 1.0, 4, is_paired=True)
    assert p_lower(difference, 0.0) < 0.004
    assert 0.03 < p_lower_if_skewed(difference, 0.0) < 0.05
    assert p_lower(independent := replace(difference, is_paired=False), 0.0) == p_lower_if_skewed(independent, 0.0)


@pytest.mark.parametrize(("freedom", "level"), [(1, 0.05), (4, 0.01), (9, 0.05 / 15), (99, 0.01)])
def test_the_critical_distance_is_where_the_p_value_is_the_level(freedom: int, level: float) -> None:
    difference = Difference(0.0, 1.0, freedom, is_paired=True)
    at_it = replace(difference, mean=-critical_distance(difference, level))
    assert pytest.approx(level, abs=2e-5) == p_lower_if_skewed(at_it, 0.0)
    assert -at_it.mean > t_quantile(freedom, 1 - level)


# Ratios of times


def test_the_ratio_comes_from_the_medians_of_sessions_and_equal_sessions_have_no_width() -> None:
    session = [math.log(1.1), math.log(1.2), math.log(5.0)]  # one pair was disturbed
    found = estimate_ratio([session] * 4, num_benchmarks=1)
    assert (1.2, 1.2, 1.2) == pytest.approx((found.ratio, found.low, found.high))


def test_the_interval_is_close_to_students_over_the_sessions() -> None:
    """Logarithms 0.06, 0.08, 0.10, 0.12, 0.14: mean 0.1, standard error 0.0316 / √5 = 0.0141, t(4) = 2.78."""
    found = estimate_ratio([[value] for value in (0.06, 0.08, 0.10, 0.12, 0.14)], num_benchmarks=1)
    half = 2.78 * 0.0141
    assert math.exp(0.1) == pytest.approx(found.ratio)
    assert (-half, half) == pytest.approx((math.log(found.low) - 0.1, math.log(found.high) - 0.1), rel=0.1)


def test_more_benchmarks_widen_the_interval_and_a_single_session_has_none() -> None:
    sessions = [[0.06], [0.08], [0.10], [0.12], [0.14]]
    alone, among_five = estimate_ratio(sessions, 1), estimate_ratio(sessions, 5)
    assert among_five.low < alone.low < alone.high < among_five.high
    assert RatioEstimate(1.0, 0.0, math.inf) == estimate_ratio([[0.0, 0.0]], 1)


def test_a_ratio_over_a_constant_is_a_mean_with_students_interval() -> None:
    """1, 2 and 3 have the mean 2 and the margin 4.303 · 1 / √3 = 2.484; halved by the denominator 2."""
    found = ratio_of_means([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert found is not None
    assert pytest.approx((1.0, 1 - 1.242, 1 + 1.242), abs=1e-3) == (found.ratio, found.low, found.high)


def test_an_equal_share_of_each_seed_is_a_ratio_without_scatter() -> None:
    found = ratio_of_means([8.0, 16.0, 24.0], [10.0, 20.0, 30.0])
    assert found is None  # 20 ± 24.8: the denominator may be zero
    found = ratio_of_means([8.0, 12.0, 10.0, 10.0], [10.0, 15.0, 12.5, 12.5])
    assert found is not None
    assert pytest.approx((0.8, 0.8, 0.8)) == (found.ratio, found.low, found.high)


def test_the_ends_of_a_ratios_interval_are_where_students_test_begins_to_reject() -> None:
    numerators, denominators = [18.0, 25.0, 9.0, 21.0, 14.0], [20.0, 31.0, 14.0, 22.0, 19.0]
    found = ratio_of_means(numerators, denominators)
    assert found is not None
    assert pytest.approx(87 / 106) == found.ratio
    for end, side in ((found.low, 0), (found.high, 1)):
        over = spread([n - end * d for n, d in zip(numerators, denominators, strict=True)])
        assert over.interval is not None
        assert pytest.approx(0, abs=1e-9) == over.interval[side]
    assert found.low < found.ratio < found.high


@pytest.mark.parametrize(
    "denominators", [[0.1, -0.1, 0.0], [-2.0, -2.1, -1.9], [1.0], [1.0, math.nan, 1.0], [math.inf, 1.0]]
)
def test_there_is_no_ratio_to_what_is_not_shown_to_be_above_zero(denominators: list[float]) -> None:
    assert ratio_of_means([1.0] * len(denominators), denominators) is None


def test_the_interval_of_a_ratio_covers_the_truth_in_19_of_20_repeats() -> None:
    """2,000 repeats of five seeds with a true ratio of 0.8; the standard error of the coverage is 0.5 points."""
    stream = np.random.default_rng(0)
    denominators = stream.normal(20, 6, (2000, 5))
    numerators = 0.8 * denominators + stream.normal(0, 4, (2000, 5))
    pairs = zip(numerators.tolist(), denominators.tolist(), strict=True)
    found = [each for pair in pairs if (each := ratio_of_means(*pair))]
    assert len(found) > 1900
    assert 0.935 < sum(each.low <= 0.8 <= each.high for each in found) / len(found) < 0.965
