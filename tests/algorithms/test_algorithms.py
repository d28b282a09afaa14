"""The algorithms against numbers worked by hand, and as a whole against loops written out plainly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedbench.algorithms import ALGORITHMS
from fedbench.components import find
from fedbench.core import (
    Algorithm,
    ClientContext,
    ClientData,
    Purpose,
    RoundResult,
    ServerContext,
    fedavg,
    numpy_stream,
    permutation,
)
from fedbench.core.trainer import initial_model
from fedbench.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint


def vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def close(expected: Tensor | list[float], found: Tensor) -> bool:
    return torch.allclose(torch.as_tensor(expected), found, atol=1e-6)


def make(name: str, **options: float) -> Algorithm:
    algorithm: Algorithm = find("algorithm", name).make(**options)
    return algorithm


def step(
    algorithm: Algorithm, start: Tensor, average: Tensor, memory: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, Mapping[str, Tensor]]:
    remembered = algorithm.initial(start) if memory is None else memory
    return algorithm.server_step(average, ServerContext(start, remembered, None, 1.0))


def task(start: Tensor, sent: Tensor, **server: Tensor) -> ClientContext:
    return ClientContext(start, server, sent, learning_rate=0.5)


# By hand


def test_fedavg_takes_the_average_and_adds_nothing() -> None:
    average = vector(1, 2)
    assert step(make("fedavg"), vector(0, 0), average)[0] is average
    assert make("fedavg").gradient_term(task(average, average)) is None


def test_fedavgm_keeps_a_share_of_its_velocity() -> None:
    algorithm = make("fedavgm", server_momentum=0.5, server_learning_rate=2.0)
    # Δ = (1, −1): v = (1, −1), w = (1, 2) + 2 v
    first, memory = step(algorithm, vector(1, 2), vector(2, 1))
    assert close([3.0, 0.0], first)
    # Δ = (1, 0): v = (0.5, −0.5) + (1, 0) = (1.5, −0.5), w = (3, 0) + 2 v
    second, memory = step(algorithm, first, vector(4, 0), memory)
    assert close([6.0, -1.0], second)
    assert close([1.5, -0.5], memory["velocity"])


def test_fedadam_divides_by_the_root_of_what_changes_were_like() -> None:
    algorithm = make("fedadam", server_momentum=0.5, server_learning_rate=0.1, server_adaptivity=0.1)
    # Δ = (1, −2): m = (0.5, −1), v = 0.99 · 0.01 + 0.01 · (1, 4) = (0.0199, 0.0499), √v = (0.1410674, 0.2233831)
    first, memory = step(algorithm, vector(0, 0), vector(1, -2))
    assert close([0.05 / 0.2410674, -0.1 / 0.3233831], first)
    # Δ = (0, 1): m = (0.25, 0), v = 0.99 · (0.0199, 0.0499) + 0.01 · (0, 1) = (0.019701, 0.059401)
    second, memory = step(algorithm, first, first + vector(0, 1), memory)
    assert close([0.25, 0.0], memory["m"])
    assert close([0.019701, 0.059401], memory["v"])
    assert close(first + vector(0.025 / 0.2403602, 0), second)  # √0.019701 = 0.1403602


def test_fedyogi_takes_from_the_second_moment_what_adam_would_shrink_it_by_at_most() -> None:
    algorithm = make("fedyogi", server_momentum=0.5, server_learning_rate=0.1, server_adaptivity=0.1)
    # v = 0.01 is below Δ² = (1, 4): v + 0.01 · (1, 4) = (0.02, 0.05), √v = (0.1414214, 0.2236068)
    first, memory = step(algorithm, vector(0, 0), vector(1, -2))
    assert close([0.02, 0.05], memory["v"])
    assert close([0.05 / 0.2414214, -0.1 / 0.3236068], first)
    # Δ = (0.1, 0): v = 0.02 is above Δ² = 0.01, so 0.02 − 0.01 · 0.01; 0.05 − 0.01 · 0
    _, memory = step(algorithm, first, first + vector(0.1, 0), memory)
    assert close([0.0199, 0.05], memory["v"])


def test_fedprox_draws_to_where_the_client_began() -> None:
    term = make("fedprox", proximal_weight=0.5).gradient_term(task(vector(1, 2), vector(0, 0)))
    assert term is not None
    assert close([1.0, -0.5], term(vector(3, 1)))


def test_scaffold_corrects_by_the_difference_of_the_control_variates() -> None:
    algorithm = make("scaffold", server_learning_rate=0.5)
    known = task(vector(1, 0), sent=vector(1, 2), c=vector(4, 4))
    term = algorithm.gradient_term(known)
    assert term is not None
    assert close([3.0, 2.0], term(vector(9, 9)))  # c − c_k
    # c_k⁺ − c_k = (w_t − w_k) / (s η) − c = ((1, 0) − (0, 2)) / (2 · 0.5) − (4, 4)
    assert close([-3.0, -6.0], algorithm.message(vector(0, 2), 2, known))
    update = ServerContext(vector(1, 0), {"c": vector(4, 4)}, vector(-2, 8), weight=5, total_weight=lambda: 20)
    parameters, memory = algorithm.server_step(vector(3, 2), update)
    assert close([2.0, 1.0], parameters)  # (1, 0) + 0.5 · (2, 2)
    assert close([3.5, 6.0], memory["c"])  # (4, 4) + 0.25 · (−2, 8)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_nothing_that_is_given_is_changed(name: str) -> None:
    algorithm = make(name)
    start, average, message = vector(1, 2), vector(2, 3), vector(1, 1)
    memory = algorithm.initial(start)
    given = [start, average, message, *memory.values()]
    before = [each.clone() for each in given]
    known = ClientContext(start, memory, message, 0.1)
    if (term := algorithm.gradient_term(known)) is not None:
        term(average)
    algorithm.message(average, 3, known)
    algorithm.server_step(average, ServerContext(start, memory, message, 0.5))
    assert all(torch.equal(one, other) for one, other in zip(before, given, strict=True))


# As a whole

CLIENTS = [
    ClientData(torch.randn(n, 3, generator=torch.Generator().manual_seed(n)), torch.arange(n) % 2) for n in (4, 6, 10)
]
OPTIONS: dict[str, Any] = {"rounds": 4, "local_epochs": 3, "learning_rate": 0.1, "client_fraction": 0.67, "seed": 3}


def build() -> nn.Module:
    return nn.Linear(3, 2)


def run(algorithm: Algorithm, **options: Any) -> list[tuple[Tensor, RoundResult]]:
    """Each round's parameters, and its result."""
    results = fedavg(build, CLIENTS, algorithm=algorithm, **(OPTIONS | options))
    return [(torch.cat([each.detach().flatten() for each in result.model.parameters()]), result) for result in results]


