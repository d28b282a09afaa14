"""One run computed: its events, its numbers, and how it ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from fedbench import simulation
from fedbench.core import evaluate
from fedbench.core.fedavg import select_clients
from fedbench.datasets import Dataset, load_dataset
from fedbench.measures import Verdict
from fedbench.models import build_model
from fedbench.simulation import RoundDone, RunDone, Started, client_data, simulate, unmet_requirement
from fedbench.specs import CellSpec, RunSpec

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}


def make_run(seed: int = 0, **fields: Any) -> RunSpec:
    return RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**(TINY | fields)), seed=seed)


def done(run: RunSpec, dataset: Dataset) -> RunDone:
    *_, event = simulate(run, dataset)
    assert isinstance(event, RunDone)
    return event


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("mnist-5k")


def test_a_run_starts_ends_each_round_in_order_and_is_done(dataset: Dataset) -> None:
    run = make_run(rounds=3)
    events = list(simulate(run, dataset))
    assert [Started, RoundDone, RoundDone, RoundDone, RunDone] == [type(event) for event in events]
    assert [1, 2, 3] == [event.round for event in events if isinstance(event, RoundDone)]
    assert all(run is event.run for event in events)


def test_the_result_has_the_last_rounds_metrics(dataset: Dataset) -> None:
    *_, last_round, end = simulate(make_run(), dataset)
    assert isinstance(last_round, RoundDone)
    assert isinstance(end, RunDone)
    assert {"accuracy", "balanced_accuracy", "loss", "majority_rate", "train_loss"} == set(last_round.metrics)
    assert last_round.metrics == end.result.metrics


def test_the_state_is_the_final_model_and_scores_what_the_result_says(dataset: Dataset) -> None:
    end = done(make_run(), dataset)
    assert end.state is not None
    model = build_model("simple-cnn")
    model.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in end.state.items()})
    evaluation = evaluate(model, dataset.normalise(dataset.test_images), dataset.test_labels)
    assert evaluation.accuracy == end.result.metrics["accuracy"]
    assert 0.1 == end.result.metrics["majority_rate"]  # 100 test images of each of ten classes
    assert pytest.approx(evaluation.loss, abs=1e-6) == end.result.metrics["loss"]


def test_the_result_has_the_accuracy_of_each_clients_own_model(dataset: Dataset) -> None:
    end = done(make_run(num_clients=3, rounds=1, learning_rate=0.2, examples_per_client=50, local_epochs=5), dataset)
    assert [0, 1, 2] == list(end.result.client_accuracy)
    assert len(set(end.result.client_accuracy.values())) > 1
    assert all(0 <= value <= 1 for value in end.result.client_accuracy.values())


def test_one_clients_own_model_is_the_average(dataset: Dataset) -> None:
    end = done(make_run(num_clients=1), dataset)
    assert {0: end.result.metrics["accuracy"]} == end.result.client_accuracy


def test_more_than_twenty_clients_a_round_are_not_measured_one_by_one(dataset: Dataset) -> None:
    many = {"examples_per_client": 2, "rounds": 1}
    assert {} == done(make_run(num_clients=21, **many), dataset).result.client_accuracy
    few = done(make_run(num_clients=21, client_fraction=0.5, **many), dataset)
    assert select_clients(0, 1, 21, 10) == list(few.result.client_accuracy)  # by the clients' own numbers


def test_clients_have_the_examples_of_the_partition_normalised(dataset: Dataset) -> None:
    first, second = client_data(make_run(), dataset, torch.device("cpu"))
    assert torch.equal(dataset.train_labels[20:40], second.labels)
    assert torch.equal(dataset.normalise(dataset.train_images[:20]), first.inputs)
    assert pytest.approx((0 - 0.1307) / 0.3081, abs=1e-6) == first.inputs.min().item()


def test_the_partition_has_its_own_stream_of_the_seed(dataset: Dataset) -> None:
    def labels(**fields: Any) -> list[int]:
        return client_data(make_run(partition="iid", **fields), dataset, torch.device("cpu"))[0].labels.tolist()

    assert labels() == labels(learning_rate=0.5, init="independent")
    assert labels() != labels(seed=1)


def test_a_run_that_learned_nothing_has_collapsed(dataset: Dataset) -> None:
    end = done(make_run(learning_rate=1e-6), dataset)
    assert Verdict.COLLAPSED is end.result.verdict
    assert "predicts class" in (end.result.reason or "") or "majority rate 10.0%" in (end.result.reason or "")


def test_an_absurd_learning_rate_diverges_and_stops_early(dataset: Dataset) -> None:
    events = list(simulate(make_run(learning_rate=1e30, rounds=50), dataset))
    end = events[-1]
    assert isinstance(end, RunDone)
    assert (Verdict.DIVERGED, "the loss is not finite") == (end.result.verdict, end.result.reason)
    assert not math.isfinite(end.result.metrics["loss"])
    assert len(events) < 10
    assert {} == end.result.client_accuracy


def test_an_accuracy_below_the_required_is_a_failure_with_both_numbers(dataset: Dataset) -> None:
    end = done(make_run(require_accuracy=1.0), dataset)
    assert Verdict.FAILED is end.result.verdict
    assert f"accuracy {end.result.metrics['accuracy']:.1%} is below the required 100.0%" == end.result.reason
    assert end.state is not None  # the model is there to be looked at


@pytest.mark.parametrize(
    ("fields", "history", "reason"),
    [
        ({}, [(0.1, 2.0), (0.0, 9.0)], None),
        ({"require_accuracy": 0.5}, [(0.9, 1.0), (0.5, 1.0)], None),
        ({"require_accuracy": 0.5}, [(0.9, 1.0), (0.4, 1.0)], "accuracy 40.0% is below the required 50.0%"),
        ({"require_loss_fall": True}, [(0.1, 2.0), (0.1, 3.0), (0.1, 1.9)], None),
        (
            {"require_loss_fall": True},
            [(0.1, 2.0), (0.1, 1.0), (0.1, 2.0)],
            "the training loss did not fall: 2.000 at first, 2.000 at last",
        ),
        (
            {"require_loss_fall": True},
            [(0.1, 2.0), (0.1, math.nan)],
            "the training loss did not fall: 2.000 at first, nan at last",
        ),
    ],
)
def test_what_a_scenario_requires(
    fields: dict[str, Any], history: list[tuple[float, float]], reason: str | None
) -> None:
    rounds = [{"accuracy": accuracy, "train_loss": loss} for accuracy, loss in history]
    assert reason == unmet_requirement(CellSpec(**fields), rounds)


def test_an_error_in_the_model_is_a_failed_run_with_its_reason_in_one_line(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise RuntimeError(f"cannot\nbuild {name}")

    monkeypatch.setattr(simulation, "build_model", broken)
    started, end = simulate(make_run(), dataset)
    assert isinstance(started, Started)
    assert isinstance(end, RunDone)
    assert (Verdict.FAILED, "RuntimeError: cannot build simple-cnn") == (end.result.verdict, end.result.reason)
    assert ({}, None) == (end.result.metrics, end.state)


def test_an_interruption_is_not_a_failed_run(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        del name
        raise KeyboardInterrupt

    monkeypatch.setattr(simulation, "build_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(simulate(make_run(), dataset))


def test_a_run_has_the_same_bits_each_time(dataset: Dataset) -> None:
    first, second = (done(make_run(seed=3, init="independent"), dataset) for _ in range(2))
    assert first.result == second.result
    assert first.state is not None
    assert second.state is not None
    assert all(np.array_equal(first.state[name], second.state[name]) for name in first.state)
    assert first.result.metrics != done(make_run(seed=4, init="independent"), dataset).result.metrics
