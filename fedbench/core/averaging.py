"""The weighted average of models: the server's half of Federated Averaging."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fedbench.core.flat import ModelState


def normalise_weights(weights: Sequence[float]) -> list[float]:
    """Scale weights to sum to one: n_k / Σ_j n_j in the paper's Algorithm 1.

    Raises
    ------
    ValueError
        If there are none, or one is negative or not finite, or all are zero.
    """
    try:
        values = [float(weight) for weight in weights]
    except OverflowError:
        raise ValueError("a weight is too large: give smaller weights") from None
    if not values:
        raise ValueError("there are no weights: give one for each model")
    for index, value in enumerate(values):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"weight {index} is {value}: weights must be finite and not negative")
    total = sum(values)
    if total == 0:
        raise ValueError("all weights are zero: at least one must be positive")
    if not math.isfinite(total):
        raise ValueError("the sum of the weights is not finite: give smaller weights")
    return [value / total for value in values]


@torch.no_grad()
def weighted_average(states: Iterable[ModelState], weights: Sequence[float]) -> ModelState:
    """Σ_k w_k · state_k, summed in the order given, holding one state at a time beside the sum.

    Parameters
    ----------
    states
        One state a client, all of one model. May be a generator that trains each client as it is asked for.
    weights
        One a state; they need not sum to one. Counters are those of the largest weight's state (the first of equals).

    Raises
    ------
    ValueError
        For weights that `normalise_weights` refuses, or of another number than the states.
    """
    shares = normalise_weights(weights)
    heaviest = max(range(len(shares)), key=shares.__getitem__)
    total: Tensor | None = None
    counters: tuple[Tensor, ...] = ()
    count = 0
    for index, state in enumerate(states):
        count += 1
        if index >= len(shares):
            continue  # counted, so that the error below can say how many there were
        if shares[index] == 0:  # a model without weight has no say, not even if it holds what is not finite
            continue
        if total is None:
            total = state.vector * shares[index]
        else:
            total.add_(state.vector, alpha=shares[index])
        if index == heaviest:
            counters = state.counters
    if total is None or count != len(shares):
        raise ValueError(f"there are {count} models but {len(shares)} weights")
    return ModelState(total, counters)


@torch.no_grad()
def average_model_parameters(models: Iterable[nn.Module], weights: Iterable[float]) -> nn.Module:
    """A new model whose parameters and buffers are the weighted average of those of `models`.

    Parameters
    ----------
    models
        Models of one architecture: equal names, shapes and types of all parameters and buffers. They are not changed.
    weights
        One a model, finite, not negative, not all zero. They are scaled to sum to one, so that both ``[0.5, 0.5]``
        and numbers of examples will do.

    Returns
    -------
    nn.Module
        A copy of the first model, with the average in it. Buffers that are not floating, such as BatchNorm's counter
        of batches, are those of the model of the largest weight (the first of equals).

    Raises
    ------
    ValueError
        If there are no models, the weights are of another number or unusable, or the architectures differ.

    Notes
    -----
    McMahan et al. (2017), Algorithm 1: w_{t+1} ← Σ_k n_k/n · w^k_{t+1}.
    """
    models, weights = list(models), list(weights)
    if not models:
        raise ValueError("there are no models to average")
    if len(models) != len(weights):
        raise ValueError(f"there are {len(models)} models but {len(weights)} weights")
    shares = normalise_weights(weights)
    tensors = [_named_tensors(model) for model in models]
    for index, other in enumerate(tensors[1:], start=1):
        _require_equal_architecture(tensors[0], other, index)

    average = copy.deepcopy(models[0])
    heaviest = tensors[max(range(len(shares)), key=shares.__getitem__)]
    for name, target in _named_tensors(average).items():
        if target.is_floating_point() or target.is_complex():
            target.zero_()
            for share, other in zip(shares, tensors, strict=True):
                if share > 0:  # a model without weight has no say, not even if it holds what is not finite
                    target.add_(other[name].to(target.device), alpha=share)
        else:
            target.copy_(heaviest[name])
    return average


@torch.no_grad()
def interpolate(first: nn.Module, second: nn.Module, theta: float) -> nn.Module:
    """A new model on the line through two models: θ·w + (1 − θ)·w′, outside [0, 1] too.

    Buffers that are not floating are the first model's. The models are of one architecture.

    Notes
    -----
    McMahan et al. (2017), figure 1: θ = 1/2 is the average of two clients with equally many examples.
    """
    between = copy.deepcopy(second)
    others = _named_tensors(first)
    for name, target in _named_tensors(between).items():
        if target.is_floating_point() or target.is_complex():
            target.lerp_(others[name], theta)  # w′ + θ·(w − w′)
        else:
            target.copy_(others[name])
    return between


@torch.no_grad()
def distance(first: nn.Module, second: nn.Module) -> float:
    """The Euclidean distance ‖w − w′‖₂ between the parameters of two models of one architecture."""
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return float(torch.linalg.vector_norm(torch.cat([(one - other).flatten() for one, other in pairs])))


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _require_equal_architecture(first: dict[str, Tensor], other: dict[str, Tensor], index: int) -> None:
    if odd := sorted(first.keys() ^ other.keys()):
        raise ValueError(f"model {index} has another architecture than model 0: only one of them has {odd[0]!r}")
    for name, tensor in first.items():
        if (tensor.shape, tensor.dtype) != (other[name].shape, other[name].dtype):
            raise ValueError(
                f"model {index} has another architecture than model 0: {name!r} is {tuple(other[name].shape)} "
                f"{other[name].dtype} there and {tuple(tensor.shape)} {tensor.dtype} here"
            )