def initial() -> Tensor:
    """w_0."""
    return torch.cat([each.detach().flatten() for each in initial_model(build, OPTIONS["seed"], 0).parameters()])


def batches(t: int, k: int, batch_size: int | None) -> Iterator[ClientData]:
    """What client k steps on in round t."""
    data, order = CLIENTS[k], numpy_stream(OPTIONS["seed"], Purpose.BATCH_ORDER, t, k)
    for _ in range(OPTIONS["local_epochs"]):
        for chosen in torch.from_numpy(permutation(order, len(data))).split(batch_size or len(data)):
            yield ClientData(data.inputs[chosen], data.labels[chosen])


def gradient(weights: Tensor, data: ClientData) -> Tensor:
    """Of the loss over all the examples of `data`."""
    leaf = weights.clone().requires_grad_()
    F.cross_entropy(data.inputs @ leaf[:6].view(2, 3).T + leaf[6:], data.labels).backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("batch_size", [None, 4])
def test_scaffold_is_the_papers_loop(batch_size: int | None) -> None:
    """Two of three clients a round, who have 4, 6 and 10 examples: 3 steps each, or 3, 6 and 9 in batches of 4."""
    found = run(make("scaffold"), batch_size=batch_size)
    x = initial()
    c, own = torch.zeros(8), {k: torch.zeros(8) for k in range(3)}
    for parameters, result in found:
        total = sum(len(CLIENTS[k]) for k in result.selected_clients)
        change, control = torch.zeros(8), torch.zeros(8)
        for k in result.selected_clients:
            y, steps = x.clone(), 0
            for batch in batches(result.round, k, batch_size):
                y, steps = y - 0.1 * (gradient(y, batch) - own[k] + c), steps + 1
            plus = own[k] - c + (x - y) / (steps * 0.1)
            change += len(CLIENTS[k]) / total * (y - x)
            control += len(CLIENTS[k]) / total * (plus - own[k])
            own[k] = plus
        x, c = x + change, c + total / 20 * control
        assert close(x, parameters)
    assert {(0, 1), (1, 2)} == {result.selected_clients for _, result in found}  # 0 and 2 miss rounds
    server = found[-1][1].server
    assert close(c, server.memory["c"])
    assert [True] * 3 == [close(own[k], server.sent[k]) for k in range(3)]


