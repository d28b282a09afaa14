"""What is shown by differences over seeds, with numbers from the printed tables of Student's t distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from fedbench.gate.checks import Judgement
from fedbench.gate.statistics import at_most, holm, judge_all, least_effect, seeds_needed
from fedbench.stats import Difference, difference_of

MARGIN = 0.01
T4_95, T4_90 = 2.131847, 1.533206  # the 95 and the 90 % point with 4 degrees of freedom


def paired(*differences: float) -> Difference:
    return difference_of(dict.fromkeys(range(len(differences)), 0.0), dict(enumerate(differences)))


def judged(*cells: Difference, margin: float = MARGIN) -> list[Judgement]:
    return judge_all(cells, margin)


def test_holm_multiplies_the_least_by_their_number_and_never_falls() -> None:
    assert pytest.approx([0.03, 0.06, 0.06]) == holm([0.01, 0.04, 0.03])
    assert [1.0, 1.0] == holm([0.6, 0.9])
    assert [] == holm([])


def test_the_chance_of_a_mean_as_low_is_that_of_students_t() -> None:
    difference = Difference(-T4_95, 1.0, 4)
    assert pytest.approx(0.05, abs=1e-6) == at_most(difference, 0.0)
    assert pytest.approx(0.5) == at_most(difference, -T4_95)
    assert pytest.approx(0.95, abs=1e-6) == at_most(difference, -2 * T4_95)


def test_without_scatter_any_distance_is_certain() -> None:
    assert [0.0, 0.5, 1.0] == [at_most(Difference(-0.1, 0.0, 4), bound) for bound in (0.0, -0.1, -0.2)]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((0.001, -0.001, 0.002, -0.002, 0.0), Judgement.EQUIVALENT),
        ((-0.001, -0.001, -0.002, -0.002, -0.0015), Judgement.EQUIVALENT),  # lower, but too little to matter
        ((-0.10, -0.12, -0.08, -0.09, -0.11), Judgement.WORSE),
        ((0.10, 0.12, 0.08, 0.09, 0.11), Judgement.BETTER),
        ((0.04, -0.005, 0.03, 0.0, 0.02), Judgement.NOT_WORSE),
        ((0.1, -0.1, 0.2, -0.2, 0.0), Judgement.CANNOT_TELL),
        ((-0.1, -0.1, -0.1), Judgement.WORSE),  # no scatter
    ],
)
def test_the_judgement_on_a_single_cell(differences: Sequence[float], expected: Judgement) -> None:
    assert [expected] == judged(paired(*differences))


def test_a_single_seed_shows_nothing() -> None:
    assert [Judgement.CANNOT_TELL] == judged(paired(-0.5))


def test_what_is_not_a_number_shows_nothing() -> None:
    assert [Judgement.CANNOT_TELL] == judged(Difference(math.nan, math.nan, 4, is_paired=True))


def test_a_drop_that_one_cell_shows_is_not_shown_by_one_of_twenty() -> None:
    """Its t is 2.5: p = 0.033 alone, 0.67 among twenty."""
    drop, still = Difference(-0.05, 0.02, 4, is_paired=True), paired(0.1, -0.1, 0.2, -0.2, 0.0)
    assert [Judgement.WORSE] == judged(drop)
    assert [Judgement.CANNOT_TELL] * 20 == judged(drop, *[still] * 19)


def test_a_wider_margin_makes_equivalent_what_was_worse() -> None:
    drop = paired(-0.010, -0.012, -0.008, -0.009, -0.011)
    assert [[Judgement.WORSE], [Judgement.EQUIVALENT]] == [judged(drop, margin=margin) for margin in (0.005, 0.02)]


def test_the_least_effect_is_two_quantiles_of_standard_errors() -> None:
    assert pytest.approx((T4_95 + T4_90) * 0.02, rel=1e-5) == least_effect(Difference(0.3, 0.02, 4), 1)


def test_the_least_effect_grows_with_the_number_of_cells_and_is_unknown_for_one_seed() -> None:
    difference = Difference(0.3, 0.02, 4)
    effects = [least_effect(difference, cells) or 0.0 for cells in (1, 5, 15)]
    assert sorted(set(effects)) == effects
    assert least_effect(Difference(0.3), 1) is None


def test_a_drop_of_the_least_effect_is_found_in_nine_of_ten_tries() -> None:
    """Drawn 2,000 times. The approximation by central t is a little low, hence the width below."""
    import numpy as np

    stream = np.random.default_rng(0)
    std, count = 0.02, 10
    effect = least_effect(Difference(0.0, std / math.sqrt(count), count - 1), 1)
    assert effect is not None
    found = sum(judged(paired(*stream.normal(-effect, std, count))) == [Judgement.WORSE] for _ in range(2_000))
    assert 0.87 < found / 2_000 < 0.93


def test_nothing_is_taken_for_worse_more_often_than_said() -> None:
    """Five cells without a difference, 1,000 times; at most 1 in 20 and its sampling error."""
    import numpy as np

    stream = np.random.default_rng(1)
    suites = [[paired(*stream.normal(0, 0.05, 5)) for _ in range(5)] for _ in range(1_000)]
    assert sum(Judgement.WORSE in judged(*cells) for cells in suites) <= 70


def test_the_seeds_that_show_a_margin_of_one_standard_deviation_are_thirteen() -> None:
    """2 t(12; 0.95) = 3.565 is less than √13 = 3.606, but 2 t(11; 0.95) = 3.592 is more than √12 = 3.464."""
    assert 13 == seeds_needed(1.0, 1.0, 1, is_paired=True)


def test_fresh_seeds_must_be_about_twice_as_many() -> None:
    fresh = seeds_needed(1.0, 1.0, 1, is_paired=False)
    assert fresh is not None
    assert 20 <= fresh <= 26


def test_a_scatter_beyond_all_seeds_has_no_number() -> None:
    assert seeds_needed(1e9, 1e-3, 1, is_paired=True) is None
    assert seeds_needed(math.nan, 0.01, 1, is_paired=True) is None
    assert 2 == seeds_needed(0.0, 0.01, 1, is_paired=True)
