"""Federated Averaging: Algorithm 1 of McMahan et al. (2017), arXiv:1602.05629, with the paper's symbols.

K clients hold n_k examples each. In round t the server selects m = max(round(C·K), 1) clients, S_t; each runs E epochs
of minibatch SGD (batches of B, learning rate η) from the server's model w_t; the server averages the results with
weights n_k / Σ_{j∈S_t} n_j. C = 1, E = 1 and B = ∞ make it FedSGD. Another `Algorithm` adds to the clients' gradients,
lets them send a message alongside their parameters, or changes what the server does with the average. Clients may take
steps other than SGD's, and an aggregation other than the mean may combine their models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Literal

from torch import nn

from fedbench.core.averaging import WeightedMean
from fedbench.core.client import Augment, Client, LocalTraining, MakeOptimiser
from fedbench.core.flat import ModelState
from fedbench.core.rules import Accumulator
from fedbench.core.selection import require_valid, select_clients
from fedbench.core.state import RoundResult, ServerState
from fedbench.core.trainer import ClientUpdate, Trainer
from fedbench.hooks import Algorithm, ServerContext
from fedbench.util.errors import RunError
from fedbench.util.selection import num_selected


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
    algorithm: Algorithm = Algorithm(),  # noqa: B008 - frozen
    optimiser: MakeOptimiser | None = None,
    learning_rate_decay: float = 1.0,
    clip_norm: float | None = None,
    augmentation: Augment | None = None,
    aggregation: Callable[[], Accumulator] = WeightedMean,
    weights: Literal["examples", "uniform"] = "examples",
    average_frozen: bool = False,
    participants: Sequence[int] | None = None,
    server: ServerState | None = None,
    observe: Callable[[ClientUpdate], object] | None = None,
    num_threads: Callable[[], int] = lambda: 1,
) -> Iterator[RoundResult]:
    """Run Federated Averaging and yield each round's result.

    Parameters
    ----------
    build_model
        Makes a new model; called with the global random state set from `seed`, which is restored afterwards.
    clients
        K clients. Only the selected ones and the first participant are accessed, so the sequence may make them on
        demand. An algorithm that reads `ServerContext.fraction` asks all participants for their numbers of examples,
        once.
    rounds, local_epochs, batch_size, learning_rate, client_fraction
        The number of server steps; E; B (None: the client's whole set in one batch); η; C in [0, 1].
    init
        ``shared``: all clients start from one w_0. ``independent``: each draws its own before round 1, which is what
        makes the first average fail (section 2, figure 1). Client 0's is w_0 in both.
    seed
        Determines every random stream (see `fedbench.core.streams`).
    algorithm
        What the clients and the server do beyond Federated Averaging.
    optimiser
        Makes each client's optimiser in each round, from parameters and a learning rate; None: plain SGD.
    learning_rate_decay
        η_t = η · decay^(t − 1) in round t.
    clip_norm
        The largest Euclidean norm of a step's gradient, with all that is added to it; None: any.
    augmentation
        Changes the inputs of a batch at random, by a generator from the stream of (round, client).
    aggregation
        Makes what a round's models are added to; `accumulator_of` makes one of a rule.
    weights
        ``examples``: a client's weight is n_k / n. ``uniform``: it is 1 / m, in all sums over clients.
    average_frozen
        Whether parameters that do not require gradients are averaged too; otherwise they stay those of w_0.
    participants
        The clients that can be selected, ascending; None: all. Clients without examples must not be among them. Where
        there are fewer than m, each round has all of them; m itself is the same, since K counts all clients.
    server
        The state to resume from; the rounds that follow have the bits that they would have had without interruption.
    observe
        Is called with each client's update, in the order of the clients.
    num_threads
        How many clients train at once, asked before each round. The bits do not depend on it.

    Raises
    ------
    ValueError
        At the first round, if an argument is invalid.
    RunError
        A `ValueError` in one line, if the optimiser, augmentation or aggregation returns what it must not, or a batch
        has one example and the model cannot train on it.
    """
    able = range(len(clients)) if participants is None else participants
    require_valid(clients, able, rounds, client_fraction, init, weights)
    local = LocalTraining(
        local_epochs, batch_size, learning_rate, learning_rate_decay, optimiser, clip_norm, augmentation
    )
    m = min(num_selected(client_fraction, len(clients)), len(able))

    def weight(k: int) -> int:
        return len(clients[k]) if weights == "examples" else 1  # n_k

    total_weight = cache(lambda: sum(map(weight, able)))  # of all clients
    with Trainer(build_model, clients, algorithm, seed, local, num_threads, first=able[0]) as trainer:
        model = trainer.initial_model(client=0)  # w_0
        server = server or ServerState(0, model.state(), algorithm.initial(model.parameters))
        server = server.to(trainer.device)
        model.load(server.model)
        size = len(model.vector) - (0 if average_frozen else model.num_frozen)
        for t in range(server.round + 1, rounds + 1):
            selected = select_clients(seed, t, able, m)  # S_t
            sizes = {k: weight(k) for k in selected}
            n, loss, sent = sum(sizes.values()), 0.0, dict(server.sent)
            average, messages = aggregation(), WeightedMean()
            for update in trainer.train(server, selected, own_start=init == "independent" and t == 1):
                k, n_k = update.client, sizes[update.client]
                average.add(update.state.head(size), n_k / n)  # w_{t+1} ← Σ_k n_k/n · w^k_{t+1}
                loss += n_k * update.loss
                if update.message is not None:
                    messages.add(ModelState(update.message), n_k / n)
                    sent[k] = sent[k] + update.message if k in sent else update.message
                if observe is not None:
                    observe(update)
            combined, num_parameters = average.state(), len(model.parameters)
            aligned: tuple[ModelState, ...] = getattr(average, "aligned", ())
            if aligned and messages.vector is not None:
                raise RunError("aggregation: it permutes the clients' models but not the messages of this algorithm")
            start, mean = server.model.vector[:num_parameters], combined.vector[:num_parameters]
            context = ServerContext(start, server.memory, messages.vector, n, total_weight)
            parameters, memory = algorithm.server_step(mean, context)
            model.load(combined)
            model.set_parameters(parameters)
            server = ServerState(t, model.state(), memory, sent)
            kept = server.model if parameters is mean else combined
            yield RoundResult(t, model.module, tuple(selected), loss / n, server, kept, aligned)