@dataclass(frozen=True)
class Sized:
    """n examples in double precision, or none."""

    n: int

    def __len__(self) -> int:
        return self.n

    @property
    def inputs(self) -> Tensor:
        stream = torch.Generator().manual_seed(self.n)
        return torch.randn(self.n, 3, generator=stream, dtype=torch.float64)

    @property
    def labels(self) -> Tensor:
        return torch.arange(self.n) % 2


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    fraction=st.floats(0, 1),
    weights=st.sampled_from(["examples", "uniform"]),
    batch_size=st.sampled_from([None, 2]),
    rate=st.floats(0.1, 1),
)
def test_scaffolds_server_has_the_mean_of_all_control_variates(
    sizes: list[int], fraction: float, weights: Any, batch_size: int | None, rate: float
) -> None:
    """c = Σ_k n_k/n · c_k over all clients, after every round; those without examples have no part in it."""
    able = [k for k, n in enumerate(sizes) if n]
    shares = [sizes[k] / sum(sizes) if weights == "examples" else 1 / len(able) for k in able]
    options = OPTIONS | {"client_fraction": fraction, "weights": weights, "batch_size": batch_size, "rounds": 6}
    algorithm = make("scaffold", server_learning_rate=rate)
    clients = [Sized(n) for n in sizes]
    for result in fedavg(lambda: build().double(), clients, participants=able, algorithm=algorithm, **options):
        own = [result.server.sent.get(k, torch.zeros(8, dtype=torch.float64)) for k in able]
        mean = torch.stack([share * c_k for share, c_k in zip(shares, own, strict=True)]).sum(dim=0)
        largest = max(float(c_k.abs().max()) for c_k in own)
        assert float((result.server.memory["c"] - mean).abs().max()) < 1e-12 * (1 + largest)


@pytest.mark.parametrize("weights", ["examples", "uniform"])
def test_with_equal_clients_the_selected_clients_weight_is_their_number(weights: Any) -> None:
    """m / K, to the bit."""
    found = []

    @dataclass(frozen=True)
    class Reading(Algorithm):
        def server_step(self, average: Tensor, context: ServerContext) -> tuple[Tensor, Mapping[str, Tensor]]:
            found.append(context.fraction)
            return average, {}

    options = OPTIONS | {"client_fraction": 0.3, "weights": weights, "rounds": 1}
    list(fedavg(build, [CLIENTS[1]] * 10, algorithm=Reading(), **options))
    assert [3 / 10] == found


@pytest.mark.parametrize("name", ALGORITHMS)
def test_clients_that_are_not_selected_are_asked_at_most_for_their_numbers_of_examples(name: str) -> None:
    accessed: set[int] = set()

    class OnDemand(list[ClientData]):
        def __getitem__(self, k: int) -> ClientData:  # type: ignore[override]
            accessed.add(k)
            return super().__getitem__(k)

    options = OPTIONS | {"client_fraction": 0.1, "rounds": 3}
    results = fedavg(build, OnDemand(CLIENTS * 10), algorithm=make(name), **options)
    selected = {k for result in results for k in result.selected_clients}
    assert (set(range(30)) if name == "scaffold" else selected | {0}) == accessed  # client 0 shows the kind of inputs


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi"])
def test_a_servers_optimiser_is_the_papers_loop(name: str) -> None:
    """One number after the other, in double precision, for all rounds."""
    rate, beta, tau = 0.05, 0.8, 0.01
    settings = {"server_learning_rate": rate, "server_momentum": beta}
    found = run(make(name, **settings if name == "fedavgm" else settings | {"server_adaptivity": tau}))
    x = initial()
    m, v = [0.0] * 8, [tau**2] * 8
    for parameters, result in found:
        total = sum(len(CLIENTS[k]) for k in result.selected_clients)
        average = torch.zeros(8)
        for k in result.selected_clients:
            y = x.clone()
            for batch in batches(result.round, k, None):
                y -= 0.1 * gradient(y, batch)
            average += len(CLIENTS[k]) / total * y
        w = x.tolist()
        for i, change in enumerate((average - x).tolist()):
            if name == "fedavgm":
                m[i] = beta * m[i] + change
                w[i] += rate * m[i]
                continue
            m[i] = beta * m[i] + (1 - beta) * change
            if name == "fedadam":
                v[i] = 0.99 * v[i] + 0.01 * change**2
            else:
                v[i] += math.copysign(0.01 * change**2, change**2 - v[i])
            w[i] += rate * m[i] / (math.sqrt(v[i]) + tau)
        x = vector(*w)
        assert close(x, parameters)


