"""What is measured of runs whose models are aligned, compared with runs of the mean that train the same models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedbench.datasets import Dataset, load_dataset
from fedbench.measures import RunResult, barrier
from fedbench.runs import simulation
from fedbench.runs.checkpoints import Checkpoint
from fedbench.runs.events import Job, RunDone
from fedbench.runs.simulation import simulate
from fedbench.suites.schema import CellSpec, RunSpec

PAIR: dict[str, Any] = {"examples_per_client": 300, "local_epochs": 10, "learning_rate": 0.1}
PAIR |= {"init": "independent", "rounds": 1, "interpolation": True}
ALIGNED = {"aggregation": "aligned", "align_by": "activations", "repair": True}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("mnist-5k")


def ended(dataset: Dataset, **fields: Any) -> tuple[RunResult, Checkpoint]:
    spec = CellSpec(**(PAIR | fields))
    *_, event = simulate(Job(RunSpec(suite="s", scenario="a", cell="a", spec=spec, seed=0)), dataset)
    assert isinstance(event, RunDone)
    assert event.final is not None, event.result.reason
    return event.result, event.final


@pytest.fixture(scope="module")
def mean(dataset: Dataset) -> tuple[RunResult, Checkpoint]:
    return ended(dataset)


@pytest.fixture(scope="module")
def aligned(dataset: Dataset) -> tuple[RunResult, Checkpoint]:
    return ended(dataset, **ALIGNED)


def test_the_plain_average_of_an_aligned_run_is_the_average_of_a_run_of_the_mean(
    mean: tuple[RunResult, Checkpoint], aligned: tuple[RunResult, Checkpoint]
) -> None:
    plain, found = mean[0].metrics, aligned[0].metrics
    assert mean[0].client_accuracy == aligned[0].client_accuracy
    assert (plain["accuracy"], plain["averaging_gain"]) == (found["plain_accuracy"], found["plain_gain"])
    gap = -found["plain_gain"]
    assert gap > 0.1
    assert pytest.approx((found["accuracy"] - found["plain_accuracy"]) / gap) == found["recovered"]
    assert found["recovered"] > 0.5
    assert not {"plain_accuracy", "plain_gain", "recovered", "plain_barrier"} & plain.keys()


def test_drift_is_that_of_the_models_as_they_were_averaged(dataset: Dataset) -> None:
    """Two models of equal weight are equally far from their mean, and nearer to it than without the alignment."""
    fields: dict[str, Any] = {"examples_per_client": 50, "local_epochs": 1, "interpolation": False}
    plain, found = (ended(dataset, aggregation=rule, **fields)[0].metrics for rule in ("mean", "aligned"))
    assert pytest.approx(found["client_drift/0"], rel=1e-5) == found["client_drift/1"]
    assert found["client_drift"] < plain["client_drift"]


def test_unequal_clients_count_in_the_plain_average_as_in_the_mean(dataset: Dataset) -> None:
    fields: dict[str, Any] = {"partition": "quantity-skew", "partition_sigma": 1.0, "examples_per_client": 100}
    fields |= {"num_clients": 3, "local_epochs": 2, "interpolation": False}
    for weights in ("examples", "uniform"):
        plain = ended(dataset, weights=weights, **fields)[0].metrics
        found = ended(dataset, weights=weights, aggregation="aligned", **fields)[0].metrics
        assert plain["accuracy"] == found["plain_accuracy"]
        assert plain["averaging_gain"] == found["plain_gain"]


def test_from_a_shared_start_there_is_no_gap_to_recover(dataset: Dataset) -> None:
    found = ended(dataset, init="shared", interpolation=False, aggregation="aligned")[0].metrics
    assert found["plain_gain"] > -0.05
    assert "recovered" not in found


def test_aligned_clients_whose_own_models_are_not_measured_have_no_plain_average(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "MAX_CLIENTS_MEASURED", 1)
    fields: dict[str, Any] = {"examples_per_client": 20, "local_epochs": 1, "interpolation": False}
    assert "plain_accuracy" not in ended(dataset, aggregation="aligned", **fields)[0].metrics


def test_the_plain_line_is_that_of_a_run_of_the_mean_and_the_others_have_its_ends(
    mean: tuple[RunResult, Checkpoint], aligned: tuple[RunResult, Checkpoint]
) -> None:
    before = {theta: (loss, accuracy) for theta, loss, accuracy in mean[1].interpolation}
    lines = {"": aligned[1].interpolation, **aligned[1].lines}
    assert {"", "plain_", "repaired_"} == set(lines)
    by_theta = {name: {theta: (loss, right) for theta, loss, right in line} for name, line in lines.items()}
    plain = by_theta["plain_"]
    assert [step / 10 for step in range(11)] == list(plain)
    assert {theta: before[theta] for theta in plain} == plain
    for name in ("", "repaired_"):
        for end in (0.0, 1.0):
            assert pytest.approx(plain[end], rel=1e-3) == by_theta[name][end]
    heights = [aligned[0].metrics[f"{name}barrier"] for name in lines]
    assert [barrier(line) for line in lines.values()] == heights
    assert heights[0] < 0.5 * heights[1]
    middle = aligned[0].metrics["accuracy"], aligned[0].metrics["loss"]
    assert pytest.approx(middle, rel=1e-2) == tuple(reversed(by_theta["repaired_"][0.5]))  # the average itself


def test_without_repair_there_is_no_repaired_line(dataset: Dataset) -> None:
    result, final = ended(dataset, **ALIGNED | {"repair": False})
    assert {"plain_"} == set(final.lines)
    assert "repaired_barrier" not in result.metrics


def test_units_are_more_alike_after_they_were_put_into_one_order(aligned: tuple[RunResult, Checkpoint]) -> None:
    sizes = {"conv1": 10, "conv2": 20, "fc1": 50}
    assert list(sizes) == list(aligned[1].correlations)
    for layer, found in aligned[1].correlations.items():
        before, after = (found[when].numpy() for when in ("before", "after"))
        assert (sizes[layer], sizes[layer]) == before.shape == after.shape
        assert pytest.approx(np.sort(before.max(axis=1)), abs=1e-6) == np.sort(after.max(axis=1))  # the same pairs
        assert np.abs(before).max() <= 1 + 1e-6
        assert np.diagonal(after).mean() > np.diagonal(before).mean() + 0.2
