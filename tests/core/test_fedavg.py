"""Federated Averaging against plain loops, identities of the paper, and numbers by hand."""

from __future__ import annotations

import copy
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import nn

from fedbench.core import (
    ClientData,
    ClientUpdate,
    FlatModel,
    ModelState,
    Purpose,
    RoundResult,
    WeightedMean,
    average_model_parameters,
    fedavg,
    model_with,
    num_selected,
    numpy_stream,
    permutation,
    select_clients,
)
from fedbench.core.client import client_update
from fedbench.core.trainer import initial_model
from fedbench.models import build_model
from fedbench.models.layers import Conv2d, Linear
from fedbench.suites.cell import CellSpec

OPTIONS: dict[str, Any] = {"rounds": 1, "local_epochs": 1, "learning_rate": 0.1}


def made_up(num_examples: int, number: int = 0) -> ClientData:
    """Examples of 3 features and 3 classes."""
    stream = torch.Generator().manual_seed(1000 + number)
    labels = torch.randint(3, (num_examples,), generator=stream)
    return ClientData(torch.randn(num_examples, 3, generator=stream) + labels[:, None], labels)


def images(num_examples: int, number: int = 0) -> ClientData:
    """Grey images of ten classes, for the study's network."""
    stream = torch.Generator().manual_seed(2000 + number)
    labels = torch.arange(num_examples) % 10
    return ClientData(torch.randn(num_examples, 1, 28, 28, generator=stream), labels)


def build_linear() -> nn.Module:
    return nn.Linear(3, 3)


def build_normed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def build_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def vector(model: nn.Module) -> torch.Tensor:
    """All parameters and floating buffers of a model, one after the other."""
    tensors = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def last(results: Iterator[RoundResult]) -> RoundResult:
    *_, result = results
    return result


def observed(build: Callable[[], nn.Module], clients: Sequence[Any], **options: Any) -> list[Observed]:
    """Each round's number, its averaged model and its clients' own models, copied."""
    updates: list[ClientUpdate] = []
    rounds = []
    for result in fedavg(build, clients, observe=updates.append, **options):
        models = tuple(model_with(update.state, result.model) for update in updates)
        rounds.append(Observed(result, copy.deepcopy(result.model), models))
        updates.clear()
    return rounds


@dataclass
class Observed:
    result: RoundResult
    model: nn.Module
    client_models: tuple[nn.Module, ...]


class PlainCNN(nn.Module):
    """The study's network as its notebook has it, in PyTorch's operators: the specification of ``simple-cnn``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2d(1, 10, kernel_size=5)
        self.conv2 = Conv2d(10, 20, kernel_size=5)
        self.fc1 = Linear(320, 50)
        self.fc2 = Linear(50, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return F.log_softmax(self.fc2(F.relu(self.fc1(x.flatten(1)))), dim=1)


def plain_sgd(
    model: nn.Module,
    data: ClientData,
    epochs: int,
    batch_size: int | None,
    learning_rate: float,
    order: np.random.Generator,
) -> nn.Module:
    """The reference: torch's own optimiser over batches cut by slices."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    model.train()
    for _ in range(epochs):
        shuffled = torch.from_numpy(permutation(order, len(data)))
        size = batch_size or len(data)
        for start in range(0, len(data), size):
            chosen = shuffled[start : start + size]
            optimizer.zero_grad()
            F.cross_entropy(model(data.inputs[chosen]), data.labels[chosen]).backward()
            optimizer.step()
    return model


def order_of(seed: int, t: int, k: int) -> np.random.Generator:
    return numpy_stream(seed, Purpose.BATCH_ORDER, t, k)


# The client's half


