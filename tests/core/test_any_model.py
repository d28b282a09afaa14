"""Any module can be trained and averaged: with BatchNorm, dropout, tied weights, frozen parameters, one other type."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedbench.aggregations.median import median
from fedbench.core import (
    ClientData,
    ClientUpdate,
    FlatModel,
    Purpose,
    RoundResult,
    ServerState,
    accumulator_of,
    fedavg,
    interpolate,
    model_with,
    numpy_stream,
)
from fedbench.core.client import client_update
from fedbench.optimisers.sgd import SGD
from fedbench.runs.metrics import digest

Build = Callable[[], nn.Module]
OPTIONS: dict[str, Any] = {"local_epochs": 2, "learning_rate": 0.1, "batch_size": 4}


class Tied(nn.Module):
    """Two layers share one weight, which is frozen in neither."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.second(self.first(x)).relu())
        return output


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def dropped() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))


def frozen() -> nn.Module:
    """A frozen layer before a BatchNorm and a layer that is trained."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


class Double(nn.Linear):
    """Parameters of another floating type than its inputs."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(3, 2, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


KINDS = pytest.mark.parametrize("build", [normed, dropped, Tied, frozen, Double, lambda: Double(torch.bfloat16)])


def client(number: int, size: int = 10) -> ClientData:
    stream = torch.Generator().manual_seed(number)
    labels = torch.randint(2, (size,), generator=stream)
    return ClientData(torch.randn(size, 3, generator=stream) + labels[:, None], labels)


CLIENTS = [client(0), client(1, 14), client(2, 6)]


def run(build: Build, rounds: int = 3, **options: Any) -> Iterator[RoundResult]:
    return fedavg(build, CLIENTS, rounds=rounds, **OPTIONS | options)


def last(build: Build, rounds: int = 3, **options: Any) -> RoundResult:
    *_, result = run(build, rounds, **options)
    return result


MORE = {
    "optimiser": SGD(momentum=0.9, weight_decay=0.01, nesterov=True),
    "learning_rate_decay": 0.5,
    "clip_norm": 0.1,
    "augmentation": lambda inputs, generator: inputs + torch.randn(inputs.shape, generator=generator),
    "aggregation": accumulator_of(median),
    "weights": "uniform",
}


@KINDS
@pytest.mark.parametrize("more", [{}, MORE])
def test_the_bits_do_not_depend_on_threads_or_on_an_interruption(build: Build, more: dict[str, Any]) -> None:
    def last(build: Build, rounds: int = 3, **options: Any) -> RoundResult:
        *_, result = run(build, rounds, **more | options)
        return result

    expected = digest(last(build).model)
    assert expected == digest(last(build, num_threads=lambda: 2).model)
    kept = last(build, rounds=1).server
    buffer = io.BytesIO()  # as a checkpoint does it
    torch.save((kept.model.vector, kept.model.counters), buffer)
    buffer.seek(0)
    model = type(kept.model)(*torch.load(buffer, weights_only=True))
    assert expected == digest(last(build, server=ServerState(1, model)).model)


@KINDS
@pytest.mark.parametrize("options", [{"momentum": 0.9, "weight_decay": 0.1}, {}])
def test_the_mean_of_the_clients_models_is_the_servers(build: Build, options: dict[str, Any]) -> None:
    updates: list[ClientUpdate] = []
    (result,) = run(build, rounds=1, observe=updates.append, optimiser=SGD(**options))
    models = [model_with(update.state, like=result.model) for update in updates]
    for name, parameter in result.model.named_parameters():
        own = torch.stack([dict(model.named_parameters())[name] for model in models])
        expected = (torch.tensor([10, 14, 6], dtype=own.dtype) / 30) @ own.flatten(1)
        tolerance = 1e-6 if own.dtype != torch.bfloat16 else 0.02
        assert torch.allclose(expected, parameter.flatten(), atol=tolerance), name


@KINDS
def test_the_models_between_two_and_their_digests_can_be_measured(build: Build) -> None:
    first, second = build(), build()
    half = interpolate(first, second, 0.5)
    named = dict(half.named_parameters())
    for name, parameter in first.named_parameters():
        expected = (parameter + dict(second.named_parameters())[name]) / 2
        assert torch.allclose(expected, named[name], atol=1e-2 if expected.dtype == torch.bfloat16 else 1e-6)
    assert digest(first) == digest(copy.deepcopy(first)) != digest(half)


