"""Federated Averaging: Algorithm 1 of McMahan et al. (2017), arXiv:1602.05629, with the paper's symbols.

K clients hold n_k examples each. In each round t the server selects m = max(round(C·K), 1) of them, S_t; each runs E
epochs of minibatch SGD (batches of B, learning rate η) from the server's model w_t; the server averages the results
with weights n_k / Σ_{j∈S_t} n_j. C = 1, E = 1 and B = ∞ make it FedSGD. Another `Algorithm` adds to the clients'
gradients, lets them send more than their parameters, or does more with the average.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from typing import Literal

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fedbench.core.algorithm import Algorithm, Memory, ServerUpdate, Task
from fedbench.core.averaging import weighted_average
from fedbench.core.client import Client, client_update, draws_random_numbers, global_random_state, initial_model
from fedbench.core.flat import FlatModel, ModelState
from fedbench.core.ordered_map import OrderedMap
from fedbench.core.streams import Purpose, derive_seed, numpy_stream, torch_stream

Aggregate = Callable[[Iterable[ModelState], Sequence[float]], ModelState]
FEDAVG = Algorithm()


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
    memory
        What the algorithm remembers. Nothing in FedAvg.
    """

    round: int
    model: nn.Module
    selected_clients: tuple[int, ...]
    train_loss: float
    client_models: tuple[nn.Module, ...] = field(default=(), repr=False)
    memory: Memory = field(default=Memory(), repr=False)


def fedavg(
    build_model: Callable[[], nn.Module],
    clients: Sequence[Client],
    *,
    rounds: int,
    local_epochs: int,
    learning_rate: float,
    batch_size: int | None = None,
    client_fraction: float = 1.0,
    init: Literal["shared", "independent"] = "shared",
    seed: int = 0,
    algorithm: Algorithm = FEDAVG,
    aggregate: Aggregate = weighted_average,
    participants: Sequence[int] | None = None,
    keep_client_models: Container[int] = (),
    resume_from: tuple[int, Mapping[str, Tensor], Memory] | None = None,
    map_clients: OrderedMap = map,
) -> Iterator[RoundResult]:
    """Run Federated Averaging and yield each round's result.

    Parameters
    ----------
    build_model
        Makes a new model; it is called with the global random state set from `seed`, which is restored afterwards.
    clients
        K clients. Only the selected ones are asked for, so it may make them when they are.
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
    algorithm
        What the clients and the server do beyond Federated Averaging.
    aggregate
        The server's average. Where clients send messages, a state's vector has the message at its end.
    participants
        The clients that can be selected, ascending; None: all. A client without examples is none of them: its weight
        n_k is 0.
    keep_client_models
        The rounds whose results hold the clients' own models (m copies of the model).
    resume_from
        A finished round, the ``state_dict()`` of its averaged model and its memory: go on after it. The rounds that
        follow have the bits that they would have had without the interruption, since every random stream is a round's
        own.
    map_clients
        Trains a round's clients, in any order, and gives their models in the order of the clients: ``map`` does so one
        after the other, another `OrderedMap` may use several threads. The bits are the same. A model that draws
        random numbers in training mode, as dropout does, is always trained by ``map``, since PyTorch has one random
        state a process, and so is one that is not on the CPU.

    Raises
    ------
    ValueError
        When the first round is asked for, if an argument makes no sense.
    """
    _require_sense(clients, rounds, local_epochs, learning_rate, batch_size, client_fraction, init)
    able = range(len(clients)) if participants is None else participants
    if len(able) == 0:
        raise ValueError("no client has examples")
    m = num_selected(client_fraction, len(able))
    examples = clients[able[0]].inputs[:2].clone()

    def draw(client: int) -> FlatModel:
        return FlatModel(initial_model(build_model, seed, client).to(examples.device))

    server = draw(client=0)
    worker = draw(client=0)
    if worker.module is server.module:
        raise ValueError("build_model must make a new model each time that it is called")
    if examples.device.type != "cpu" or draws_random_numbers(worker, examples[:batch_size]):
        map_clients = map
    idle: SimpleQueue[FlatModel] = SimpleQueue()  # models for clients to train in, as many as train at once
    idle.put(worker)
    finished = 0
    memory = Memory(algorithm.initial(server.parameters))
    if resume_from is not None:
        finished, state, memory = resume_from
        server.module.load_state_dict(state)
        memory = memory.to(examples.device)
    num_parameters, length = len(server.parameters), len(server.vector)
    silent = torch.zeros_like(server.parameters)  # the sum of no messages
    cancelled = Event()

    def train(task: tuple[int, int, ModelState]) -> tuple[ModelState, float, nn.Module | None]:
        t, k, start = task
        try:
            worker = idle.get_nowait()
        except Empty:
            worker = FlatModel(copy.deepcopy(server.module))
        worker.load(start)
        order = torch_stream(seed, Purpose.BATCH_ORDER, t, k)
        noise = derive_seed(seed, Purpose.MODEL_NOISE, t, k)
        known = Task(start.vector[:num_parameters], memory.server, memory.sent.get(k, silent), learning_rate)
        term = algorithm.gradient_term(known)
        with global_random_state(noise) if map_clients is map else nullcontext(), record_function("fedbench/training"):
            loss = client_update(worker, clients[k], local_epochs, batch_size, learning_rate, order, term, cancelled)
        state = worker.state()
        steps = local_epochs * -(-len(clients[k]) // (batch_size or len(clients[k])))
        if (message := algorithm.message(worker.parameters, steps, known)) is not None:
            state = ModelState(torch.cat([state.vector, message]), state.counters)
        trained = state, loss, copy.deepcopy(worker.module) if t in keep_client_models else None
        idle.put(worker)
        return trained

    def server_step(t: int, selected: Sequence[int]) -> RoundResult:
        nonlocal memory
        own_start = init == "independent" and t == 1
        global_state = server.state()
        tasks = ((t, k, draw(client=k).state() if own_start else global_state) for k in selected)
        sizes = [len(clients[k]) for k in selected]
        losses: list[float] = []
        kept: list[nn.Module] = []
        sent = dict(memory.sent)

        def client_updates() -> Iterator[ModelState]:
            for k, (state, loss, own_model) in zip(selected, map_clients(train, tasks), strict=True):
                losses.append(loss)
                if own_model is not None:
                    kept.append(own_model)
                if len(state.vector) > length:
                    sent[k] = memory.sent.get(k, silent) + state.vector[length:]
                yield state

        average = aggregate(client_updates(), sizes)
        update = ServerUpdate(
            start=global_state.vector[:num_parameters],
            memory=memory.server,
            message=average.vector[length:] if len(average.vector) > length else None,
            fraction=len(selected) / len(able),
        )
        parameters, remembered = algorithm.server_step(average.vector[:num_parameters], update)
        memory = Memory(remembered, sent)
        server.load(ModelState(average.vector[:length], average.counters))
        server.set_parameters(parameters)
        train_loss = sum(n * loss for n, loss in zip(sizes, losses, strict=True)) / sum(sizes)
        return RoundResult(t, server.module, tuple(selected), train_loss, tuple(kept), memory)

    try:
        for t in range(finished + 1, rounds + 1):
            random_state = torch.get_rng_state()
            with record_function("fedbench/averaging"):
                result = server_step(t, [able[i] for i in select_clients(seed, t, len(able), m)])
            if map_clients is not map and not torch.equal(random_state, torch.get_rng_state()):
                raise RuntimeError("the model draws random numbers, but not at first: train its clients with map")
            yield result
    finally:
        cancelled.set()


def _require_sense(
    clients: Sequence[Client],
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
