"""Cells against their baselines: bits first, then statistics over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from made_records import made_cell, made_round, made_seed, made_suite

from fedbench.gate.accuracy import check_cells, where_changed
from fedbench.gate.baseline import CellRecord, SeedRecord
from fedbench.gate.checks import CellCheck, Judgement
from fedbench.measures import Verdict
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


def test_equal_bits_are_the_same_in_any_environment(cell: Cell) -> None:
    for compare_bits in (True, False):
        found = check(cell, made_cell(cell, BEFORE), made_cell(cell, BEFORE), compare_bits)
        assert (Judgement.SAME, None, 0.0) == (found.judgement, found.changed, found.difference)


def test_other_bits_are_changed_only_in_the_baselines_environment(cell: Cell) -> None:
    before, now = made_cell(cell, BEFORE), made_cell(cell, BEFORE, model="ff")
    found = check(cell, before, now)
    expected = "5 of 5 seeds, first in seed 0: round 2, the average of the same clients"
    assert (Judgement.EQUIVALENT, expected) == (found.judgement, found.changed)
    assert check(cell, before, now, compare_bits=False).changed is None


def test_a_drop_of_all_seeds_is_worse_though_they_scatter_more(cell: Cell) -> None:
    """Differences −0.03 ± 0.0016 (paired) where the seeds scatter by 0.03."""
    now = lowered({0: 0.028, 1: 0.032, 2: 0.030, 3: 0.029, 4: 0.031})
    found = check(cell, made_cell(cell, BEFORE), made_cell(cell, now, "ff"), compare_bits=False)
    assert (Judgement.WORSE, True) == (found.judgement, found.is_paired)
    assert pytest.approx(-0.030) == found.difference
    assert found.least_effect is not None
    assert found.least_effect < 0.004
    assert found.interval is not None
    assert found.interval[1] < -0.025


def test_seeds_of_which_none_is_in_the_baseline_are_compared_as_samples(cell: Cell) -> None:
    now = {seed + 10: value - 0.03 for seed, value in BEFORE.items()}
    found = check(cell, made_cell(cell, BEFORE), made_cell(cell, now, "ff"))
    assert (Judgement.CANNOT_TELL, False, None) == (found.judgement, found.is_paired, found.changed)
    assert (None, True) == (found.seeds_needed, found.fresh_seeds_needed is not None)


def test_of_seeds_that_are_partly_in_the_baseline_those_are_compared(cell: Cell) -> None:
    now = {3: 0.86, 4: 0.88, 5: 0.1, 6: 0.1}
    found = check(cell, made_cell(cell, BEFORE), made_cell(cell, now))
    assert (Judgement.SAME, (0.86, 0.88)) == (found.judgement, found.now.values)


def test_one_seed_of_the_baseline_can_be_the_same_or_not_be_told(cell: Cell) -> None:
    before = made_cell(cell, BEFORE)
    assert Judgement.SAME is check(cell, before, made_cell(cell, {2: 0.84})).judgement
    found = check(cell, before, made_cell(cell, {2: 0.2}, "ff"))
    assert (Judgement.CANNOT_TELL, "one seed") == (found.judgement, found.reason)
    assert found.changed is not None


def test_a_run_that_failed_is_worse_whatever_the_others_are(cell: Cell) -> None:
    record = made_cell(cell, BEFORE)
    failed = made_seed(4, verdict=Verdict.FAILED, reason="ValueError: no")
    found = check(cell, record, record.model_copy(update={"seeds": (*record.seeds[:4], failed)}))
    assert (Judgement.WORSE, "1 of 5 seeds failed: ValueError: no") == (found.judgement, found.reason)


def test_a_run_that_failed_with_a_seed_that_the_baseline_lacks_is_worse_too(cell: Cell) -> None:
    record = made_cell(cell, BEFORE)
    failed = made_seed(9, verdict=Verdict.FAILED, reason="ValueError: no")
    found = check(cell, record, record.model_copy(update={"seeds": (*record.seeds, failed)}))
    assert (Judgement.WORSE, "1 of 6 seeds failed: ValueError: no") == (found.judgement, found.reason)


def test_a_run_that_diverges_and_did_not_is_worse(cell: Cell) -> None:
    record = made_cell(cell, BEFORE)
    diverged = made_seed(4, made_round(0.1), made_round(0.88), verdict=Verdict.DIVERGED, reason="the loss")
    now = record.model_copy(update={"seeds": (*record.seeds[:4], diverged)})
    found = check(cell, record, now, compare_bits=False)
    assert (Judgement.WORSE, "20% of the seeds diverged, in the baseline 0%") == (found.judgement, found.reason)
    assert Judgement.WORSE is not check(cell, now, record, compare_bits=False).judgement


def test_cells_with_equal_bits_do_not_make_it_harder_for_the_others(tmp_path: Path) -> None:
    """A drop whose p-value of 0.04 is shown alone, and would not be among two."""
    cells = made_suite(tmp_path).cells
    now = made_cell(cells[0], lowered({0: -0.01, 1: 0.07, 2: 0.03, 3: 0.06, 4: 0.005}), "ff")
    pairs = [(cells[0], made_cell(cells[0], BEFORE), now)]
    same = (cells[1], made_cell(cells[1], BEFORE), made_cell(cells[1], BEFORE))
    alone, beside = (check_cells(each, "accuracy", 0.01, False) for each in (pairs, [*pairs, same]))
    assert Judgement.SAME is beside[1].judgement
    assert alone[0] == beside[0]


# Where the bits begin to differ


def both(before: SeedRecord, now: SeedRecord) -> str | None:
    return where_changed({before.seed: before}, {now.seed: now})


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
    ],
)
def test_a_change_is_told_by_round_and_client(now: SeedRecord, said: str) -> None:
    before = made_seed(3, made_round(0.1), made_round(0.9))
    assert f"1 of 1 seeds, first in seed 3: {said}" == both(before, now)


def test_without_client_models_it_is_the_model_that_changed() -> None:
    before, now = (made_seed(0, made_round(0.9, model, ())) for model in ("aa", "ff"))
    assert "1 of 1 seeds, first in seed 0: round 1, the model" == both(before, now)


def test_nothing_changed_where_nothing_differs() -> None:
    seed = made_seed(0, made_round(0.9))
    assert both(seed, seed) is None