class Replacing(nn.Module):
    """Its buffers are replaced in training, not changed: the mean of its inputs, and the number of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean, self.batches = 0.5 * self.mean + 0.5 * x.mean(dim=0), self.batches + 1
        output: Tensor = self.layer(x - self.mean)
        return output


def test_buffers_that_a_module_replaces_are_the_clients_own_and_averaged() -> None:
    updates: list[ClientUpdate] = []
    one_batch = {"batch_size": None, "local_epochs": 1}
    (result,) = run(Replacing, rounds=1, observe=updates.append, **one_batch)
    halves = [each.inputs.mean(dim=0) / 2 for each in CLIENTS]
    for half, update in zip(halves, updates, strict=True):
        assert torch.allclose(half, update.state.vector[-3:], atol=1e-6)
        assert [1] == [counter.item() for counter in update.state.counters]
    assert isinstance(result.model, Replacing)
    mean = sum(share * half for share, half in zip((10 / 30, 14 / 30, 6 / 30), halves, strict=True))
    assert torch.allclose(torch.as_tensor(mean), result.model.mean, atol=1e-6)
    assert digest(last(Replacing).model) == digest(last(Replacing, num_threads=lambda: 2).model)


def test_tied_weights_stay_tied_and_are_one_part_of_the_vector() -> None:
    model = last(Tied).model
    assert isinstance(model, Tied)
    assert model.first.weight is model.second.weight
    assert 9 + 3 + 3 + 8 == len(FlatModel(Tied()).vector)


# Frozen parameters


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([parameter.flatten() for parameter in model[0].parameters()])  # type: ignore[index]


def test_frozen_parameters_are_at_the_end_of_the_vector_and_have_no_gradient() -> None:
    module = frozen()
    expected = weights_of(module).clone()
    flat = FlatModel(module)
    assert (4 + 4 + 8 + 2, 16) == (len(flat.parameters), flat.num_frozen)
    assert torch.equal(expected, flat.vector[-16:])
    assert [0.0] * 4 + [1.0] * 4 == flat.vector[18:26].tolist()  # BatchNorm's mean and variance
    assert [None, None] == [parameter.grad for parameter in module[0].parameters()]


@pytest.mark.parametrize("init", ["shared", "independent"])
@pytest.mark.parametrize("options", [{}, {"optimiser": SGD(momentum=0.9, weight_decay=0.1)}])
def test_frozen_parameters_stay_bit_equal(init: Any, options: dict[str, Any]) -> None:
    """They are those of w_0, even where each client begins with its own. The mean of equal ones would be another."""
    start = weights_of(last(frozen, rounds=1, init=init, learning_rate=1e-30).model).clone()
    for result in run(frozen, init=init, **options):
        assert torch.equal(start, weights_of(result.model))


def test_frozen_parameters_are_averaged_if_asked() -> None:
    updates: list[ClientUpdate] = []
    (result,) = run(frozen, rounds=1, init="independent", average_frozen=True, observe=updates.append)
    own = torch.stack([update.state.vector[-16:] for update in updates])
    assert torch.allclose(torch.tensor([10, 14, 6]) / 30 @ own, weights_of(result.model), atol=1e-6)
    assert not torch.equal(own[0], own[1])


def test_a_rule_does_not_see_frozen_parameters_unless_asked() -> None:
    sizes: list[int] = []

    def first(vectors: Tensor, _: Tensor) -> Tensor:
        sizes.append(vectors.shape[1])
        return vectors[0]

    for asked in (False, True):
        last(frozen, rounds=1, aggregation=accumulator_of(first), average_frozen=asked)
    assert [18 + 8, 18 + 8 + 16] == sizes


def test_a_model_that_trains_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="the model has no parameters to train"):
        last(lambda: nn.Linear(3, 2).requires_grad_(False))


def test_parameters_of_two_types_are_refused() -> None:
    mixed = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"must be of one type, not \['torch\.float32', 'torch\.float64'\]"):
        FlatModel(mixed)


# BatchNorm and batches of one


@pytest.mark.parametrize(("size", "batch_size"), [(21, 10), (1, 10), (1, None), (8, 1)])
def test_a_batch_of_one_that_batch_norm_refuses_names_client_and_remedy(size: int, batch_size: int | None) -> None:
    clients = [client(0, 20), client(1, size)] if batch_size != 1 else [client(1, size)]
    with pytest.raises(ValueError, match="Expected more than 1 value per channel") as caught:
        list(fedavg(normed, clients, rounds=1, **OPTIONS | {"batch_size": batch_size}))
    shown = min(batch_size or size, size)
    batch = "1 of 8" if batch_size == 1 else "3 of 3" if size == 21 else "1 of 1"
    start = (
        f"client {len(clients) - 1}: batch {batch} has one example (of {size}, batch_size {shown}), on which the model"
    )
    assert str(caught.value).startswith(start)
    assert "; set another batch_size or examples_per_client, or normalise without" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_batch_of_one_is_right_for_other_models_and_another_error_is_its_own() -> None:
    assert 0 < last(Tied, batch_size=1).train_loss

    class Wrong(nn.Linear):
        def forward(self, _: Tensor) -> Tensor:
            raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        client_update(FlatModel(Wrong(3, 2)), client(0, 4), 1, 2, 0.1, numpy_stream(0, Purpose.BATCH_ORDER))
