"""Intervals and tests of cells compared seed by seed; benchmarks/statistics/contrasts.py simulates more."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
from scipy.special import ndtri

from fedbench.stats import Spread, detectable_difference, interval_of, p_differs, seeds_to_show, spread

SCRIPT = Path(__file__).parents[1] / "benchmarks/statistics/contrasts.py"
EVEN = (-2.0, -1.0, 0.0, 1.0, 2.0)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contrasts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of(*differences: float) -> Spread:
    return spread(differences)


def test_two_or_three_seeds_have_students_interval() -> None:
    """Mean 2, standard error 1; t of 97.5 % with one degree of freedom is 12.706."""
    assert pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3) == interval_of(of(1.0, 3.0))
    assert of(1.0, 2.0, 6.0).interval == pytest.approx(interval_of(of(1.0, 2.0, 6.0)))


def test_an_even_spread_has_an_even_interval_and_a_rare_value_stretches_its_side() -> None:
    low, high = interval_of(of(*EVEN)) or (math.nan, math.nan)
    assert pytest.approx(-low, rel=0.02) == high
    assert 1.0 < high / (2.776 * math.sqrt(2.5 / 5)) < 1.5  # in Student's
    low, high = interval_of(of(0.0, 0.1, 0.2, 0.3, 5.0)) or (math.nan, math.nan)
    assert 1.12 - low < high - 1.12
    assert high - 1.12 <= 1.5 * 2.776 * 0.972  # at most half as far again as Student's


def test_the_interval_moves_and_stretches_with_the_differences() -> None:
    values = (0.3, -0.1, 0.4, 0.9, 0.2, 0.0)
    low, high = interval_of(of(*values)) or (math.nan, math.nan)
    moved = interval_of(of(*(10 * value + 7 for value in values)))
    assert pytest.approx((10 * low + 7, 10 * high + 7)) == moved


@pytest.mark.parametrize("values", [(0.5,), (0.5, 0.5, 0.5), (math.inf, 1.0, 2.0), (math.nan, 1.0)])
def test_without_spread_or_with_what_is_not_finite_there_is_no_interval(values: tuple[float, ...]) -> None:
    assert interval_of(of(*values)) is None
    assert detectable_difference(of(*values)) is None


def test_ties_leave_the_interval_finite() -> None:
    for values in ((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0, -1.0), (1.0, -1.0, 0.0, 0.0, 0.0)):
        low, high = interval_of(of(*values)) or (math.nan, math.nan)
        assert -3 < low < spread(values).mean < high < 3


def test_equal_differences_tell_no_more_than_their_signs() -> None:
    """Five of one sign by chance: 2 of 32; with six 2 of 64, the first below 5 %."""
    assert (2 / 32, 2 / 64) == (p_differs(of(*[0.1] * 5)), p_differs(of(*[-0.1] * 6)))
    assert (1.0, 1.0) == (p_differs(of(0.0, 0.0, 0.0)), p_differs(of(0.3)))
    assert (6, 10) == (seeds_to_show(of(0.1, 0.1)), seeds_to_show(of(0.1, 0.1), num_tests=15))


def test_more_is_required_than_by_students_test_and_less_with_more_seeds() -> None:
    """Student's quantiles of 97.5 %: 2.776 with 5 seeds, 2.045 with 30."""
    for count, student in ((5, 2.776), (30, 2.045), (60, 2.001)):
        middle = (count - 1) / 2
        error = spread([float(value) for value in range(count)]).error or 0.0
        for factor, is_shown in ((1.0, False), (1.6, True)):
            shifted = of(*(value - middle + factor * student * error for value in range(count)))
            assert is_shown == (p_differs(shifted) < 0.05)
    assert p_differs(of(*(value + 3 for value in EVEN))) == p_differs(of(*(value - 3 for value in EVEN)))


def test_a_difference_of_zero_needs_more_seeds_than_there_are() -> None:
    assert seeds_to_show(of(*EVEN)) is None
    assert seeds_to_show(of(*(value + 0.001 for value in EVEN))) is None
    assert seeds_to_show(of(0.3)) is None
    few, more = seeds_to_show(of(*(value + 3 for value in EVEN))), seeds_to_show(of(*(value + 1 for value in EVEN)))
    assert few
    assert more
    assert 2 <= few < more


@pytest.mark.parametrize("num_tests", [1, 2, 6, 15])
def test_the_seeds_needed_are_a_few_more_than_of_a_known_variance(num_tests: int) -> None:
    """((z₁ + z₂) / d)², with the normal quantiles of 1 − 0.05 / 2 / m and 0.8, for a difference of d deviations."""
    few = 0
    for size in (0.8, 0.7, 0.6, 0.55, 0.52, 0.5, 0.4, 0.3, 0.2, 0.1):
        needed = seeds_to_show(of(*(value + size * 2.5**0.5 for value in EVEN)), num_tests) or 0  # deviation √2.5
        known = ((float(ndtri(1 - 0.025 / num_tests)) + float(ndtri(0.8))) / size) ** 2
        assert known < needed < 1.3 * known + 12, size
        assert few < needed
        few = needed


@pytest.mark.parametrize("count", [3, 8, 20, 60])
def test_as_many_seeds_are_needed_for_a_difference_as_can_detect_it(count: int) -> None:
    values = spread([float(index) for index in range(count)])
    detectable = detectable_difference(values) or 0.0
    shift = detectable / (values.std or 1) * 2.5**0.5  # in the scatter of `EVEN`, whose sample variance is 2.5
    assert seeds_to_show(of(*(value + shift for value in EVEN))) == pytest.approx(count, abs=1)


@pytest.mark.parametrize(("num_seeds", "num_tests"), [(3, 1), (5, 15)])
def test_a_difference_is_shown_as_often_as_stated(script: ModuleType, num_seeds: int, num_tests: int) -> None:
    assert [pytest.approx(0.8, abs=0.06)] * 2 == list(script.power(num_seeds, num_tests, 300))


@pytest.mark.parametrize("shape", ["normal, seeds", "scatter 1 to 4", "by 0.8"])
def test_intervals_hold_and_claims_are_true(script: ModuleType, shape: str) -> None:
    """In 95 % of comparisons and studies; 93 to 97 % and the 3 standard errors of so few are left for chance."""
    (draw,) = (draw for name, draw in script.SHAPES.items() if shape in name)
    found = script.simulate(draw, 60)
    assert 0.91 < found["held"] / found["pairs"] < 0.985
    assert found["claim"] <= 8
