"""Verdicts on rows, speed-ups, and what is read from a store."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fedbench.reports.conformance import Conformance, ConformanceRow, _with_speedup, interpolation_gain, summary
from fedbench.suites.conformance import Reference


def row(values: Sequence[float | None], band: tuple[float | None, float | None] | None = (10, 30)) -> ConformanceRow:
    return ConformanceRow(Reference(scenario="a", paper=20, band=band), tuple(values), budget=50)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], Conformance.NOT_RUN),
        ([10.0, 30.0], Conformance.WITHIN),
        ([9.0, 10.0], Conformance.BELOW),
        ([30.0, 31.0], Conformance.ABOVE),
        ([None], Conformance.ABOVE),
        ([12.0, None], Conformance.ABOVE),  # at least (12 + 50) / 2 = 31
        ([9.0, None], Conformance.UNDECIDED),  # at least 29.5
    ],
)
def test_the_mean_over_seeds_is_held_against_the_band(values: Sequence[float | None], verdict: Conformance) -> None:
    assert verdict is row(values).verdict


def test_a_band_may_be_open_and_may_be_missing() -> None:
    assert Conformance.WITHIN is row([-3.0], (None, 0)).verdict
    assert Conformance.ABOVE is row([0.1], (None, 0)).verdict
    assert Conformance.BELOW is row([-0.1], (0, None)).verdict
    assert Conformance.NO_BAND is row([20.0], None).verdict


def test_a_seed_that_did_not_reach_its_target_leaves_no_mean() -> None:
    assert row([12.0, None]).ours is None
    ours = row([12.0, 14.0]).ours
    assert ours is not None
    assert 13.0 == ours.mean


def test_a_speedup_is_the_rounds_of_the_other_over_these() -> None:
    slow = ConformanceRow(Reference(scenario="sgd", paper=600), (500.0, 700.0), 1000)
    fast = ConformanceRow(Reference(scenario="avg", paper=20, speedup_over="sgd"), (24.0,), 100)
    unfinished = ConformanceRow(Reference(scenario="avg", paper=20, speedup_over="sgd"), (None,), 100)
    rows = {"sgd": slow, "avg": fast}
    assert (30.0, 25.0) == (_with_speedup(fast, rows).paper_speedup, _with_speedup(fast, rows).speedup)
    assert (30.0, None) == (_with_speedup(unfinished, rows).paper_speedup, _with_speedup(unfinished, rows).speedup)
    assert (None, None) == (_with_speedup(slow, rows).paper_speedup, _with_speedup(slow, rows).speedup)


def test_a_speedup_scatters_as_both_of_its_rounds_do() -> None:
    """100 ± 3 % over 50 ± 4 %: 2 ± 5 %, by Pythagoras."""
    slow = ConformanceRow(Reference(scenario="sgd"), (97.0, 100.0, 103.0), 200)
    fast = ConformanceRow(Reference(scenario="avg", speedup_over="sgd"), (48.0, 50.0, 52.0), 200)
    found = _with_speedup(fast, {"sgd": slow})
    assert (2.0, pytest.approx(0.1)) == (found.speedup, found.speedup_std)


def test_the_gain_of_an_interpolation_is_over_the_better_of_the_two() -> None:
    assert pytest.approx(0.1) == interpolation_gain({-0.2: 9.0, 0.0: 0.5, 0.5: 0.3, 1.0: 0.4})
    assert pytest.approx(-0.6) == interpolation_gain({0.0: 0.5, 0.5: 1.0, 1.0: 0.4})


def test_what_is_not_decided_is_counted_apart() -> None:
    rows = [row([20.0]), row([9.0]), row([]), row([]), row([9.0, None])]
    assert "1 of 2 rows are within their bands; 1 undecided, 2 not run." == summary(rows)
    assert "1 of 1 rows are within their bands." == summary(rows[:1])
