"""Each partition: who gets what, at its extremes too, and what is said where it cannot be dealt."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedbench.components import find
from fedbench.datasets import Dataset, load_dataset
from fedbench.measures import Verdict
from fedbench.partitions import PARTITIONS, Partition, TrainingTable
from fedbench.partitions.proportions import divide, proportions
from fedbench.partitions.table import PartitionTable, class_counts, label_skew, parse_partition
from fedbench.runs.clients import clients_of, partition_table
from fedbench.runs.events import Job, RunDone
from fedbench.runs.simulation import simulate
from fedbench.suites.schema import CellSpec, RunSpec
from fedbench.util.errors import PartitionError

LABELS = np.random.default_rng(1).integers(0, 10, 6_000)


def deal(
    name: str, clients: int, examples: int, seed: int = 0, table: TrainingTable | None = None, **options: Any
) -> Any:
    table = table or TrainingTable(LABELS, 10)
    return find("partition", name).make(**options).deal(table, clients, examples, np.random.default_rng(seed))


@pytest.mark.parametrize("name", PARTITIONS)
def test_every_partition_deals_parts_of_the_wanted_size_which_are_disjoint_if_they_do_not_overlap(name: str) -> None:
    groups = np.array(list("abcd" * 10 + "abcdefghij"))
    table = TrainingTable(np.arange(50) % 5, 5, {"group": groups})
    own = {"quantity-skew": {"partition_sigma": 1.0}, "by-column": {"partition_column": "group"}}
    partition: Partition = find("partition", name).make(**own.get(name, {}))
    parts = partition.deal(table, 4, 10, np.random.default_rng(0))
    sizes = [len(set(part.tolist())) for part in parts]
    assert [len(part) for part in parts] == sizes
    assert not partition.is_equal or sizes == [10] * 4
    dealt = np.concatenate(list(parts))
    total = 44 if name == "by-column" else 40  # its groups are as large as they are
    assert total == sum(sizes)
    assert (total == len(set(dealt.tolist()))) != partition.is_overlapping
    assert set(dealt.tolist()) <= set(range(50))


def counts(parts: Any) -> NDArray[np.int64]:
    return class_counts(parts, LABELS, 10)


def skew(parts: Any) -> float:
    found = label_skew(counts(parts))
    assert found is not None
    return found


def assert_each_once(parts: Any, total: int) -> None:
    dealt = np.concatenate(list(parts))
    assert total == len(dealt) == len(np.unique(dealt))


# Shards


def test_shards_are_blocks_of_one_label_or_two_neighbouring_ones() -> None:
    parts = deal("shards", 20, 300, shards_per_client=2)
    assert_each_once(parts, 6_000)
    shards = [LABELS[shard] for part in parts for shard in np.split(part, 2)]
    assert 40 == len(shards)
    assert all(shard.max() - shard.min() <= 1 for shard in shards)
    assert 9 >= sum(len(set(shard.tolist())) > 1 for shard in shards)  # nine borders of ten labels


def test_one_shard_a_client_has_one_label_and_as_many_as_examples_are_iid() -> None:
    assert 0.8 < skew(deal("shards", 20, 300, shards_per_client=1))
    assert 0.1 > skew(deal("shards", 20, 300, shards_per_client=300))


def test_shards_of_a_part_of_the_data_are_of_a_random_part() -> None:
    one, other = (deal("shards", 10, 100, seed=seed, shards_per_client=2) for seed in (0, 1))
    assert_each_once(one, 1_000)
    assert len(np.intersect1d(one, other)) < 300  # about a sixth of 1,000
    assert np.array_equal(one, deal("shards", 10, 100, shards_per_client=2))


def test_shards_that_do_not_divide_are_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="the 25 examples of a client do not divide into 2 equal parts; set examples"):
        CellSpec(partition="shards", examples_per_client=25)


# Dirichlet


@pytest.mark.parametrize("alpha", [1e-6, 0.01, 0.5, 100.0, 1e6])
def test_dirichlet_deals_each_example_once(alpha: float) -> None:
    parts = deal("dirichlet", 20, 300, partition_alpha=alpha)
    assert 20 == len(parts)
    assert_each_once(parts, 6_000)
    assert all(
        np.array_equal(*pair) for pair in zip(parts, deal("dirichlet", 20, 300, partition_alpha=alpha), strict=True)
    )


def test_a_small_alpha_gives_each_class_to_one_client_and_a_large_one_to_all_alike() -> None:
    skewed, even = (deal("dirichlet", 20, 300, partition_alpha=alpha) for alpha in (1e-6, 1e6))
    assert [1] * 10 == [int((of_class > 0).sum()) for of_class in counts(skewed).T]
    assert 2 > np.ptp(counts(even), axis=0).max()
    assert skew(even) < 0.01 < 0.5 < skew(skewed)


def test_the_skew_falls_with_alpha() -> None:
    skews = [skew(deal("dirichlet", 20, 300, partition_alpha=alpha)) for alpha in (0.05, 0.5, 5.0)]
    assert sorted(skews, reverse=True) == skews


def test_proportions_have_the_mean_and_the_variance_of_the_distribution() -> None:
    """Of Dirichlet(a, …, a) over n: mean 1/n, variance (n − 1) / (n² (n a + 1)); also where a float would underflow."""
    for alpha in (0.2, 3.0):
        rng = np.random.default_rng(0)
        drawn = np.stack([proportions(4, alpha, rng) for _ in range(4_000)])
        assert np.allclose(1, drawn.sum(axis=1))
        assert pytest.approx(0.25, abs=0.02) == drawn[:, 0].mean()
        assert pytest.approx(3 / (16 * (4 * alpha + 1)), rel=0.1) == drawn[:, 0].var()
    tiny = proportions(100, 1e-6, np.random.default_rng(0))
    assert pytest.approx(1) == tiny.max()
    assert np.isfinite(tiny).all()


def test_a_whole_is_divided_up_to_rounding() -> None:
    parts = divide(np.arange(10), np.array([0.26, 0.0, 0.5, 0.24]))
    assert [[0, 1, 2], [], [3, 4, 5, 6, 7], [8, 9]] == [part.tolist() for part in parts]


# Quantity skew


@pytest.mark.parametrize("options", [{"partition_sigma": 1.5}, {"partition_alpha": 0.3}])
def test_quantity_skew_has_unequal_sizes_but_the_labels_of_all(options: dict[str, float]) -> None:
    parts = deal("quantity-skew", 5, 1_200, **options)
    assert_each_once(parts, 6_000)
    sizes = sorted(len(part) for part in parts)
    assert sizes[-1] > 3 * sizes[0]
    assert skew([part for part in parts if len(part) > 200]) < 0.1


def test_the_logarithms_of_log_normal_sizes_have_their_standard_deviation() -> None:
    table = TrainingTable(np.zeros(2_000_000, dtype=np.int64), 1)
    parts = deal("quantity-skew", 1_000, 2_000, table=table, partition_sigma=0.5)
    assert pytest.approx(0.5, rel=0.1) == np.log([len(part) for part in parts]).std()


@pytest.mark.parametrize("options", [{}, {"partition_alpha": 1.0, "partition_sigma": 1.0}])
def test_quantity_skew_needs_one_of_its_two_options(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="set partition_sigma for log-normal sizes, or partition_alpha for Dirichlet"):
        CellSpec(partition="quantity-skew", **options)


# By column

PLACES = np.array(["arm", "back", "arm", "leg", "back", "arm", ""])


def by_column(clients: int, column: str = "place", **columns: NDArray[np.str_]) -> list[list[int]]:
    there = columns or {"place": PLACES[:-1]}
    table = TrainingTable(np.zeros(len(next(iter(there.values()))), dtype=np.int64), 1, there)
    return [part.tolist() for part in deal("by-column", clients, 1, table=table, partition_column=column)]


def test_the_clients_are_the_largest_groups_with_all_their_examples() -> None:
    assert [[0, 2, 5], [1, 4], [3]] == by_column(3)
    assert [[0, 2, 5], [1, 4]] == by_column(2)
    assert [[1], [0]] == by_column(2, place=np.array(["b", "a", "c"]))[:2]  # equal ones by name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, "palce"), "by-column: there is no column palce: choose from place"),
        ((4,), "place has 3 values, too few for 4 clients: set num_clients to 3 or fewer"),
    ],
)
def test_what_cannot_be_dealt_by_a_column_is_said_in_one_line(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(PartitionError) as caught:
        by_column(*arguments)
    assert message in str(caught.value)


def test_missing_values_and_missing_metadata_are_said_in_one_line() -> None:
    with pytest.raises(PartitionError, match="1 of 7 training examples have no place: choose a column without missing"):
        by_column(2, place=PLACES)
    with pytest.raises(PartitionError, match="there is no column place: this dataset has no metadata"):
        deal("by-column", 2, 1, partition_column="place")


def test_by_column_needs_its_column_and_takes_no_sizes() -> None:
    with pytest.raises(
        ValueError, match=r"partition by-column needs partition_column \(The column of metadata .*\); set it"
    ):
        CellSpec(partition="by-column")
    with pytest.raises(ValueError, match="leave examples_per_client out"):
        CellSpec(partition="by-column", partition_column="age", examples_per_client=3)


# Options in a suite


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"partition": "iid", "partition_alpha": 0.5},
            "iid does not read it; leave it out, or set partition to dirichlet or quantity-skew",
        ),
        (
            {"algorithm": "fedprox", "server_momentum": 0.5},
            "fedprox does not read it; leave it out, or set algorithm to fedavgm, fedadam or fedyogi",
        ),
        ({"partition": "dirichlet", "partition_alpha": 0}, "greater than or equal to 0.000001"),
        ({"partition": "dirichlet", "partition_alpha": -1.0}, "greater than or equal to 0.000001"),
        ({"algorithm": "fedavgm", "server_momentum": 1}, "less than 1"),
        ({"algorithm": "fedadm"}, "unknown algorithm 'fedadm'; did you mean fedadam?"),
        ({"stop_at_target": True}, "stop_at_target: there is no target; set target_accuracy"),
        ({"interpolation_set": "train"}, "interpolation_set: nothing is interpolated"),
    ],
)
def test_an_option_that_nothing_reads_or_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        CellSpec(**fields)


def test_options_have_the_defaults_of_what_reads_them() -> None:
    assert 0.5 == CellSpec(partition="dirichlet").get("partition_alpha")
    assert 2 == CellSpec(partition="shards", examples_per_client=10).get("shards_per_client")
    assert 0.9 == CellSpec(algorithm="fedavgm").get("server_momentum")
    assert CellSpec().get("server_momentum") is None


# Skew and clients without examples


def test_label_skew_is_the_mean_total_variation_distance() -> None:
    # Together (4, 4): half and half. The clients have (1, 0), (1/3, 2/3) and (1/3, 2/3): distances 1/2, 1/6, 1/6.
    assert pytest.approx((1 / 2 + 1 / 6 + 1 / 6) / 3) == label_skew(np.array([[2, 0], [1, 2], [1, 2]]))
    # A client without examples does not count.
    assert pytest.approx(0.5) == label_skew(np.array([[4, 0], [0, 4], [0, 0]]))
    assert 0.0 == label_skew(np.array([[1, 2], [2, 4]]))
    assert label_skew(np.zeros((3, 2), dtype=np.int64)) is None


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("mnist-5k")


def test_clients_without_examples_take_no_part_and_are_named(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    fields = {"partition": "dirichlet", "partition_alpha": 0.01, "num_clients": 50, "examples_per_client": 100}
    spec = CellSpec(**fields, client_fraction=0.1, local_epochs=1, rounds=1)
    run = RunSpec(suite="s", scenario="a", cell="a", spec=spec, seed=0)
    with caplog.at_level(logging.WARNING, logger="fedbench"):
        clients = clients_of(run, dataset, torch.device("cpu"))
        assert [] == caplog.records  # a run says it, not each trial of a search
        *_, end = simulate(Job(run), dataset)
    assert isinstance(end, RunDone)
    assert end.result.verdict is not Verdict.FAILED
    assert 50 == len(clients)
    assert list(clients.participants) == [k for k in range(50) if len(clients[k])]
    idle = [k for k in range(50) if not len(clients[k])]
    assert 10 < len(idle) < 50
    named = ", ".join(map(str, idle[:10]))
    expected = f"fedbench: a seed=0: {len(idle)} of 50 clients have no examples and take no part: {named} and others"
    expected += "; a larger partition_alpha leaves fewer"
    assert [expected] == [record.getMessage() for record in caplog.records]


def test_who_has_what_is_counted_for_the_first_clients(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedbench.runs.clients.MAX_COUNTED", 3)
    run = RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(num_clients=5, examples_per_client=100), seed=0)
    found = partition_table(run, dataset).counts
    assert (3, 10) == found.shape
    assert [100] * 3 == found.sum(axis=1).tolist()
    assert np.bincount(dataset.train_labels[:100], minlength=10).tolist() == found[0].tolist()


def test_few_of_very_many_clients_are_counted_and_without_the_others_being_dealt(dataset: Dataset) -> None:
    spec = CellSpec(partition="overlapping", num_clients=1_000_000, examples_per_client=10)
    found = partition_table(RunSpec(suite="s", scenario="a", cell="a", spec=spec, seed=0), dataset).counts
    assert [10] * 1_000 == found.sum(axis=1).tolist()


def test_clients_that_are_groups_have_their_names(dataset: Dataset) -> None:
    even = np.where(dataset.train_labels.numpy() % 2, "odd", "even").astype("<U5")
    even[dataset.train_labels.numpy() > 7] = "large"
    spec = CellSpec(partition="by-column", partition_column="size", num_clients=3)
    run = RunSpec(suite="s", scenario="a", cell="a", spec=spec, seed=0)
    table = partition_table(run, replace(dataset, train_columns={"size": even}))
    assert {"odd", "even", "large"} == set(table.clients)
    assert [0, 1] == np.flatnonzero(table.counts[table.clients.index("large")] == 0)[:2].tolist()
    assert 0 == table.counts[table.clients.index("odd")][::2].sum()


def test_the_table_of_who_has_what_is_read_as_it_was_written() -> None:
    counts = np.array([[2, 0], [0, 0], [1, 30]])
    text = PartitionTable(["at, home", "1", "2"], ["a cat, black", "dog"], counts).csv()
    assert 'client,"a cat, black",dog,num_examples\n"at, home",2,0,2\n1,0,0,0\n2,1,30,31\n' == text
    found = parse_partition(text)
    assert (["at, home", "1", "2"], ["a cat, black", "dog"]) == (found.clients, found.class_names)
    assert counts.tolist() == found.counts.tolist()
    for wrong in ("true class,cat,dog\ncat,1,2\n", "client,cat,num_examples\n"):
        with pytest.raises(ValueError, match="this is no table of"):
            parse_partition(wrong)
