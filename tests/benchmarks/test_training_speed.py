"""Training and evaluation of simple-cnn. The FLOPs are those of the plain module's passes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from work import BATCH_SIZE, LEARNING_RATE, MODEL, flat_model, forward_flops, images, training_flops

from fedbench.core import evaluate, fedavg
from fedbench.core.client import client_update
from fedbench.models import build_model


def time_client_update(
    benchmark: BenchmarkFixture, num_images: int, rounds: int, name: str = MODEL, batch_size: int = BATCH_SIZE
) -> None:
    """Time one epoch of minibatch SGD, from the same model each time."""
    model, data = flat_model(name), images(num_images)
    start = model.state()

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        model.load(start)
        return (model, data, 1, batch_size, LEARNING_RATE, torch.Generator().manual_seed(0)), {}

    benchmark.extra_info["flops"] = training_flops(num_images, name)
    loss = benchmark.pedantic(client_update, setup=setup, rounds=rounds, warmup_rounds=5)
    assert loss > 0


def test_the_flops_are_those_of_the_convolutions_and_dense_layers_forward_and_backward() -> None:
    conv1, conv2 = 2 * 25 * 1 * 10 * 24**2, 2 * 25 * 10 * 20 * 8**2  # 5x5 kernels, a multiplication and an addition
    dense = 2 * 320 * 50 + 2 * 50 * 10
    forward = conv1 + conv2 + dense
    backward = conv1 + 2 * (conv2 + dense)  # the images themselves need no gradient
    assert 50 * (forward + backward) == training_flops(50) == 129_750_000
    assert 10_000 * forward == forward_flops(10_000)


@pytest.mark.benchmark(group="training")
def test_training_step(benchmark: BenchmarkFixture) -> None:
    """An update of one batch: one step, with what surrounds it."""
    time_client_update(benchmark, BATCH_SIZE, rounds=300)


@pytest.mark.benchmark(group="training")
def test_client_update(benchmark: BenchmarkFixture) -> None:
    time_client_update(benchmark, 500, rounds=50)


@pytest.mark.benchmark(group="training")
@pytest.mark.parametrize(("model", "batch_size"), [("2nn", 10), ("2nn", 600), ("cnn", 10), ("cnn", 50)])
def test_client_update_of_the_papers(benchmark: BenchmarkFixture, model: str, batch_size: int) -> None:
    """A client with 600 images as in the paper; with 150, the CNN's steps being long."""
    time_client_update(benchmark, 150 if model == "cnn" else 600, rounds=10, name=model, batch_size=batch_size)


@pytest.mark.benchmark(group="training")
def test_round(benchmark: BenchmarkFixture) -> None:
    """Ten clients train on 100 images each, one epoch, and are averaged."""
    clients = [images(100, seed) for seed in range(10)]
    rounds = fedavg(
        partial(build_model, MODEL),
        clients,
        rounds=1_000_000,  # as many as are asked for
        local_epochs=1,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
    )
    benchmark.extra_info["flops"] = training_flops(1_000)
    result = benchmark.pedantic(next, args=(rounds,), rounds=30, warmup_rounds=2)
    assert tuple(range(10)) == result.selected_clients


@pytest.mark.benchmark(group="evaluation")
def test_evaluate(benchmark: BenchmarkFixture) -> None:
    model, data = flat_model().module, images(10_000)
    benchmark.extra_info["flops"] = forward_flops(len(data))
    evaluation = benchmark.pedantic(evaluate, args=(model, data.inputs, data.labels), rounds=15, warmup_rounds=1)
    assert len(data) == evaluation.num_examples
