"""Federated Averaging: Algorithm 1 of McMahan et al. (2017), arXiv:1602.05629, with the paper's symbols.

K clients hold n_k examples each. In each round t the server selects m = max(round(C·K), 1) of them, S_t; each runs E
epochs of minibatch SGD (batches of B, learning rate η) from the server's model w_t; the server averages the results
with weights n_k / Σ_{j∈S_t} n_j. C = 1, E = 1 and B = ∞ make it FedSGD.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from fedbench.core.averaging import weighted_average
from fedbench.core.evaluation import in_fast_layout
from fedbench.core.flat import FlatModel, ModelState
from fedbench.core.streams import Purpose, derive_seed, numpy_stream, torch_stream

Aggregate = Callable[[Iterable[ModelState], Sequence[float]], ModelState]


@dataclass(frozen=True)
class ClientData:
    """One client's training examples, P_k: ``inputs`` (n_k, ...) floating, ``labels`` (n_k,) int64."""

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels) or len(self.labels) == 0:
            raise ValueError(f"a client needs as many inputs as labels, not {len(self.inputs)} and {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class RoundResult:
    """What one round left behind.

    Attributes
    ----------
    round
        t, counted from 1.
    model
        The averaged model. It is the server's own: the next round goes on from it, so copy it to keep it.
    selected_clients
        S_t, ascending.
    train_loss
        Mean cross-entropy over the round's local steps, each client weighted by n_k.
    client_models
        The selected clients' own models before averaging, for the rounds in `fedavg`'s `keep_client_models`.
    """

    round: int
    model: nn.Module
    selected_clients: tuple[int, ...]
    train_loss: float
    client_models: tuple[nn.Module, ...] = field(default=(), repr=False)


def fedavg(
    build_model: Callable[[], nn.Module],
    clients: Sequence[ClientData],
    *,
    rounds: int,
    local_epochs: int,
    learning_rate: float,
    batch_size: int | None = None,
    client_fraction: float = 1.0,
    init: Literal["shared", "independent"] = "shared",
    seed: int = 0,
    aggregate: Aggregate = weighted_average,
    keep_client_models: Container[int] = (),
    resume_from: tuple[int, Mapping[str, Tensor]] | None = None,
) -> Iterator[RoundResult]:
    """Run Federated Averaging and yield each round's result.

    Parameters
    ----------
    build_model
        Makes a new model; it is called with the global random state set from `seed`, which is restored afterwards.
    clients
        K clients' data. Only the selected ones are asked for, so it may load them lazily.
    rounds
        The number of server steps.
    local_epochs, batch_size, learning_rate
        E, B (None: the whole client set in one batch) and η.
    client_fraction
        C in [0, 1].
    init
        ``shared``: all clients start from one w_0. ``independent``: each draws its own before round 1, which is what
        makes the first average fail (section 2, figure 1). Client 0's is w_0 in both.
    seed
        Gives every random stream (see `fedbench.core.streams`).
    aggregate
        The server's average.
    keep_client_models
        The rounds whose results hold the clients' own models (m copies of the model).
    resume_from
        A finished round and the ``state_dict()`` of its averaged model: go on after it. The rounds that follow have
        the bits that they would have had without the interruption, since every random stream is a round's own.

    Raises
    ------
    ValueError
        When the first round is asked for, if an argument makes no sense.
    """
    _require_sense(clients, rounds, local_epochs, learning_rate, batch_size, client_fraction, init)
    m = num_selected(client_fraction, len(clients))
    device = clients[0].inputs.device

    def draw(client: int) -> FlatModel:
        return FlatModel(initial_model(build_model, seed, client).to(device))

    server = draw(client=0)
    worker = draw(client=0)  # the clients of a round train in it, one after the other
    if worker.module is server.module:
        raise ValueError("build_model must make a new model each time that it is called")
    finished = 0
    if resume_from is not None:
        finished, state = resume_from
        server.module.load_state_dict(state)

    def client_updates(t: int, selected: list[int], losses: list[float], kept: list[nn.Module]) -> Iterator[ModelState]:
        global_state = server.state()
        for k in selected:
            own_start = init == "independent" and t == 1
            worker.load(draw(client=k).state() if own_start else global_state)
            order = torch_stream(seed, Purpose.BATCH_ORDER, t, k)
            with global_random_state(derive_seed(seed, Purpose.MODEL_NOISE, t, k)):
                losses.append(client_update(worker, clients[k], local_epochs, batch_size, learning_rate, order))
            if t in keep_client_models:
                kept.append(copy.deepcopy(worker.module))
            yield worker.state()

    for t in range(finished + 1, rounds + 1):
        selected = select_clients(seed, t, len(clients), m)
        sizes = [len(clients[k]) for k in selected]
        losses: list[float] = []
        kept: list[nn.Module] = []
        server.load(aggregate(client_updates(t, selected, losses, kept), sizes))
        train_loss = sum(n * loss for n, loss in zip(sizes, losses, strict=True)) / sum(sizes)
        yield RoundResult(t, server.module, tuple(selected), train_loss, tuple(kept))


def _require_sense(
    clients: Sequence[ClientData],
    rounds: int,
    local_epochs: int,
    learning_rate: float,
    batch_size: int | None,
    client_fraction: float,
    init: str,
) -> None:
    if len(clients) == 0:
        raise ValueError("there are no clients")
    if rounds < 1 or local_epochs < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"rounds={rounds}, local_epochs={local_epochs} and batch_size={batch_size} must be at least 1")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate={learning_rate} must be positive and finite")
    if not 0 <= client_fraction <= 1:
        raise ValueError(f"client_fraction={client_fraction} must be in [0, 1]")
    if init not in ("shared", "independent"):
        raise ValueError(f"init={init!r} must be 'shared' or 'independent'")