def test_a_clients_step_is_the_one_computed_by_hand() -> None:
    # Zero weights give probabilities (1/2, 1/2); x = (1, 2), class 1: the gradient is ((1/2, 1), (-1/2, -1)).
    flat = FlatModel(nn.Linear(2, 2, bias=False))
    flat.vector.zero_()
    data = ClientData(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    loss = client_update(flat, data, 1, 1, 0.1, order_of(0, 1, 0))
    assert [[-0.05, -0.1], [0.05, 0.1]] == [pytest.approx(row) for row in flat.module.weight.tolist()]
    assert pytest.approx(0.693147, abs=1e-6) == loss  # ln 2, before the step


@pytest.mark.parametrize(
    ("epochs", "batch_size", "steps"),
    [(1, 10, 1), (1, 4, 3), (3, 4, 9), (2, None, 2), (2, 100, 2), (2, 1, 20)],
)
def test_ten_examples_make_this_many_steps(epochs: int, batch_size: int | None, steps: int) -> None:
    # A "loss" of gradient -1 for the only parameter, whatever the batch: it counts the steps at learning rate 1.
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = nn.Parameter(torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count.grad.sub_(1.0)
            return torch.stack([x[:, 0], x[:, 1]], 1) + 0.0 * self.count

    flat = FlatModel(Counter())
    client_update(
        flat,
        ClientData(torch.zeros(10, 2), torch.zeros(10, dtype=torch.int64)),
        epochs,
        batch_size,
        1.0,
        order_of(0, 1, 0),
    )
    assert steps == flat.module.count.item()


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, None), (2, 10), (3, 7)])
def test_the_studys_network_trains_as_with_torchs_own_sgd(epochs: int, batch_size: int | None) -> None:
    """Float32 sums in another memory layout: equal to 1e-6, where one step moves parameters by 1e-3 and more."""
    data = images(24)
    start = initial_model(lambda: build_model("simple-cnn"), 0, 0)
    expected = plain_sgd(initial_model(PlainCNN, 0, 0), data, epochs, batch_size, 0.1, order_of(0, 1, 0))
    flat = FlatModel(copy.deepcopy(start))
    client_update(flat, data, epochs, batch_size, 0.1, order_of(0, 1, 0))
    assert (vector(start) - vector(expected)).abs().max().item() > 1e-3
    assert (vector(flat.module) - vector(expected)).abs().max().item() < 1e-6


def test_the_last_smaller_batch_is_used() -> None:
    data = made_up(5)
    expected = plain_sgd(initial_model(build_linear, 0, 0), data, 1, 4, 0.1, order_of(0, 1, 0))
    flat = FlatModel(initial_model(build_linear, 0, 0))
    client_update(flat, data, 1, 4, 0.1, order_of(0, 1, 0))
    assert torch.allclose(vector(expected), vector(flat.module), atol=1e-7)
    kept = order_of(0, 1, 0)
    first_four = permutation(kept, 5)[:4]
    without = FlatModel(initial_model(build_linear, 0, 0))
    model = without.module
    F.cross_entropy(model(data.inputs[first_four]), data.labels[first_four]).backward()
    without.descend(0.1)
    assert not torch.allclose(vector(without.module), vector(flat.module), atol=1e-4)


