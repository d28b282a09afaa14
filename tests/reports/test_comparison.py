"""Two sets of results compared, with numbers that can be verified by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_suite import made_suite, metrics_of, shown, stored_suite

from fedbench.reports.comparison import Change, Comparison, compare, comparison_json, comparison_table, judge_change
from fedbench.stats import difference_of
from fedbench.suites.schema import RunSpec
from fedbench.tracking.records import StoredSuite
from fedbench.util.errors import StoreError

T_2, T_4 = 4.302653, 2.776445  # 97.5 % quantiles of Student's t with 2 and 4 degrees of freedom
AB = ("A's name", "B's name")


def test_common_seeds_are_compared_pair_by_pair() -> None:
    """Differences 1, 2 and 3: mean 2, standard deviation 1, standard error 1/√3."""
    difference = difference_of({0: 10.0, 1: 20.0, 2: 30.0}, {0: 11.0, 1: 22.0, 2: 33.0})
    assert (2.0, True) == (difference.mean, difference.is_paired)
    assert pytest.approx((2 - T_2 / 3**0.5, 2 + T_2 / 3**0.5)) == difference.interval


def test_other_seeds_are_compared_as_independent_samples() -> None:
    """Both have variance 1 and three values: 4 degrees of freedom, standard error √(2/3)."""
    difference = difference_of({0: 1.0, 1: 2.0, 2: 3.0}, {3: 2.0, 4: 3.0, 5: 4.0})
    assert (1.0, False) == (difference.mean, difference.is_paired)
    assert pytest.approx((1 - T_4 * (2 / 3) ** 0.5, 1 + T_4 * (2 / 3) ** 0.5)) == difference.interval


def test_a_single_seed_has_no_interval_and_no_spread_an_interval_without_width() -> None:
    for first, second in (({0: 1.0}, {0: 1.5}), ({0: 1.0, 1: 1.0}, {7: 1.5})):
        difference = difference_of(first, second)
        assert (0.5, None) == (difference.mean, difference.interval)
    assert (1.0, 1.0) == difference_of({0: 1.0, 1: 1.0}, {2: 2.0, 3: 2.0}).interval


@pytest.mark.parametrize(
    ("interval", "higher", "lower"),
    [
        ((0.1, 0.2), Change.BETTER, Change.WORSE),
        ((-0.2, -0.1), Change.WORSE, Change.BETTER),
        ((-0.1, 0.1), Change.UNCLEAR, Change.UNCLEAR),
        ((0.0, 0.1), Change.UNCLEAR, Change.UNCLEAR),
        (None, Change.ONE_SEED, Change.ONE_SEED),
    ],
)
def test_a_change_is_clear_only_if_the_interval_is_on_one_side_of_zero(
    interval: tuple[float, float] | None, higher: Change, lower: Change
) -> None:
    assert (higher, lower) == (judge_change(interval, False), judge_change(interval, True))


OTHER = """
name: made
question: What is shown?
seeds: [0, 1, 2]
scenarios:
  - {name: grid, num_clients: [2, 3], examples_per_client: [20, 50], rounds: 2}
  - {name: extra, rounds: 1}
"""


def shifted(run: RunSpec, step: int) -> dict[str, float]:
    """With three clients better in every seed; with two, better in one and worse in another, or equal."""
    change = 0.05 + 0.001 * run.seed if run.spec.num_clients == 3 else (0.03, 0.0, -0.02)[run.seed]
    if run.scenario == "grid" and run.spec.examples_per_client == 50 and run.spec.num_clients == 2:
        change = 0.0
    metrics = metrics_of(run, step)
    return metrics | {"accuracy": metrics["accuracy"] + change, "loss": metrics["loss"] - change}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> StoredSuite:
    return stored_suite(made_suite(tmp_path_factory.mktemp("other"), OTHER), shifted)


def changes(comparison: Comparison) -> dict[str, Change]:
    return {cell.label: cell.change for cell in comparison.cells}


def test_two_sets_are_compared_cell_by_cell(stored: StoredSuite, other: StoredSuite) -> None:
    comparison = compare([stored], [other], AB, "accuracy")
    assert {
        "grid num_clients=2 examples_per_client=20": Change.UNCLEAR,
        "grid num_clients=2 examples_per_client=50": Change.EQUAL,
        "grid num_clients=3 examples_per_client=20": Change.BETTER,
        "grid num_clients=3 examples_per_client=50": Change.BETTER,
    } == changes(comparison)
    better = comparison.cells[2].difference
    assert pytest.approx(0.051) == better.mean
    assert pytest.approx((0.051 - 0.001 * T_2 / 3**0.5, 0.051 + 0.001 * T_2 / 3**0.5)) == better.interval
    assert (("pair init=shared", "pair init=independent"), ("extra",)) == (
        comparison.only_first,
        comparison.only_second,
    )


def test_if_there_are_common_seeds_the_others_do_not_count(stored: StoredSuite, tmp_path: Path) -> None:
    second = stored_suite(made_suite(tmp_path, OTHER.replace("[0, 1, 2]", "[1, 2, 7]")))
    comparison = compare([stored], [second], AB, "accuracy")
    assert {Change.EQUAL} == set(changes(comparison).values())
    assert all(cell.difference.is_paired for cell in comparison.cells)
    assert pytest.approx((0.71, 0.72)) == comparison.cells[0].first.values


def test_the_other_way_round_better_is_worse_and_a_lower_loss_is_better(
    stored: StoredSuite, other: StoredSuite
) -> None:
    label = "grid num_clients=3 examples_per_client=20"
    assert Change.WORSE is changes(compare([other], [stored], AB, "accuracy"))[label]
    assert Change.BETTER is changes(compare([stored], [other], AB, "loss"))[label]


def test_the_table_and_the_json_object_agree(stored: StoredSuite, other: StoredSuite) -> None:
    comparison = compare([stored], [other], AB, "accuracy")
    text = shown(comparison_table(comparison))
    assert "81.0 ± 1.0" in text
    assert "+5.1" in text
    assert "3 pairs" in text
    assert "2 better, 1 no clear difference, 1 equal." in text
    assert "expect 0.1 of 3" in text or "expect 0.2 of 3" in text  # 3 · 0.05 = 0.15
    found = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))
    assert 2 == found["changes"]["better"]
    assert pytest.approx(0.051) == found["cells"][2]["difference"]
    assert ["extra"] == found["only_b"]


def test_no_common_cell_is_one_line(stored: StoredSuite) -> None:
    with pytest.raises(StoreError, match="A's name and B's name have no cell with nonsense in common"):
        compare([stored], [stored], AB, "nonsense")
