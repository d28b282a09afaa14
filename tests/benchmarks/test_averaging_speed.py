"""The server's average. What must be moved is one reading of every client's model."""

from __future__ import annotations

from itertools import cycle, islice

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from work import MODEL, num_bytes

from fedbench.core import ModelState, WeightedMean, average_model_parameters
from fedbench.models import build_model

PARAMETERS = {"simple-cnn": 21_840, "paper-cnn": 1_663_370, "resnet50": 25_557_032}
MEMORY = 64 << 20  # bytes of states of which a large model's clients are made, over and over
CASES = [  # model, clients, timing rounds
    ("simple-cnn", 10, 300),
    ("simple-cnn", 100, 100),
    ("paper-cnn", 2, 100),
    ("paper-cnn", 10, 40),
    ("paper-cnn", 100, 10),
    ("resnet50", 2, 15),
    ("resnet50", 10, 7),
]


@pytest.mark.benchmark(group="averaging")
@pytest.mark.parametrize(("model", "num_clients", "rounds"), CASES, ids=[f"{model}-{k}" for model, k, _ in CASES])
def test_weighted_average(benchmark: BenchmarkFixture, model: str, num_clients: int, rounds: int) -> None:
    size = PARAMETERS[model]
    distinct = min(max(MEMORY // (4 * size), 2), num_clients)  # more than the caches hold, where that can be
    states = [ModelState(torch.full((size,), float(index))) for index in range(distinct)]

    def average_clients() -> ModelState:
        mean = WeightedMean()
        for state in islice(cycle(states), num_clients):
            mean.add(state, 1 / num_clients)
        return mean.state()

    benchmark.extra_info["bytes"] = num_clients * num_bytes(states[0].vector)
    average = benchmark.pedantic(average_clients, rounds=rounds, warmup_rounds=2)
    expected = sum(index % distinct for index in range(num_clients)) / num_clients
    assert expected == pytest.approx(average.vector[0].item())


@pytest.mark.benchmark(group="averaging")
@pytest.mark.parametrize("num_clients", [10, 100])
def test_average_model_parameters(benchmark: BenchmarkFixture, num_clients: int) -> None:
    models = [build_model(MODEL) for _ in range(num_clients)]
    benchmark.extra_info["bytes"] = num_clients * sum(map(num_bytes, models[0].parameters()))
    benchmark.pedantic(
        average_model_parameters, args=(models, [1.0] * num_clients), rounds=1000 // num_clients, warmup_rounds=2
    )
