"""The verdict on made confusion matrices, and spreads that can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from fedbench.core import Evaluation
from fedbench.measures import (
    CHANCE_LEVEL,
    MEANINGS,
    Verdict,
    barrier,
    is_above_chance,
    judge,
    judge_cell,
    recovered,
    rounds_to_target,
)
from fedbench.stats import Spread, spread, spread_by_step, spread_if_all


def evaluation(*rows: list[int], loss: float = 0.5) -> Evaluation:
    return Evaluation(loss, np.array(rows, dtype=np.int64))


def test_a_model_that_names_one_class_has_collapsed_however_accurate_it_is() -> None:
    assert (Verdict.COLLAPSED, "predicts class 1 for every image") == judge(evaluation([0, 5], [0, 95]))
    assert (Verdict.COLLAPSED, "predicts class 0 for every image") == judge(evaluation([5, 0], [95, 0]))


def test_sixty_percent_of_every_class_is_below_the_majority_not_collapsed() -> None:
    """The largest class is 67 %. Dealt at random, the calls find 50 % of both classes, with a deviation of 1.7 %."""
    found = judge(evaluation([402, 268], [132, 198]))
    reason = "accuracy 60.0% does not beat the majority rate 67.0% by more than chance"
    assert (Verdict.BELOW_MAJORITY, reason) == found


def test_calls_that_follow_the_class_balance_have_collapsed() -> None:
    """Both rows are split 67 to 33: the calls say nothing of the images."""
    found = judge(evaluation([449, 221], [221, 109]))
    reason = "balanced accuracy 50.0% is not shown to be above chance (50.0%)"
    assert (Verdict.COLLAPSED, reason) == found


def test_a_balanced_test_set_where_accuracy_is_at_chance_is_collapsed() -> None:
    # 11 of 100: of ten in each class one is found, and of one class two.
    counts = np.ones((10, 10), dtype=np.int64)
    counts[0, :2] = 2, 0
    found = judge(Evaluation(0.5, counts))
    assert (Verdict.COLLAPSED, "balanced accuracy 11.0% is not shown to be above chance (10.0%)") == found


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (([90, 10], [45, 5]), Verdict.COLLAPSED),  # one in ten is called class 1, whichever it is
        (([85, 15], [25, 25]), Verdict.BELOW_MAJORITY),  # half of class 1 is found; 25 gained, 15 lost: p = 0.08
    ],
)
def test_a_model_that_names_two_of_seven_classes_is_judged_by_what_it_finds(
    rows: tuple[list[int], list[int]], verdict: Verdict
) -> None:
    counts = np.zeros((7, 7), dtype=np.int64)
    counts[:2, :2] = rows
    counts[2:, 0] = 10
    assert verdict is judge(Evaluation(0.5, counts))[0]


def test_a_single_lucky_call_of_a_rare_class_is_not_skill() -> None:
    """Its recall is 100 %, but 21 of 100 calls name it: one table of five has that. With 3 calls it is skill."""
    assert Verdict.COLLAPSED is judge(evaluation([79, 20], [0, 1]))[0]
    assert Verdict.BELOW_MAJORITY is judge(evaluation([97, 2], [0, 1]))[0]


def test_of_four_images_even_perfect_calls_show_nothing() -> None:
    """One of the six ways to deal two calls of each class is perfect; of 20 with six images, of 70 with eight."""
    assert Verdict.COLLAPSED is judge(evaluation([2, 0], [0, 2]))[0]
    assert is_above_chance(np.array([[4, 0], [0, 4]]))


def test_naming_classes_that_the_test_set_lacks_is_a_guess() -> None:
    # Of the calls that name a class that is there all are right, but chance is 50 %.
    assert not is_above_chance(np.array([[30, 0, 70], [0, 30, 70], [0, 0, 0]]))
    assert not is_above_chance(np.array([[50, 0, 50], [0, 51, 49], [0, 0, 0]]))
    assert is_above_chance(np.array([[80, 0, 20], [0, 80, 20], [0, 0, 0]]))
    assert Verdict.COLLAPSED is judge(evaluation([8, 2], [0, 0]))[0]


@pytest.mark.parametrize(
    ("rows", "p_value"),
    [
        (([30, 20], [20, 30]), 0.036),
        (([29, 21], [21, 29]), 0.081),
        (([52, 8], [28, 12]), 0.038),
        (([52, 8], [29, 11]), 0.067),
        (([6, 1], [1, 4]), 0.045),
        (([5, 2], [1, 4]), 0.121),
    ],
)
def test_with_two_classes_the_test_is_fishers(rows: tuple[list[int], list[int]], p_value: float) -> None:
    assert pytest.approx(p_value, abs=0.0005) == fisher_exact(rows, alternative="greater").pvalue
    assert (p_value <= CHANCE_LEVEL) is is_above_chance(np.array(rows))


def test_of_guesses_one_in_twenty_is_called_above_chance() -> None:
    """Seven classes, one of them two thirds of 150 images, guessed uniformly; 8 is three deviations above 5 % of 60."""
    generator = np.random.default_rng(0)
    tables = [[generator.multinomial(size, [1 / 7] * 7) for size in (4, 9, 20, 5, 15, 93, 4)] for _ in range(60)]
    assert sum(is_above_chance(np.array(table)) for table in tables) <= 8


def test_exactly_the_majority_rate_is_below_the_majority() -> None:
    # 60 of 100 are of class 0. The model finds 50 of those and 10 of the others: 60 % too.
    verdict, reason = judge(evaluation([50, 10], [30, 10]))
    assert Verdict.COLLAPSED is verdict  # Fisher's exact test of 83 % and 25 %: p = 0.22
    verdict, reason = judge(evaluation([500, 100], [300, 100]))
    assert Verdict.BELOW_MAJORITY is verdict
    assert "accuracy 60.0% does not beat the majority rate 60.0% by more than chance" == reason


@pytest.mark.parametrize(
    ("gained", "lost", "verdict"),
    [
        (5, 0, Verdict.OK),  # 1/32 = 0.031
        (4, 0, Verdict.BELOW_MAJORITY),  # 1/16 = 0.0625
        (7, 1, Verdict.OK),  # (1 + 8)/256 = 0.035
        (8, 2, Verdict.BELOW_MAJORITY),  # (1 + 10 + 45)/1024 = 0.0547
        (12, 8, Verdict.BELOW_MAJORITY),  # 12 or more of 20 tosses: 0.25
    ],
)
def test_the_level_is_one_in_twenty_of_a_sign_test(gained: int, lost: int, verdict: Verdict) -> None:
    assert verdict is judge(evaluation([60 - lost, lost], [40 - gained, gained]))[0]


def test_clearly_above_the_majority_rate_is_ok_and_has_no_reason() -> None:
    assert (Verdict.OK, None) == judge(evaluation([55, 5], [5, 35]))


def test_calls_that_are_swapped_have_collapsed() -> None:
    assert Verdict.COLLAPSED is judge(evaluation([0, 60], [30, 10]))[0]


def test_a_perfect_model_on_one_class_shows_no_skill() -> None:
    assert Verdict.COLLAPSED is judge(evaluation([10, 0], [0, 0]))[0]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_diverged_whatever_the_predictions(loss: float) -> None:
    assert (Verdict.DIVERGED, "the loss is not finite") == judge(evaluation([55, 5], [5, 35], loss=loss))
    assert (Verdict.DIVERGED, "the loss is not finite") == judge(evaluation([60, 0], [40, 0], loss=loss))


def test_a_cell_has_the_worst_verdict_of_its_seeds_and_says_how_many_share_it() -> None:
    verdicts = [Verdict.OK, Verdict.COLLAPSED, Verdict.DIVERGED, Verdict.DIVERGED]
    reasons = [None, "one class", "the first", "the second"]
    assert (Verdict.DIVERGED, "2 of 4 seeds: the first") == judge_cell(verdicts, reasons)


def test_a_cell_of_good_seeds_is_ok_without_a_reason() -> None:
    assert (Verdict.OK, None) == judge_cell([Verdict.OK, Verdict.OK], [None, None])


def test_verdicts_are_ordered_from_best_to_worst() -> None:
    for better, worse in zip(list(Verdict), list(Verdict)[1:], strict=False):
        assert worse is judge_cell([better, worse, better], ["b", "w", "b"])[0]


def test_every_verdict_but_ok_is_explained() -> None:
    assert set(Verdict) - {Verdict.OK} == set(MEANINGS)


def test_the_spread_is_the_mean_and_the_sample_standard_deviation() -> None:
    # mean 3; squares of the distances 4 + 1 + 0 + 1 + 4 = 10, over n - 1 = 4: 2.5
    assert Spread(3.0, math.sqrt(2.5), (1.0, 2.0, 3.0, 4.0, 5.0)) == spread([1.0, 2.0, 3.0, 4.0, 5.0])


def test_one_seed_has_no_standard_deviation() -> None:
    assert Spread(0.8, None, (0.8,)) == spread([0.8])


@pytest.mark.parametrize("odd", [[math.nan, 1.0], [math.inf, 1.0], [math.inf, -math.inf], [1.797e308, 1.797e308, 0.0]])
def test_numbers_that_are_not_finite_or_huge_have_a_spread_that_is_not_finite(odd: list[float]) -> None:
    found = spread(odd)
    assert tuple(odd)[1:] == found.values[1:]
    assert found.std is not None
    assert not math.isfinite(found.std)


def test_the_spread_by_step_counts_a_run_that_ended_early_with_its_last_value() -> None:
    found = spread_by_step([{1: 1.0, 2: 2.0, 3: 3.0}, {1: 3.0}])
    assert {1: 2.0, 2: 2.5, 3: 3.0} == {step: over.mean for step, over in found.items()}


def test_the_spread_by_step_starts_where_all_runs_have_a_value() -> None:
    assert [2] == list(spread_by_step([{1: 1.0, 2: 2.0}, {2: 4.0}]))
    assert {} == spread_by_step([{1: 1.0}, {}])
    assert {} == spread_by_step([])


def test_the_interval_of_a_mean_is_students() -> None:
    """1, 2 and 3: standard error 1/√3, and 4.303 is the 97.5 % point with 2 degrees of freedom."""
    assert pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5)) == spread([1.0, 2.0, 3.0]).interval
    assert spread([1.0]).interval is None


@pytest.mark.parametrize(("gained", "lost"), [(1, 5), (5, 1), (7, 1), (60, 40), (61, 39), (1200, 1100), (1199, 1117)])
def test_what_beats_the_majority_by_more_than_chance_is_scipys_exact_sign_test(gained: int, lost: int) -> None:
    """Of 5,000 examples of the larger class all but `lost` are found, and of the other class `gained`."""
    counts = np.array([[5000 - lost, lost], [2000 - gained, gained]])
    beats = gained + lost > 0 and binomtest(gained, gained + lost, alternative="greater").pvalue <= CHANCE_LEVEL
    assert beats == (judge(Evaluation(0.5, counts))[0] is Verdict.OK)


@pytest.mark.parametrize(
    ("accuracies", "rounds"),
    [
        ([0.5, 0.7, 0.9], 2.5),  # half of the way from 0.7 to 0.9
        ([0.5, 0.8, 0.9], 2.0),  # at the target in round 2
        ([0.5, 0.7, 0.6, 0.9], 3.5),  # the best so far is 0.7, not the 0.6 of round 3
        ([0.6, 0.4, 1.0, 0.2], 2.5),  # 0.8 is half of the way from 0.6; what follows does not count
        ([0.9, 1.0], 1.0),  # nothing is known before round 1
        ([0.5, 0.7, 0.79], None),
        ([], None),
    ],
)
def test_rounds_to_a_target_are_those_of_the_best_so_far_interpolated(
    accuracies: list[float], rounds: float | None
) -> None:
    found = rounds_to_target(accuracies, 0.8)
    assert found == (None if rounds is None else pytest.approx(rounds))


@pytest.mark.parametrize(
    ("losses", "height"),
    [
        ({-0.2: 9.0, 0.0: 1.0, 0.25: 2.0, 0.5: 2.75, 1.0: 3.0, 1.2: 20.0}, 0.75),  # at 0.25: 2 - 1.5; at 0.5: 2.75 - 2
        ({0.0: 1.0, 0.5: 0.5, 1.0: 1.0}, 0.0),  # a valley
        ({0.0: 1.0, 0.5: 1.5, 1.0: 2.0}, 0.0),  # a slope
        ({0.0: 1.0, 0.5: math.nan, 1.0: 2.0}, math.inf),
        ({0.0: 1.0, 0.5: 1.5, 1.0: math.inf}, None),
        ({0.0: math.nan, 0.5: 1.5, 1.0: 1.0}, None),
    ],
)
def test_the_barrier_is_the_largest_excess_over_the_straight_line_between_the_two_losses(
    losses: dict[float, float], height: float | None
) -> None:
    assert height == barrier(tuple((theta, loss, 0.5) for theta, loss in losses.items()))


def test_what_is_recovered_is_a_share_of_the_gap_to_the_clients_own_models() -> None:
    """The clients' mean is 90 %, the plain average 70 %, that of aligned models 88 %: 18 points of 20."""
    assert pytest.approx(0.9) == recovered(-0.02, -0.20, 0.70, 10_000)
    assert pytest.approx(1.25) == recovered(0.05, -0.20, 0.70, 10_000)
    assert pytest.approx(-0.5) == recovered(-0.30, -0.20, 0.70, 10_000)


def test_nothing_is_recovered_of_a_gap_within_two_standard_errors() -> None:
    """Of 100 images at 50 % and 60 %, the standard error of the difference is √(0.25 + 0.24) / 10 = 0.07."""
    assert recovered(0.1, -0.10, 0.5, 100) is None
    assert recovered(0.1, -0.15, 0.5, 100) is not None
    assert recovered(0.1, 0.01, 0.9, 10_000) is None  # the plain average is better than the clients' own models


def test_a_spread_over_what_is_not_all_known_is_none() -> None:
    assert spread_if_all([1.0, None]) is None
    assert spread_if_all([]) is None
    assert spread_if_all([1.0, 3.0]) == spread([1.0, 3.0])
