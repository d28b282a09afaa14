"""The client's half of Federated Averaging: ClientUpdate of Algorithm 1, and what it trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from fedbench.core.algorithm import GradientTerm
from fedbench.core.evaluation import in_fast_layout
from fedbench.core.flat import FlatModel
from fedbench.core.streams import Purpose, derive_seed


class Client(Protocol):
    """What `fedavg` asks of a client: n_k before a round; its examples when it trains, once a round."""

    def __len__(self) -> int: ...

    @property
    def inputs(self) -> Tensor: ...  # noqa: D102 - see ClientData

    @property
    def labels(self) -> Tensor: ...  # noqa: D102 - see ClientData


@dataclass(frozen=True)
class ClientData:
    """A client whose examples, P_k, are in memory: ``inputs`` (n_k, ...) floating, ``labels`` (n_k,) int64."""

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels) or len(self.labels) == 0:
            raise ValueError(f"a client needs as many inputs as labels, not {len(self.inputs)} and {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)


@torch.enable_grad()  # whoever asks for the next update may do so without gradients
def client_update(
    model: FlatModel,
    data: Client,
    local_epochs: int,
    batch_size: int | None,
    learning_rate: float,
    order: torch.Generator,
    gradient_term: GradientTerm | None = None,
    cancelled: Event | None = None,
) -> float:
    """ClientUpdate(k, w): E epochs of minibatch SGD on P_k, in place; returns the mean loss over its examples.

    Each epoch is shuffled anew from the stream `order`, and its last batch may be smaller than B. `gradient_term`
    of the parameters is added to each step's gradient. Once `cancelled` is set it raises `CancelledError`.
    """
    model.module.train()
    backpropagate = _own_backpropagation(model.module) or partial(_backpropagate, model)
    inputs, labels = data.inputs, data.labels
    size = batch_size or len(data)
    total_loss = torch.zeros((), device=inputs.device)
    for _ in range(local_epochs):
        permutation = torch.randperm(len(data), generator=order).to(labels.device)
        batches = torch.split(in_fast_layout(inputs.index_select(0, permutation)), size)
        for batch, target in zip(batches, torch.split(labels[permutation], size), strict=True):
            if cancelled is not None and cancelled.is_set():
                raise CancelledError
            loss = backpropagate(batch, target)
            if gradient_term is not None:
                model.gradients.add_(gradient_term(model.parameters))
            model.descend(learning_rate)  # w ← w − η∇ℓ(w; b)
            total_loss.add_(loss, alpha=len(target))
    return total_loss.item() / (local_epochs * len(data))


def _backpropagate(model: FlatModel, inputs: Tensor, labels: Tensor) -> Tensor:
    """ℓ(w; b), the mean loss of a batch; its gradient is in `model.gradients`."""
    model.gradients.zero_()
    loss = F.cross_entropy(model.module(inputs), labels)  # right for logits and for log-probabilities alike
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _own_backpropagation(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The module's method `backpropagate`, which does the same, if it has one that belongs to its `forward`."""
    for each in type(module).__mro__:
        if methods := vars(each).keys() & {"forward", "backpropagate"}:
            return getattr(module, "backpropagate", None) if len(methods) == 2 else None
    return None


def draws_random_numbers(model: FlatModel, inputs: Tensor) -> bool:
    """Whether `model` draws from PyTorch's global random state in training mode. Its buffers may change."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        model.module.train()(in_fast_layout(inputs))
        return not torch.equal(before, torch.get_rng_state())


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