def test_every_epoch_is_shuffled_anew() -> None:
    seen: list[list[int]] = []

    class Watching(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append([int(value) for value in x[:, 0]])
            return super().forward(x)

    data = ClientData(torch.arange(8.0)[:, None], torch.zeros(8, dtype=torch.int64))
    client_update(FlatModel(Watching(1, 2)), data, 2, 4, 1e-3, order_of(0, 1, 0))
    first, second = seen[0] + seen[1], seen[2] + seen[3]
    assert list(range(8)) == sorted(first) == sorted(second)
    assert list(range(8)) != first
    assert first != second


def test_the_training_loss_is_the_mean_over_examples_not_over_batches() -> None:
    # Learning rate 0 keeps the weights at zero but for the bias of class 0 at ln 3: losses ln(4/3) and ln 4.
    flat = FlatModel(nn.Linear(1, 2))
    flat.vector.copy_(torch.tensor([0.0, 0.0, 1.0986123, 0.0]))
    data = ClientData(torch.zeros(5, 1), torch.tensor([0, 0, 0, 0, 1]))
    loss = client_update(flat, data, 2, 4, 0.0, order_of(0, 1, 0))
    assert pytest.approx((4 * 0.2876821 + 1.3862944) / 5) == loss


def test_a_client_trains_in_training_mode_even_if_asked_without_gradients() -> None:
    flat = FlatModel(build_normed())
    flat.module.eval()
    with torch.no_grad():
        client_update(flat, made_up(6), 1, 3, 0.1, order_of(0, 1, 0))
    assert 2 == flat.module[1].num_batches_tracked.item()
    assert flat.gradients.abs().sum().item() > 0


# A round


def test_fedsgd_is_one_step_of_gradient_descent_on_all_the_data() -> None:
    """With C = 1, E = 1, B = null and weights n_k/n; the n_k are unequal (the paper's section 2)."""
    clients = [made_up(2, 1), made_up(7, 2), made_up(11, 3)]
    union = ClientData(torch.cat([each.inputs for each in clients]), torch.cat([each.labels for each in clients]))
    expected = plain_sgd(initial_model(build_linear, 5, 0), union, 1, None, 0.3, order_of(5, 1, 0))
    result = last(fedavg(build_linear, clients, rounds=1, local_epochs=1, learning_rate=0.3, seed=5))
    assert torch.allclose(vector(expected), vector(result.model), atol=1e-6)
    equal_weights = average_model_parameters(
        [plain_sgd(initial_model(build_linear, 5, 0), each, 1, None, 0.3, order_of(5, 1, 0)) for each in clients],
        [1, 1, 1],
    )
    assert not torch.allclose(vector(equal_weights), vector(result.model), atol=1e-3)


def test_one_client_is_plain_sgd() -> None:
    data = made_up(10)
    expected = initial_model(build_linear, 3, 0)
    for t in (1, 2, 3):
        plain_sgd(expected, data, 2, 4, 0.1, order_of(3, t, 0))
    options = {"rounds": 3, "local_epochs": 2, "learning_rate": 0.1, "batch_size": 4, "seed": 3}
    result = last(fedavg(build_linear, [data], **options))
    assert torch.allclose(vector(expected), vector(result.model), atol=1e-6)


def test_two_rounds_are_what_plain_loops_compute() -> None:
    clients = [made_up(5, 1), made_up(9, 2)]
    expected = initial_model(build_linear, 2, 0)
    for t in (1, 2):
        trained = [plain_sgd(copy.deepcopy(expected), clients[k], 2, 4, 0.2, order_of(2, t, k)) for k in (0, 1)]
        expected = average_model_parameters(trained, [5, 9])
    options = {"rounds": 2, "local_epochs": 2, "learning_rate": 0.2, "batch_size": 4, "seed": 2}
    result = last(fedavg(build_linear, clients, **options))
    assert torch.allclose(vector(expected), vector(result.model), atol=1e-6)


def test_the_server_averages_with_the_shares_of_the_examples_in_client_order() -> None:
    class FirstOnly(WeightedMean):
        shares: ClassVar[list[float]] = []

        def add(self, state: ModelState, share: float) -> None:
            super().add(state, 0.0 if self.shares else 1.0)
            self.shares.append(share)

    clients = [made_up(2, 1), made_up(7, 2), made_up(11, 3)]
    (round_1,) = observed(build_linear, clients, aggregation=FirstOnly, **OPTIONS)
    assert [2 / 20, 7 / 20, 11 / 20] == FirstOnly.shares
    assert torch.equal(vector(round_1.client_models[0]), vector(round_1.model))


def test_the_averaged_model_is_the_weighted_mean_of_the_kept_client_models() -> None:
    clients = [made_up(3, 1), made_up(9, 2)]
    (result,) = observed(build_normed, clients, **OPTIONS)
    first, second = map(vector, result.client_models)
    assert torch.allclose(0.25 * first + 0.75 * second, vector(result.model), atol=1e-6)


def test_running_statistics_are_averaged_and_the_counter_is_the_largest_clients() -> None:
    clients = [made_up(8, 1), made_up(4, 2)]  # batches of 2: four and two
    (result,) = observed(build_normed, clients, batch_size=2, **OPTIONS)
    means = [model[1].running_mean for model in result.client_models]
    assert not torch.equal(means[0], means[1])
    assert torch.allclose((2 * means[0] + means[1]) / 3, result.model[1].running_mean, atol=1e-6)
    assert 4 == result.model[1].num_batches_tracked.item()


def test_the_training_loss_of_a_round_weighs_clients_by_their_examples() -> None:
    clients = [made_up(2, 1), made_up(6, 2)]
    alone = []
    for k, data in enumerate(clients):
        flat = FlatModel(initial_model(build_linear, 0, 0))
        alone.append(client_update(flat, data, 1, None, 0.1, order_of(0, 1, k)))
    result = last(fedavg(build_linear, clients, **OPTIONS))
    assert pytest.approx((2 * alone[0] + 6 * alone[1]) / 8) == result.train_loss


def test_rounds_are_counted_from_one_and_each_client_is_observed_in_order() -> None:
    seen: list[int] = []
    options = OPTIONS | {"rounds": 3, "observe": lambda update: seen.append(update.client)}
    assert [1, 2, 3] == [result.round for result in fedavg(build_linear, [made_up(4), made_up(4)], **options)]
    assert [0, 1, 0, 1, 0, 1] == seen


# The start


def test_a_shared_start_is_one_model_and_an_independent_start_is_one_a_client() -> None:
    """At a learning rate too small to move a float, the kept models are the clients' starts."""
    clients = [made_up(4, k) for k in range(3)]
    options = {"rounds": 1, "local_epochs": 1, "learning_rate": 1e-30, "seed": 4}
    shared, apart = (
        [vector(model) for model in observed(build_linear, clients, init=init, **options)[0].client_models]
        for init in ("shared", "independent")
    )
    assert all(torch.equal(shared[0], each) for each in shared)
    assert torch.equal(shared[0], apart[0])
    assert not torch.equal(apart[0], apart[1])
    assert not torch.equal(apart[1], apart[2])
    assert [True] * 3 == [torch.equal(apart[k], vector(initial_model(build_linear, 4, k))) for k in range(3)]


def test_after_an_independent_start_round_two_starts_from_the_averaged_model() -> None:
    clients = [made_up(4, k) for k in range(2)]
    options = {"rounds": 2, "local_epochs": 1, "learning_rate": 1e-30}
    first, second = observed(build_linear, clients, init="independent", **options)
    assert all(torch.equal(vector(first.model), vector(model)) for model in second.client_models)


# Which clients


@pytest.mark.parametrize(
    ("fraction", "num_clients", "m"),
    [(1.0, 7, 7), (0.0, 10, 1), (0.1, 10, 1), (0.1, 100, 10), (0.26, 10, 3), (0.3, 1, 1)],
)
def test_m_is_c_times_k_rounded_and_at_least_one(fraction: float, num_clients: int, m: int) -> None:
    assert m == num_selected(fraction, num_clients)
    clients = [made_up(2, k) for k in range(num_clients)]
    assert m == len(last(fedavg(build_linear, clients, client_fraction=fraction, **OPTIONS)).selected_clients)


@pytest.mark.parametrize(
    ("fraction", "able", "m"),
    [(0.5, 10, 5), (0.5, 6, 5), (0.5, 5, 5), (0.5, 3, 3), (0.0, 3, 1), (1.0, 3, 3), (0.25, 6, 2), (0.35, 6, 4)],
)
def test_k_counts_clients_without_examples_but_none_of_them_is_selected(fraction: float, able: int, m: int) -> None:
    """Of ten clients the last `able` have examples. Halves are rounded to even: 2.5 to 2, 3.5 to 4."""
    clients, participants = [made_up(2, k) for k in range(10)], range(10 - able, 10)
    result = last(fedavg(build_linear, clients, client_fraction=fraction, participants=participants, **OPTIONS))
    assert m == len(result.selected_clients)
    assert set(result.selected_clients) <= set(participants)
    assert m == min(CellSpec(num_clients=10, client_fraction=fraction).clients_per_round, able)  # as planned


def test_clients_are_drawn_without_replacement_in_ascending_order() -> None:
    for t in range(1, 50):
        selected = select_clients(0, t, range(10), 4)
        assert sorted(set(selected)) == selected
        assert len(selected) == 4
        assert set(selected) <= set(range(10))


def test_every_client_is_drawn_about_equally_often() -> None:
    # 1,000 rounds of 3 of 10: 300 each, with a standard deviation of sqrt(1000 * 0.3 * 0.7) = 14.5; five of them
    counts = torch.bincount(torch.tensor([select_clients(0, t, range(10), 3) for t in range(1, 1001)]).flatten())
    assert 10 == len(counts)
    assert (counts - 300).abs().max().item() < 73


def test_the_clients_of_a_round_depend_on_seed_and_round_and_nothing_else() -> None:
    def selected(**changes: Any) -> list[tuple[int, ...]]:
        options: dict[str, Any] = {
            "rounds": 6,
            "local_epochs": 1,
            "learning_rate": 0.1,
            "client_fraction": 0.3,
        } | changes
        build, size = options.pop("build", build_linear), options.pop("size", 4)
        return [each.selected_clients for each in fedavg(build, [made_up(size, k) for k in range(10)], **options)]

    plain = selected()
    assert len(set(plain)) > 1
    others = [
        {"local_epochs": 2},
        {"learning_rate": 0.5},
        {"batch_size": 1},
        {"size": 7},
        {"build": build_dropout},
        {"init": "independent"},
    ]
    for changes in others:
        assert plain == selected(**changes), changes
    assert plain != selected(seed=1)


def test_only_the_selected_clients_are_trained_and_counted() -> None:
    clients = [made_up(k + 2, k) for k in range(6)]
    (result,) = observed(build_linear, clients, client_fraction=0.34, **OPTIONS)
    first, second = result.result.selected_clients
    n = len(clients[first]) + len(clients[second])
    models = [vector(model) for model in result.client_models]
    expected = len(clients[first]) / n * models[0] + len(clients[second]) / n * models[1]
    assert torch.allclose(expected, vector(result.model), atol=1e-6)
    reference = plain_sgd(initial_model(build_linear, 0, 0), clients[second], 1, None, 0.1, order_of(0, 1, second))
    assert torch.allclose(vector(reference), models[1], atol=1e-6)


# Determinism


@pytest.mark.parametrize("build", [build_linear, build_dropout, build_normed])
@pytest.mark.parametrize("init", ["shared", "independent"])
def test_the_same_seed_gives_the_same_bits(build: Callable[[], nn.Module], init: Any) -> None:
    options = {"rounds": 2, "local_epochs": 2, "learning_rate": 0.1, "batch_size": 3, "init": init}
    clients = [made_up(8, k) for k in range(3)]
    first = last(fedavg(build, clients, seed=1, **options))
    torch.manual_seed(12345)
    second = last(fedavg(build, clients, seed=1, **options))
    assert torch.equal(vector(first.model), vector(second.model))
    assert first.train_loss == second.train_loss
    assert not torch.equal(vector(first.model), vector(last(fedavg(build, clients, seed=2, **options)).model))


@pytest.mark.parametrize("build", [build_linear, build_dropout])
@pytest.mark.parametrize("other", [made_up(50, 2), made_up(4, 77)], ids=["more data", "other data"])
def test_client_3_does_not_change_when_client_2_trains_longer(
    build: Callable[[], nn.Module], other: ClientData
) -> None:
    options = OPTIONS | {"batch_size": 2}
    clients = [made_up(4, k) for k in range(4)]
    before = observed(build, clients, **options)[0].client_models
    clients[2] = other
    after = observed(build, clients, **options)[0].client_models
    assert not torch.equal(vector(before[2]), vector(after[2]))
    assert torch.equal(vector(before[3]), vector(after[3]))


@pytest.mark.parametrize("build", [build_linear, build_dropout])
def test_the_global_random_state_is_left_as_it_was(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(42)
    before = torch.random.get_rng_state()
    for _ in fedavg(build, [made_up(4), made_up(4)], **(OPTIONS | {"rounds": 2})):
        assert torch.equal(before, torch.random.get_rng_state())


def test_what_the_consumer_draws_between_rounds_moves_nothing() -> None:
    options = OPTIONS | {"rounds": 3, "batch_size": 2}
    clients = [made_up(5, k) for k in range(2)]
    expected = vector(last(fedavg(build_dropout, clients, **options)).model)
    disturbed = []
    for result in fedavg(build_dropout, clients, **options):
        torch.rand(17)
        disturbed.append(vector(result.model))
    assert torch.equal(expected, disturbed[-1])


def test_dropout_differs_by_client_and_round() -> None:
    """Two clients with the same single example: their models differ by dropout alone."""
    for result in observed(build_dropout, [made_up(1), made_up(1)], **(OPTIONS | {"rounds": 2})):
        first, second = result.client_models
        assert not torch.allclose(vector(first), vector(second), atol=1e-5)


# Several clients at once


@pytest.mark.parametrize("init", ["shared", "independent"])
@pytest.mark.parametrize(
    ("build", "make"),
    [
        (lambda: build_model("simple-cnn"), images),
        (build_normed, made_up),
        (build_dropout, made_up),
    ],
)
def test_clients_that_train_at_once_have_the_bits_of_one_after_the_other(
    build: Callable[[], nn.Module], make: Callable[[int, int], ClientData], init: Any
) -> None:
    clients = [make(9 + 5 * k, k) for k in range(5)]
    options = OPTIONS | {"rounds": 2, "batch_size": 5, "init": init, "seed": 3}
    in_turn = observed(build, clients, **options)
    at_once = observed(build, clients, num_threads=lambda: 3, **options)
    for one, other in zip(in_turn, at_once, strict=True):
        assert one.result.train_loss == other.result.train_loss
        assert torch.equal(vector(one.model), vector(other.model))
        assert len(one.client_models) == len(other.client_models)
        for mine, theirs in zip(one.client_models, other.client_models, strict=True):
            assert torch.equal(vector(mine), vector(theirs))


@pytest.mark.parametrize(("num_threads", "few"), [(1, 3), (2, 8)])
def test_of_a_thousand_selected_clients_the_models_of_a_few_are_in_memory(num_threads: int, few: int) -> None:
    alive: WeakSet[torch.Tensor] = WeakSet()
    most = 0

    def observe(update: ClientUpdate) -> None:
        nonlocal most
        alive.add(update.state.vector)
        most = max(most, len(alive))

    clients = [made_up(1, k) for k in range(1000)]
    result = last(fedavg(build_linear, clients, num_threads=lambda: num_threads, observe=observe, **OPTIONS))
    assert 1000 == len(result.selected_clients)
    assert most <= few


def test_a_model_that_draws_random_numbers_only_later_is_an_error_if_clients_train_at_once() -> None:
    """It would draw from one stream in an order that nobody knows."""

    class LateNoise(nn.Linear):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            LateNoise.calls += 1
            return super().forward(x) + (torch.rand(()) if LateNoise.calls > 2 else 0)

    results = fedavg(lambda: LateNoise(3, 3), [made_up(4), made_up(4)], num_threads=lambda: 2, **OPTIONS)
    with pytest.raises(RuntimeError, match="training draws random numbers, but did not at first"):
        list(results)


def test_an_interruption_stops_the_clients_that_still_train() -> None:
    def interrupted(_: ClientUpdate) -> None:
        raise KeyboardInterrupt

    clients = [made_up(1), made_up(100_000)]  # the second would train for 10 s
    before = threading.active_count()
    options = OPTIONS | {"batch_size": 1, "observe": interrupted, "num_threads": lambda: 2}
    with pytest.raises(KeyboardInterrupt):
        list(fedavg(build_linear, clients, **options))
    deadline = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"local_epochs": -1}, "local_epochs=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"client_fraction": 2.0}, "client_fraction=2.0"),
        ({"init": "Independent"}, "init='Independent'"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(option: dict[str, Any], named: str) -> None:
    clients = [ClientData(torch.zeros(2, 3), torch.tensor([0, 1]))]
    sound: dict[str, Any] = {"rounds": 1, "local_epochs": 1, "learning_rate": 0.1}
    with pytest.raises(ValueError, match=re.escape(named)):
        next(fedavg(lambda: torch.nn.Linear(3, 2), clients, **(sound | option)))


def test_no_clients_and_clients_without_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no clients"):
        next(fedavg(lambda: torch.nn.Linear(3, 2), [], rounds=1, local_epochs=1, learning_rate=0.1))
    with pytest.raises(ValueError, match="not 0 and 0"):
        ClientData(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="not 3 and 2"):
        ClientData(torch.zeros(3, 3), torch.zeros(2, dtype=torch.int64))


def test_a_model_that_is_not_made_anew_is_refused() -> None:
    model = torch.nn.Linear(3, 2)
    clients = [ClientData(torch.zeros(2, 3), torch.tensor([0, 1]))]
    with pytest.raises(ValueError, match="a new model each time"):
        next(fedavg(lambda: model, clients, rounds=1, local_epochs=1, learning_rate=0.1))


# Resuming after a round


@pytest.mark.parametrize("init", ["shared", "independent"])
@pytest.mark.parametrize("build", [build_linear, build_normed, build_dropout])
@pytest.mark.parametrize("finished", [1, 3, 4])
def test_a_run_that_resumes_has_the_bits_of_one_that_was_not_interrupted(
    build: Callable[[], nn.Module], init: Any, finished: int
) -> None:
    """With dropout, with BatchNorm's running statistics and counter, and with clients drawn by chance."""
    clients = [made_up(10 + 2 * number, number) for number in range(5)]
    options: dict[str, Any] = {"local_epochs": 2, "learning_rate": 0.1, "batch_size": 4, "client_fraction": 0.6}
    options |= {"init": init, "seed": 3, "rounds": 5}
    expected = observed(build, clients, **options)
    server = expected[finished - 1].result.server
    before = copy.deepcopy(server)
    torch.manual_seed(99)  # whatever happened meanwhile
    rest = observed(build, clients, **options, server=server)
    assert list(range(finished + 1, 6)) == [each.result.round for each in rest]
    for one, other in zip(expected[finished:], rest, strict=True):
        assert one.result.selected_clients == other.result.selected_clients
        assert one.result.train_loss == other.result.train_loss
        models = zip((one.model, *one.client_models), (other.model, *other.client_models), strict=True)
        for first, second in models:
            states = first.state_dict(), second.state_dict()
            assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(before.model.vector, server.model.vector)  # what was given is not changed


def test_after_the_last_round_there_is_nothing_to_resume() -> None:
    (result,) = fedavg(build_linear, [made_up(5)], **OPTIONS)
    assert [] == list(fedavg(build_linear, [made_up(5)], **OPTIONS, server=result.server))


def test_the_state_of_another_model_is_refused() -> None:
    (result,) = fedavg(lambda: nn.Linear(3, 4), [made_up(5)], **OPTIONS)
    with pytest.raises(RuntimeError, match="size of tensor"):
        next(fedavg(build_linear, [made_up(5)], **(OPTIONS | {"rounds": 2}), server=result.server))
