"""Two sets of results compared, with numbers to be verified by hand."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from made_store import address, made_suite, metrics_of, record
from rich.console import Console

from fedbench.reports.compare import (
    Change,
    Comparison,
    compare,
    find_results,
    judge_change,
)
from fedbench.reports.comparison_table import comparison_json, comparison_table
from fedbench.stats import difference_of
from fedbench.suites.schema import RunSpec
from fedbench.tracking.mlflow.store import open_store
from fedbench.util.errors import StoreError

T_2, T_4 = 4.302653, 2.776445  # 97.5 % points of Student's t with 2 and 4 degrees of freedom


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


def test_a_single_seed_has_no_interval() -> None:
    for first, second in (({0: 1.0}, {0: 1.5}), ({0: 1.0, 1: 1.0}, {7: 1.5})):
        difference = difference_of(first, second)
        assert (0.5, None) == (difference.mean, difference.interval)


def test_samples_without_spread_have_an_interval_without_width() -> None:
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


TEXT = """
name: made
question: What is shown?
seeds: [0, 1, 2]
scenarios:
  - {name: grid, num_clients: [2, 3], examples_per_client: [20, 50], rounds: 2}
  - {name: extra, rounds: 1}
"""


def shifted(run: RunSpec, step: int) -> dict[str, float]:
    """With three clients better in every seed; with two, better in one and worse in another."""
    change = 0.05 + 0.001 * run.seed if run.spec.num_clients == 3 else (0.03, 0.0, -0.02)[run.seed]
    if run.scenario == "grid" and run.spec.examples_per_client == 50 and run.spec.num_clients == 2:
        change = 0.0
    metrics = metrics_of(run, step)
    return metrics | {"accuracy": metrics["accuracy"] + change, "loss": metrics["loss"] - change}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("other")
    record(made_suite(folder, TEXT), address(folder), shifted)
    return address(folder)


def changes(comparison: Comparison) -> dict[str, Change]:
    return {cell.label: cell.change for cell in comparison.cells}


def test_two_stores_are_compared_cell_by_cell(made: str, other: str) -> None:
    comparison = compare(made, other, None, None, "accuracy")
    assert {
        "grid num_clients=2 examples_per_client=20": Change.UNCLEAR,
        "grid num_clients=2 examples_per_client=50": Change.EQUAL,
        "grid num_clients=3 examples_per_client=20": Change.BETTER,
        "grid num_clients=3 examples_per_client=50": Change.BETTER,
    } == changes(comparison)
    better = comparison.cells[2]
    assert pytest.approx(0.051) == better.difference
    assert pytest.approx((0.051 - 0.001 * T_2 / 3**0.5, 0.051 + 0.001 * T_2 / 3**0.5)) == better.interval
    assert (("pair init=shared", "pair init=independent"), ("extra",)) == (
        comparison.only_first,
        comparison.only_second,
    )


def test_with_seeds_in_common_the_others_do_not_count(made: str, tmp_path: Path) -> None:
    suite = made_suite(tmp_path, TEXT.replace("[0, 1, 2]", "[1, 2, 7]"))
    record(suite, address(tmp_path))
    comparison = compare(made, address(tmp_path), None, None, "accuracy")
    assert {Change.EQUAL} == set(changes(comparison).values())
    assert all(cell.paired for cell in comparison.cells)
    assert pytest.approx((0.71, 0.72)) == comparison.cells[0].first.values


def test_the_other_way_round_better_is_worse_and_a_lower_loss_is_better(made: str, other: str) -> None:
    label = "grid num_clients=3 examples_per_client=20"
    assert Change.WORSE is changes(compare(other, made, None, None, "accuracy"))[label]
    assert Change.BETTER is changes(compare(made, other, None, "made", "loss"))[label]


def test_the_table_and_the_json_object_say_the_same(made: str, other: str) -> None:
    comparison = compare(made, other, None, None, "accuracy")
    console = Console(file=StringIO(), width=160)
    console.print(comparison_table(comparison))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "81.0 ± 1.0" in text
    assert "+5.1" in text
    assert "2 better, 1 no clear difference, 1 equal." in text
    assert "expect 0.1 of 3" in text or "expect 0.2 of 3" in text  # 3 · 0.05 = 0.15
    found = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))
    assert 2 == found["changes"]["better"]
    assert pytest.approx(0.051) == found["cells"][2]["difference"]
    assert ["extra"] == found["only_b"]


def test_invocations_and_commits_of_one_store_are_compared_also_if_superseded(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, TEXT)
    uri = address(tmp_path)
    record(suite, uri)
    client = open_store(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'made'")

    def invocations() -> list[str]:
        runs = client.search_runs([experiment.experiment_id], "tags.`fedbench.invocation` LIKE '%'", max_results=1000)
        return sorted({run.data.tags["fedbench.invocation"] for run in runs})

    (first,) = invocations()
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        client.set_tag(run.info.run_id, "mlflow.source.git.commit", "a" * 40)
    record(suite, uri, shifted, fresh=True)
    (second,) = set(invocations()) - {first}
    by_invocation = compare(first, second, uri, None, "accuracy")
    assert Change.BETTER is changes(by_invocation)["grid num_clients=3 examples_per_client=20"]
    assert 5 == len(by_invocation.cells)
    by_commit = compare(f"{uri}#{'a' * 12}", second, uri, None, "accuracy")
    assert changes(by_commit) == changes(by_invocation)
    newest = find_results(uri, uri)[0].cells[2].final("accuracy")
    assert newest is not None
    assert pytest.approx(0.861) == newest.mean


def test_a_folder_and_a_file_name_a_store(made: str) -> None:
    file = Path(made.removeprefix("sqlite:///"))
    for text in (str(file), str(file.parent), str(file.parent.parent)):
        assert "made" == find_results(text, "sqlite:////nowhere/mlflow.db")[0].suite.name


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nonsense", "nonsense is no store, invocation or commit"),
        ("--upload-pack=x", "is no store, invocation or commit"),
        ("0123456789abcdef", "has no finished runs in"),
        ("20200101T000000Z-abcd", "has no finished runs in"),
        ("/", "has no mlflow.db"),
    ],
)
def test_what_names_nothing_is_one_line_that_says_what_to_do(made: str, text: str, line: str) -> None:
    with pytest.raises(StoreError, match=line) as error:
        find_results(text, made)
    assert "\n" not in str(error.value)


def test_stores_without_a_common_cell_are_one_line(made: str, tmp_path: Path) -> None:
    text = "name: made\nquestion: Why?\nseeds: [0]\nscenarios: [{name: unlike, rounds: 1}]\n"
    record(made_suite(tmp_path, text), address(tmp_path))
    with pytest.raises(StoreError, match="have no cell with accuracy in common"):
        compare(made, address(tmp_path), None, None, "accuracy")
    with pytest.raises(StoreError, match="have no cell with nonsense in common"):
        compare(made, made, None, None, "nonsense")


def test_a_password_in_an_address_is_not_shown(made: str) -> None:
    with pytest.raises(StoreError) as error:
        find_results("postgresql://me:secret@127.0.0.1:1/runs", made)
    assert "secret" not in str(error.value)