def num_selected(client_fraction: float, num_clients: int) -> int:
    """The number of clients in a round, m = max(round(C·K), 1)."""
    return max(round(client_fraction * num_clients), 1)


def select_clients(seed: int, t: int, num_clients: int, m: int) -> list[int]:
    """S_t: m of K clients, drawn without replacement from round t's own stream, ascending."""
    if m == num_clients:
        return list(range(num_clients))
    stream = numpy_stream(seed, Purpose.CLIENT_SAMPLING, t)
    return sorted(int(k) for k in stream.choice(num_clients, m, replace=False))


@torch.enable_grad()  # whoever asks for the next update may do so without gradients
def client_update(
    model: FlatModel,
    data: ClientData,
    local_epochs: int,
    batch_size: int | None,
    learning_rate: float,
    order: torch.Generator,
) -> float:
    """ClientUpdate(k, w): E epochs of minibatch SGD on P_k, in place; returns the mean loss over its examples.

    Each epoch is shuffled anew from the stream `order`, and its last batch may be smaller than B.
    """
    module = model.module.train()
    total_loss = torch.zeros((), device=data.inputs.device)
    for _ in range(local_epochs):
        permutation = torch.randperm(len(data), generator=order).to(data.labels.device)
        inputs = in_fast_layout(data.inputs[permutation])
        labels = data.labels[permutation]
        size = batch_size or len(data)
        for batch, target in zip(torch.split(inputs, size), torch.split(labels, size), strict=True):
            model.gradients.zero_()
            loss = F.cross_entropy(module(batch), target)  # right for logits and for log-probabilities alike
            loss.backward()  # type: ignore[no-untyped-call]
            model.descend(learning_rate)  # w ← w − η∇ℓ(w; b)
            total_loss += loss.detach() * len(target)
    return total_loss.item() / (local_epochs * len(data))


def initial_model(build_model: Callable[[], nn.Module], seed: int, client: int) -> nn.Module:
    """A new model drawn from `client`'s own stream."""
    with global_random_state(derive_seed(seed, Purpose.INIT, client)):
        return build_model()


@contextmanager
def global_random_state(seed: int) -> Iterator[None]:
    """PyTorch's global random state set from `seed`, for what draws from nothing else; as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
