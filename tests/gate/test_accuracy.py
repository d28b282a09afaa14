"""Cells compared with their baselines: bits first, then statistics over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from made_records import made_cell, made_round, made_seed, made_suite

from fedbench.gate.accuracy import check_cells, judge_all
from fedbench.gate.baseline import CellRecord, SeedRecord
from fedbench.gate.bits import where_changed
from fedbench.gate.checks import CellCheck, Judgement
from fedbench.measures import Verdict
from fedbench.stats import difference_of
from fedbench.suites.schema import Cell

BEFORE = {0: 0.80, 1: 0.82, 2: 0.84, 3: 0.86, 4: 0.88}


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return made_suite(tmp_path).cells[0]


def check(cell: Cell, before: CellRecord, now: CellRecord, compare_bits: bool = True) -> CellCheck:
    (found,) = check_cells([(cell, before, now)], "accuracy", 0.01, compare_bits)
    return found


def lowered(by: Mapping[int, float]) -> dict[int, float]:
    return {seed: value - by[seed] for seed, value in BEFORE.items()}


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((-0.001, -0.001, -0.002, -0.002, -0.0015), Judgement.EQUIVALENT),  # lower, but it does not matter
        ((-0.10, -0.12, -0.08, -0.09, -0.11), Judgement.WORSE),
        ((0.10, 0.12, 0.08, 0.09, 0.11), Judgement.BETTER),
        ((0.04, -0.005, 0.03, 0.0, 0.02), Judgement.NOT_WORSE),
        ((0.1, -0.1, 0.2, -0.2, 0.0), Judgement.INCONCLUSIVE),
    ],
)
def test_equivalence_precedes_worse_and_better_and_these_precede_not_worse(
    differences: tuple[float, ...], expected: Judgement
) -> None:
    assert [expected] == judge_all([difference_of(dict.fromkeys(range(5), 0.0), dict(enumerate(differences)))], 0.01)


def test_equal_bits_are_the_same_in_any_environment(cell: Cell) -> None:
    for compare_bits in (True, False):
        found = check(cell, made_cell(cell, BEFORE), made_cell(cell, BEFORE), compare_bits)
        assert (Judgement.SAME, None, 0.0) == (found.judgement, found.changed, found.difference)


def test_a_metric_that_the_baseline_lacks_leaves_a_cell_the_same(cell: Cell) -> None:
    now = made_cell(cell, BEFORE)
    seeds = [
        (seed, [each.model_copy(update={"metrics": each.metrics | {"barrier": 0.5}}) for each in seed.rounds])
        for seed in now.seeds
    ]
    newer = tuple(seed.model_copy(update={"rounds": tuple(rounds)}) for seed, rounds in seeds)
    assert Judgement.SAME is check(cell, now, now.model_copy(update={"seeds": newer})).judgement


def test_other_bits_are_a_change_in_the_environment_of_the_baseline(cell: Cell) -> None:
    before, now = made_cell(cell, BEFORE), made_cell(cell, BEFORE, model="ff")
    found = check(cell, before, now)
    expected = "5 of 5 seeds, first in seed 0: round 2, the average of the same clients"
    assert (Judgement.EQUIVALENT, expected) == (found.judgement, found.changed)
    assert check(cell, before, now, compare_bits=False).changed is None


def test_a_drop_in_all_seeds_is_worse_although_seeds_scatter_more(cell: Cell) -> None:
    """Differences −0.03 ± 0.0016 (paired) where the seeds scatter by 0.03."""
    now = lowered({0: 0.028, 1: 0.032, 2: 0.030, 3: 0.029, 4: 0.031})
    found = check(cell, made_cell(cell, BEFORE), made_cell(cell, now, "ff"), compare_bits=False)
    assert (Judgement.WORSE, True) == (found.judgement, found.is_paired)
    assert pytest.approx(-0.030) == found.difference
    assert found.detectable_effect is not None
    assert 0.01 < found.detectable_effect < 0.02
    assert found.interval is not None
    assert found.interval[1] < -0.025


def test_other_seeds_are_compared_as_independent_samples(cell: Cell) -> None:
    now = {seed + 10: value - 0.03 for seed, value in BEFORE.items()}
    found = check(cell, made_cell(cell, BEFORE), made_cell(cell, now, "ff"))
    assert (Judgement.INCONCLUSIVE, False, None) == (found.judgement, found.is_paired, found.changed)
    assert (None, None) == (found.seeds_needed, found.fresh_seeds_needed)
    assert found.baseline_seeds_needed is not None
    assert found.baseline_seeds_needed > 100  # a margin of a third of the deviation


def test_the_minimum_detectable_effect_is_that_of_all_seeds_of_the_baseline(cell: Cell) -> None:
    known = made_cell(cell, BEFORE | dict.fromkeys(range(5, 10), 0.84))
    now = made_cell(cell, lowered({0: -0.002, 1: 0.002, 2: 0.0, 3: 0.001, 4: -0.001}), "ff")
    (five,), (ten,) = (check_cells([(cell, known, now)], "accuracy", 0.01, False, uses) for uses in (False, True))
    assert five.detectable_effect is not None
    assert ten.detectable_effect is not None
    assert 5 == len(ten.now.values)
    assert ten.detectable_effect < five.detectable_effect - 0.002


def test_of_partly_common_seeds_only_those_are_compared(cell: Cell) -> None:
    now = {3: 0.86, 4: 0.88, 5: 0.1, 6: 0.1}
    found = check(cell, made_cell(cell, BEFORE), made_cell(cell, now))
    assert (Judgement.SAME, (0.86, 0.88)) == (found.judgement, found.now.values)


def test_a_single_seed_is_the_same_or_inconclusive(cell: Cell) -> None:
    before = made_cell(cell, BEFORE)
    assert Judgement.SAME is check(cell, before, made_cell(cell, {2: 0.84})).judgement
    found = check(cell, before, made_cell(cell, {2: 0.2}, "ff"))
    assert (Judgement.INCONCLUSIVE, "one seed") == (found.judgement, found.reason)
    assert found.changed is not None


@pytest.mark.parametrize(("seed", "of"), [(4, "1 of 5"), (9, "1 of 6")], ids=["known seed", "new seed"])
def test_a_failed_run_is_worse_whatever_the_others_are(cell: Cell, seed: int, of: str) -> None:
    record = made_cell(cell, BEFORE)
    failed = made_seed(seed, verdict=Verdict.FAILED, reason="ValueError: no")
    kept = tuple(each for each in record.seeds if each.seed != seed)
    found = check(cell, record, record.model_copy(update={"seeds": (*kept, failed)}))
    assert (Judgement.WORSE, f"{of} seeds failed: ValueError: no") == (found.judgement, found.reason)


def test_more_diverged_runs_are_worse_and_fewer_are_not(cell: Cell) -> None:
    record = made_cell(cell, BEFORE)
    diverged = made_seed(4, made_round(0.1), made_round(0.88), verdict=Verdict.DIVERGED, reason="the loss")
    now = record.model_copy(update={"seeds": (*record.seeds[:4], diverged)})
    found = check(cell, record, now, compare_bits=False)
    assert (Judgement.WORSE, "20% of the seeds diverged, in the baseline 0%") == (found.judgement, found.reason)
    assert Judgement.WORSE is not check(cell, now, record, compare_bits=False).judgement


def test_cells_with_equal_bits_do_not_count_in_the_correction_for_multiple_tests(tmp_path: Path) -> None:
    """A drop with a p-value of 0.04, which would not be shown among two."""
    cells = made_suite(tmp_path).cells
    now = made_cell(cells[0], lowered({0: -0.01, 1: 0.07, 2: 0.03, 3: 0.06, 4: 0.005}), "ff")
    pairs = [(cells[0], made_cell(cells[0], BEFORE), now)]
    same = (cells[1], made_cell(cells[1], BEFORE), made_cell(cells[1], BEFORE))
    alone, both = (check_cells(each, "accuracy", 0.01, False) for each in (pairs, [*pairs, same]))
    assert Judgement.SAME is both[1].judgement
    assert alone[0] == both[0]


# Where the bits begin to differ


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (made_seed(3, made_round(0.1, "ff", ("bb", "99")), made_round(0.9, "ee")), "round 1, client 1"),
        (made_seed(3, made_round(0.1, "ff", ("88", "99")), made_round(0.9)), "round 1, client 0 and 1 more"),
        (made_seed(3, made_round(0.1, "ff", ("bb",)), made_round(0.9)), "round 1, which clients took part"),
        (made_seed(3, made_round(0.1), made_round(0.9, "ff")), "round 2, the average of the same clients"),
        (made_seed(3, made_round(0.1), made_round(0.8)), "round 2, accuracy of the same model"),
        (made_seed(3, made_round(0.1)), "1 rounds, were 2"),
        (
            made_seed(3, made_round(0.1), made_round(0.9).model_copy(update={"others": "11"})),
            "round 2, a client's or a class's metric, same model",
        ),
        (made_seed(3, made_round(0.1), made_round(0.9), verdict=Verdict.COLLAPSED), "the verdict collapsed, was ok"),
        (
            made_seed(3, made_round(0.1), made_round(0.9)).model_copy(update={"interpolation": "11"}),
            "the models between the two clients'",
        ),
        (made_seed(3, made_round(0.1), made_round(0.9)), None),
    ],
)
def test_a_change_is_located_by_round_and_client(now: SeedRecord, said: str | None) -> None:
    before = made_seed(3, made_round(0.1), made_round(0.9))
    expected = said and f"1 of 1 seeds, first in seed 3: {said}"
    assert expected == where_changed({3: before}, {3: now})


def test_a_run_that_an_older_baseline_calls_collapsed_may_be_below_the_majority() -> None:
    before, now = (made_seed(3, made_round(0.1), verdict=each) for each in (Verdict.COLLAPSED, Verdict.BELOW_MAJORITY))
    assert where_changed({3: before}, {3: now}) is None
    said = "1 of 1 seeds, first in seed 3: the verdict collapsed, was below majority"
    assert said == where_changed({3: now}, {3: before})


def test_a_metric_that_an_older_baseline_lacks_is_no_change_and_one_that_is_gone_is() -> None:
    before = made_seed(3, made_round(0.1), made_round(0.9))
    more = before.rounds[1].model_copy(update={"metrics": before.rounds[1].metrics | {"barrier": 0.5}})
    now = before.model_copy(update={"rounds": (before.rounds[0], more)})
    assert where_changed({3: before}, {3: now}) is None
    assert "1 of 1 seeds, first in seed 3: round 2, barrier of the same model" == where_changed({3: now}, {3: before})


def test_without_models_of_clients_the_model_itself_changed() -> None:
    before, now = (made_seed(0, made_round(0.9, model, ())) for model in ("aa", "ff"))
    assert "1 of 1 seeds, first in seed 0: round 1, the model" == where_changed({0: before}, {0: now})
