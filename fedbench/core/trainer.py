"""Trains the selected clients of a round, in turn or in threads, with the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Self

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fedbench.core.client import Augment, Client, LocalTraining, augmented, client_update
from fedbench.core.evaluation import in_fast_layout
from fedbench.core.flat import FlatModel, ModelState
from fedbench.core.state import ServerState
from fedbench.core.streams import Purpose, derive_seed, numpy_stream, torch_stream
from fedbench.core.threads import thread_map
from fedbench.hooks import Algorithm, ClientContext
from fedbench.kernels import Stop
from fedbench.util.errors import RunError


@dataclass(frozen=True)
class ClientUpdate:
    """What a client returns after its local training.

    Attributes
    ----------
    client
        k.
    state
        Its model, w^k_{t+1}.
    message
        (P,) what its algorithm sends alongside; None for nothing.
    loss
        The mean cross-entropy over its local steps.
    """

    client: int
    state: ModelState
    message: Tensor | None
    loss: float


class Trainer:
    """Trains clients of one model by one algorithm. A context manager: at its end, clients that still train stop.

    Parameters
    ----------
    build_model, clients, algorithm, seed
        See `fedavg`.
    local
        How each client trains.
    num_threads
        How many clients train at once, asked before each round. A model that is not on the CPU, or that draws random
        numbers in training mode as dropout does, trains one client at a time: PyTorch has one random state a process.
        So does a model whose augmentation draws from it, which is better off with its own generator.
    first
        A client with examples, by which the device and the kind of model are found out.
    """

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        clients: Sequence[Client],
        algorithm: Algorithm,
        seed: int,
        local: LocalTraining,
        num_threads: Callable[[], int],
        first: int = 0,
    ) -> None:
        self.clients = clients
        self.algorithm = algorithm
        self.seed = seed
        self.local = local
        examples = clients[first].inputs[:2].clone()
        self.device = examples.device
        self._build_model = build_model
        worker, self._template = self.initial_model(client=0), self.initial_model(client=0).module
        if worker.module is self._template:
            raise ValueError("build_model must make a new model each time that it is called")
        may_draw = worker.kernels is None or local.augmentation is not None
        draws = may_draw and _draws_random_numbers(worker, examples[: local.batch_size], local.augmentation)
        may_share = self.device.type == "cpu" and not draws
        self._num_threads = num_threads if may_share else lambda: 1
        self._idle: SimpleQueue[FlatModel] = SimpleQueue()  # models to train in, as many as clients train at once
        self._idle.put(worker)
        self._no_message = torch.zeros_like(worker.parameters)
        self._stop = Stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def initial_model(self, client: int) -> FlatModel:
        """A new model drawn from a client's own stream; client 0's is w_0."""
        return FlatModel(initial_model(self._build_model, self.seed, client).to(self.device))

    def train(self, server: ServerState, selected: Sequence[int], own_start: bool) -> Iterator[ClientUpdate]:
        """Train the `selected` clients in the round after `server`, and yield their updates in this order.

        Few updates are in memory at once. With `own_start` each client starts from its own initial model instead of
        the server's.
        """
        random_state, num_threads = torch.get_rng_state(), self._num_threads()
        starts = ((k, self.initial_model(k).state() if own_start else server.model) for k in selected)
        in_turn = num_threads <= 1
        yield from thread_map(lambda start: self._update(server, *start, in_turn), starts, num_threads)
        if not in_turn and not torch.equal(random_state, torch.get_rng_state()):
            raise RuntimeError("training draws random numbers, but did not at first: train the clients in one thread")

    def _update(self, server: ServerState, client: int, start: ModelState, in_turn: bool) -> ClientUpdate:
        try:
            worker = self._idle.get_nowait()
        except Empty:
            worker = FlatModel(copy.deepcopy(self._template))
        worker.load(start)
        data, local, t = self.clients[client], self.local, server.round + 1
        sent = server.sent.get(client, self._no_message)
        learning_rate = local.learning_rate_in(t)
        context = ClientContext(start.vector[: len(worker.parameters)], server.memory, sent, learning_rate)
        term = self.algorithm.gradient_term(context)
        order = numpy_stream(self.seed, Purpose.BATCH_ORDER, t, client)
        augment = None
        if local.augmentation is not None:
            stream = torch_stream(self.seed, Purpose.AUGMENTATION, t, client)
            augment = partial(augmented, local.augmentation, stream)
        noise = derive_seed(self.seed, Purpose.MODEL_NOISE, t, client)
        with global_random_state(noise) if in_turn else nullcontext(), record_function("fedbench/training"):
            settings = (local.local_epochs, local.batch_size, learning_rate)
            more = (local.optimiser, local.clip_norm, augment)
            try:
                loss = client_update(worker, data, *settings, order, term, self._stop, *more)
            except RunError as error:
                raise RunError(f"client {client}: {error}") from error
        message = self.algorithm.message(worker.parameters, local.num_steps(len(data)), context)
        update = ClientUpdate(client, worker.state(), message, loss)
        self._idle.put(worker)
        return update


def initial_model(build_model: Callable[[], nn.Module], seed: int, client: int) -> nn.Module:
    """A new model drawn from `client`'s own stream."""
    with global_random_state(derive_seed(seed, Purpose.INIT, client)):
        return build_model()


@contextmanager
def global_random_state(seed: int) -> Iterator[None]:
    """PyTorch's global random state set from `seed`, for what draws from nothing else; restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _draws_random_numbers(model: FlatModel, inputs: Tensor, augmentation: Augment | None) -> bool:
    """Whether training draws from PyTorch's global random state. The model's buffers may change.

    An error of the model is not raised here: that of training names the client and its batch.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        with suppress(ValueError):
            if augmentation is not None:
                inputs = augmented(augmentation, torch.Generator(), inputs)
            model.module.train()(in_fast_layout(inputs))
        return not torch.equal(before, torch.get_rng_state())