def test_fedprox_is_sgd_on_its_objective() -> None:
    """The gradient of ℓ + μ/2 ‖w − w_t‖² by autograd, of one client that does all."""
    algorithm = make("fedprox", proximal_weight=2.0)
    ((parameters, _),) = [*run(algorithm, rounds=1, client_fraction=0.0)]
    (k,) = run(algorithm, rounds=1, client_fraction=0.0)[0][1].selected_clients
    start = initial()
    w = start.clone()
    for _ in range(3):
        w = w - 0.1 * (gradient(w, CLIENTS[k]) + 2.0 * (w - start))
    assert close(w, parameters)


def test_fedprox_without_its_term_has_fedavgs_bits() -> None:
    for (expected, _), (found, _) in zip(run(make("fedavg")), run(make("fedprox", proximal_weight=0)), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize(
    ("name", "options"), [("fedavgm", {"server_momentum": 0.0, "server_learning_rate": 1.0}), ("scaffold", {})]
)
def test_a_first_step_that_adds_nothing_is_fedavgs_but_for_two_roundings(name: str, options: dict[str, float]) -> None:
    """w_t + (w̄ − w_t) is not always w̄: the difference is rounded, and so is the sum. Half an ulp each."""
    ((average, _),), ((found, _),) = run(make("fedavg"), rounds=1), run(make(name, **options), rounds=1)
    half = torch.finfo(torch.float32).eps / 2
    assert ((average - found).abs() <= half * ((average - initial()).abs() + average.abs()) * 1.01).all()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithms_differ(name: str) -> None:
    """From FedAvg, after some rounds, by more than roundings; so that a suite that compares them compares something."""
    options = {"proximal_weight": 0.5} if name == "fedprox" else {}
    same = close(run(make("fedavg"))[-1][0], run(make(name, **options))[-1][0])
    assert (name == "fedavg") == same


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_resumes_from_a_checkpoint_with_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = run(make(name))
    *_, (_, halfway) = run(make(name), rounds=2)
    history = ({"loss": 1.0}, {"loss": 0.5})
    save_checkpoint(tmp_path / "c", "f", Checkpoint(halfway.server, history, torch.zeros(2, 2)))
    loaded = load_checkpoint(tmp_path / "c", "f")
    assert loaded is not None
    rest = run(make(name), server=loaded.server)
    assert [3, 4] == [result.round for _, result in rest]
    for (expected, _), (found, _) in zip(whole[2:], rest, strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("name", ["scaffold", "fedprox"])
def test_clients_in_several_threads_give_the_same_bits(name: str) -> None:
    for (expected, _), (found, _) in zip(run(make(name)), run(make(name), num_threads=lambda: 3), strict=True):
        assert torch.equal(expected, found)


def test_buffers_are_averaged_whatever_the_algorithm() -> None:
    def normed() -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))

    for name in ("fedadam", "scaffold"):
        options = OPTIONS | {"rounds": 1, "client_fraction": 1.0}
        (plain,) = fedavg(normed, CLIENTS, **options)
        (other,) = fedavg(normed, CLIENTS, algorithm=make(name), **options)
        assert torch.equal(plain.model[0].running_mean, other.model[0].running_mean)
        assert torch.equal(plain.model[0].num_batches_tracked, other.model[0].num_batches_tracked)


def test_clients_without_examples_are_never_selected() -> None:
    class Empty:
        inputs = torch.zeros(0, 3)
        labels = torch.zeros(0, dtype=torch.int64)

        def __len__(self) -> int:
            return 0

    clients = [Empty(), CLIENTS[0], Empty(), CLIENTS[1], CLIENTS[2]]
    options = OPTIONS | {"rounds": 10, "client_fraction": 0.4}
    results = fedavg(build, clients, algorithm=make("scaffold"), participants=[1, 3, 4], **options)
    selected = [result.selected_clients for result in results]
    assert {1, 3, 4} == {k for each in selected for k in each}
    assert {2} == {len(each) for each in selected}  # 0.4 of all five
    with pytest.raises(ValueError, match="no client has examples"):
        next(fedavg(build, clients, participants=[], **options))
