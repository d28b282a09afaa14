"""The clients of a run: which examples they have, and that those who are not selected cost nothing."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest
import torch

from fedbench.core import Client
from fedbench.datasets import Dataset, load_dataset
from fedbench.measures import Verdict
from fedbench.runs.clients import clients_of
from fedbench.runs.events import Job, RunDone
from fedbench.runs.simulation import simulate
from fedbench.suites.schema import CellSpec, RunSpec

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}
CPU = torch.device("cpu")


def make_run(seed: int = 0, **fields: Any) -> RunSpec:
    return RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**(TINY | fields)), seed=seed)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("mnist-5k")


def test_clients_have_the_examples_of_the_partition_normalised(dataset: Dataset) -> None:
    first, second = clients_of(make_run(), dataset, CPU)
    assert torch.equal(dataset.train_labels[20:40], second.labels)
    assert torch.equal(dataset.normalise(dataset.train_images[:20]), first.inputs)
    assert pytest.approx((0 - 0.1307) / 0.3081, abs=1e-6) == first.inputs.min().item()


def test_the_partition_has_its_own_stream_of_the_seed(dataset: Dataset) -> None:
    def labels(**fields: Any) -> list[int]:
        return clients_of(make_run(partition="iid", **fields), dataset, CPU)[0].labels.tolist()

    assert labels() == labels(learning_rate=0.5, init="independent")
    assert labels() != labels(seed=1)


def test_clients_who_share_examples_have_each_of_them_once_and_the_same_whoever_asks(dataset: Dataset) -> None:
    def clients() -> list[Client]:
        return list(
            clients_of(make_run(partition="overlapping", num_clients=300, examples_per_client=100), dataset, CPU)
        )

    images = [client.inputs.flatten(1) for client in clients()[:3]]
    assert [100] * 3 == [len(torch.unique(each, dim=0)) for each in images]
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images[2], clients()[2].inputs.flatten(1))


def test_public_inputs_are_the_last_training_examples_that_no_client_holds(dataset: Dataset) -> None:
    def images(*positions: int) -> torch.Tensor:
        return dataset.normalise(dataset.train_images[list(positions)])

    clients = clients_of(make_run(), dataset, CPU)
    assert torch.equal(images(3997, 3998, 3999), clients.public_inputs(3))
    assert (0, 1, 28, 28) == clients.public_inputs(0).shape
    shuffled = clients_of(make_run(partition="iid", examples_per_client=1990), dataset, CPU)
    held = {int(index) for part in shuffled.parts for index in part}
    left = [index for index in range(4000) if index not in held]
    assert 20 == len(left)
    assert torch.equal(images(*left[-5:]), shuffled.public_inputs(5))
    with pytest.raises(
        ValueError, match="clients hold all but 20 of 4000 training examples, but 21 must be public; lower"
    ):
        shuffled.public_inputs(21)


def test_a_client_that_is_not_there_is_an_index_error(dataset: Dataset) -> None:
    with pytest.raises(IndexError, match="client 2 of 2"):
        clients_of(make_run(partition="overlapping"), dataset, CPU)[2]


def test_a_hundred_thousand_clients_take_the_memory_and_the_time_of_those_who_are_selected(dataset: Dataset) -> None:
    """Measured against a thousand clients of whom as many are selected."""

    def cost(num_clients: int) -> tuple[int, float]:
        fields = {"num_clients": num_clients, "client_fraction": 10 / num_clients, "rounds": 3}
        run = make_run(partition="overlapping", **fields)
        tracemalloc.start()  # NumPy's memory is traced, PyTorch's is that of the selected clients' images
        started = time.perf_counter()
        *_, end = simulate(Job(run), dataset)
        seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert isinstance(end, RunDone)
        assert end.result.verdict is not Verdict.FAILED
        assert 10 == len([name for name in end.result.metrics if name.startswith("client_drift/")])
        return peak, seconds

    cost(1000)  # imports and the like
    (small, quick), (large, slow) = cost(1000), cost(100_000)
    assert large < small + 2e6  # bytes
    assert slow < 3 * quick + 1
