"""Tests and intervals, with numbers from printed tables of Student's t distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from fedbench.stats import (
    Difference,
    RatioEstimate,
    Shown,
    difference_of,
    estimate_ratio,
    holm,
    minimum_detectable_effect,
    p_lower,
    seeds_needed,
    shown_of,
)

T4_95, T4_90 = 2.131847, 1.533206  # the 95 and the 90 % point with 4 degrees of freedom


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
        ((-0.001, -0.001, -0.002, -0.002, -0.0015), "wne"),  # lower, but by less than the margin
        ((-0.10, -0.12, -0.08, -0.09, -0.11), "w"),
        ((0.10, 0.12, 0.08, 0.09, 0.11), "bn"),
        ((0.04, -0.005, 0.03, 0.0, 0.02), "n"),
        ((0.1, -0.1, 0.2, -0.2, 0.0), ""),
        ((-0.1, -0.1, -0.1), "w"),  # no scatter
        ((-0.5,), ""),  # a single seed
    ],
)
def test_what_is_shown_of_a_single_cell(differences: Sequence[float], expected: str) -> None:
    assert [expected] == shown(paired(*differences))


def test_nan_shows_nothing() -> None:
    assert [Shown(False, False, False, False)] == shown_of([Difference(math.nan, math.nan, 4, is_paired=True)], 0.01)


def test_a_drop_that_is_shown_for_one_cell_is_not_shown_among_twenty() -> None:
    """Its t is 2.5: p = 0.033 alone, 0.67 among twenty."""
    drop, still = Difference(-0.05, 0.02, 4, is_paired=True), paired(0.1, -0.1, 0.2, -0.2, 0.0)
    assert ["w"] == shown(drop)
    assert [""] * 20 == shown(drop, *[still] * 19)


def test_the_minimum_detectable_effect_is_a_sum_of_two_quantiles() -> None:
    difference = Difference(0.3, 0.02, 4)
    assert pytest.approx((T4_95 + T4_90) * 0.02, rel=1e-5) == minimum_detectable_effect(difference, 1)
    effects = [minimum_detectable_effect(difference, cells) or 0.0 for cells in (1, 5, 15)]
    assert sorted(set(effects)) == effects
    assert minimum_detectable_effect(Difference(0.3), 1) is None


def test_a_drop_of_that_size_is_found_in_nine_of_ten_simulations() -> None:
    stream, std, count = np.random.default_rng(0), 0.02, 10
    effect = minimum_detectable_effect(Difference(0.0, std / math.sqrt(count), count - 1), 1)
    assert effect is not None
    found = sum("w" in shown(paired(*stream.normal(-effect, std, count)))[0] for _ in range(1_000))
    assert 0.86 < found / 1_000 < 0.94


def test_false_findings_are_no_more_frequent_than_stated() -> None:
    """Five cells without a difference, 500 simulations; at most 1 in 20 and its sampling error."""
    stream = np.random.default_rng(1)
    suites = [shown(*(paired(*stream.normal(0, 0.05, 5)) for _ in range(5))) for _ in range(500)]
    assert sum(any("w" in cell for cell in cells) for cells in suites) <= 40


def test_a_margin_of_one_standard_deviation_takes_thirteen_seeds() -> None:
    """2 t(12; 0.95) = 3.565 is less than √13 = 3.606, but 2 t(11; 0.95) = 3.592 is more than √12 = 3.464."""
    assert 13 == seeds_needed(1.0, 1.0, 1, is_paired=True)
    fresh = seeds_needed(1.0, 1.0, 1, is_paired=False)
    assert fresh is not None
    assert 20 <= fresh <= 26


def test_a_scatter_that_is_too_large_has_no_number_of_seeds() -> None:
    assert seeds_needed(1e9, 1e-3, 1, is_paired=True) is None
    assert seeds_needed(math.nan, 0.01, 1, is_paired=True) is None
    assert 2 == seeds_needed(0.0, 0.01, 1, is_paired=True)


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
