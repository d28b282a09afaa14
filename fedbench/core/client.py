"""The client's half of Federated Averaging: ClientUpdate of Algorithm 1, and what it trains on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from fedbench.core.chains import can_compute, own_attribute
from fedbench.core.evaluation import in_fast_layout
from fedbench.core.flat import FlatModel, at_least_float32
from fedbench.core.streams import permutation
from fedbench.hooks import AffineTerm, GradientTerm
from fedbench.kernels import Kernels, Stop
from fedbench.util.errors import RunError, one_line

MakeOptimiser = Callable[[Iterable[Tensor], float], torch.optim.Optimizer]  # of parameters and a learning rate
Augment = Callable[[Tensor, torch.Generator], Tensor]  # (B, ...) inputs -> as many


class Client(Protocol):
    """What `fedavg` needs of a client: n_k before a round; its examples when it trains, once a round."""

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


@dataclass(frozen=True)
class LocalTraining:
    """How every client trains: E epochs, batches of B (None: the client's whole set), learning rate η in round 1.

    The other fields are those of `fedavg`.
    """

    local_epochs: int
    batch_size: int | None
    learning_rate: float
    learning_rate_decay: float = 1.0
    optimiser: MakeOptimiser | None = None
    clip_norm: float | None = None
    augmentation: Augment | None = None

    def __post_init__(self) -> None:
        if self.local_epochs < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError(f"local_epochs={self.local_epochs} and batch_size={self.batch_size} must be at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate={self.learning_rate} must be positive and finite")
        if not 0 < self.learning_rate_decay <= 1:
            raise ValueError(f"learning_rate_decay={self.learning_rate_decay} must be above 0 and at most 1")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm={self.clip_norm} must be positive")

    def learning_rate_in(self, t: int) -> float:
        """η_t = η · decay^(t − 1)."""
        return self.learning_rate * self.learning_rate_decay ** (t - 1)

    def num_steps(self, num_examples: int) -> int:
        """The number of SGD steps of a client with n_k examples: E · ⌈n_k / B⌉."""
        return self.local_epochs * -(-num_examples // (self.batch_size or num_examples))


@torch.enable_grad()  # also for a caller that asks for the update without gradients
def client_update(
    model: FlatModel,
    data: Client,
    local_epochs: int,
    batch_size: int | None,
    learning_rate: float,
    order: np.random.Generator,
    gradient_term: GradientTerm | None = None,
    stop: Stop | None = None,
    optimiser: MakeOptimiser | None = None,
    clip_norm: float | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """ClientUpdate(k, w): E epochs of minibatch SGD on P_k, in place; returns the mean loss over its examples.

    Each epoch is reshuffled from the stream `order`; its last batch may be smaller than B. `gradient_term` of the
    parameters is added to each step's gradient, which is then scaled down to the Euclidean norm `clip_norm`, as
    `torch.nn.utils.clip_grad_norm_` does. Without an `optimiser` the steps are those of plain SGD. `augment` changes
    the inputs of a batch. Once `stop` is set it raises `CancelledError`.

    Raises
    ------
    RunError
        If a batch has one example and the model cannot train on it, or the optimiser or the augmentation returns what
        it must not.
    """
    inputs, labels = data.inputs, data.labels
    size = batch_size or len(data)
    stop = stop or Stop()
    orders = (permutation(order, len(data)) for _ in range(local_epochs))
    kernels = model.kernels if model.kernels and can_compute(model.kernels, inputs, labels) else None
    is_plain = optimiser is None or getattr(optimiser, "is_plain", False)
    term = gradient_term if isinstance(gradient_term, AffineTerm) else None
    if kernels and is_plain and term is gradient_term and clip_norm is None and augment is None:
        examples, order_of_all = (inputs.contiguous(), labels.contiguous()), np.stack(list(orders))
        total = kernels.update(model.parameters, *examples, order_of_all, size, learning_rate, term, stop)
        if stop.is_set():
            raise CancelledError
        return total / (local_epochs * len(data))
    model.module.train()
    backpropagate = _backpropagation(model, kernels)
    lay_out = Tensor.contiguous if kernels else in_fast_layout
    step = _steps(model, optimiser, learning_rate)
    total_loss = torch.zeros((), device=inputs.device)
    for epoch in orders:
        indices = torch.from_numpy(epoch).to(labels.device)
        batches = torch.split(lay_out(inputs.index_select(0, indices)), size)
        for number, (batch, target) in enumerate(zip(batches, torch.split(labels[indices], size), strict=True), 1):
            if stop.is_set():
                raise CancelledError
            seen = batch if augment is None else lay_out(augment(batch))
            try:
                loss = backpropagate(seen, target)
            except ValueError as error:  # as BatchNorm raises
                if len(target) > 1:
                    raise
                raise _too_small(error, f"batch {number} of {len(batches)}", size, len(data)) from error
            if gradient_term is not None:
                model.gradients.add_(gradient_term(model.parameters))
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters, clip_norm)
            step()  # w ← w − η∇ℓ(w; b)
            total_loss.add_(loss, alpha=len(target))
    return total_loss.item() / (local_epochs * len(data))


def _backpropagation(model: FlatModel, kernels: Kernels | None) -> Callable[[Tensor, Tensor], Tensor]:
    """What computes a batch's mean loss and sets its gradient."""
    if kernels is None:
        return own_attribute(model.module, "backpropagate") or partial(_backpropagate, model)

    def backpropagate(inputs: Tensor, labels: Tensor) -> Tensor:
        return torch.tensor(kernels.gradient(model.parameters, inputs, labels, model.gradients) / len(labels))

    return backpropagate


def _backpropagate(model: FlatModel, inputs: Tensor, labels: Tensor) -> Tensor:
    """ℓ(w; b), the mean loss of a batch; its gradient is in `model.gradients`."""
    model.gradients.zero_()
    loss = F.cross_entropy(at_least_float32(model.module(inputs)), labels)  # right for logits and for log-probabilities
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _steps(model: FlatModel, optimiser: MakeOptimiser | None, learning_rate: float) -> Callable[[], object]:
    """What takes a step along `model.gradients`."""
    if optimiser is None or getattr(optimiser, "is_plain", False):
        return partial(model.descend, learning_rate)
    is_elementwise = getattr(optimiser, "is_elementwise", False)
    trained = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
    made = optimiser([model.parameters] if is_elementwise else trained, learning_rate)
    if not isinstance(made, torch.optim.Optimizer):
        raise RunError(f"optimiser: it returned a {type(made).__name__} instead of a torch.optim.Optimizer")
    return made.step


def augmented(augmentation: Augment, generator: torch.Generator, inputs: Tensor) -> Tensor:
    """What an augmentation makes of a batch of inputs (B, ...).

    Raises
    ------
    RunError
        If it is no batch of the same size and type.
    """
    changed = augmentation(inputs, generator)
    if not isinstance(changed, Tensor):
        raise RunError(f"augmentation: it returned a {type(changed).__name__} instead of a tensor")
    if (changed.shape[:1], changed.dtype) != (inputs.shape[:1], inputs.dtype):
        found, wanted = (f"shape {tuple(each.shape)} and type {each.dtype}" for each in (changed, inputs))
        raise RunError(f"augmentation: it returned {found} for inputs of {wanted}")
    return changed


def _too_small(error: ValueError, batch: str, batch_size: int, num_examples: int) -> RunError:
    return RunError(
        f"{batch} has one example (of {num_examples}, batch_size {min(batch_size, num_examples)}), on which the model "
        f"cannot train: {one_line(error)}; set another batch_size or examples_per_client, or normalise without "
        "statistics of the batch, as by nn.GroupNorm"
    )
