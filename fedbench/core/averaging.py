"""The weighted average of models: the server's half of Federated Averaging."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fedbench import kernels
from fedbench.core.chains import flat_parameters
from fedbench.core.flat import ModelState, at_least_float32


class WeightedMean:
    """Σ_k share_k · w_k, summed in the order given, holding one sum. The aggregation of Federated Averaging.

    The sum is kept in double precision and rounded to the models' type at the end. Counters, such as BatchNorm's number
    of batches, are those of the largest share (the first of equals).
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._type = torch.float32
        self._counters: tuple[Tensor, ...] = ()
        self._largest = 0.0

    @record_function("fedbench/averaging")
    @torch.no_grad()
    def add(self, state: ModelState, share: float) -> None:
        """Add a state with its share, n_k / n. A share of zero adds nothing, not even what is not finite."""
        if share == 0:
            return
        vector = state.vector
        if self._sum is None:
            self._type = vector.dtype
            self._sum = torch.zeros_like(vector, dtype=torch.promote_types(vector.dtype, torch.float64))
        if not kernels.add_scaled(self._sum, vector, share):
            self._sum.add_(vector.to(self._sum.dtype), alpha=share)
        if share > self._largest:
            self._largest, self._counters = share, state.counters

    @property
    def vector(self) -> Tensor | None:
        """The mean of the vectors that were added; None if there are none."""
        return None if self._sum is None else self._sum.to(self._type)

    def state(self) -> ModelState:
        """The mean of what was added."""
        if (vector := self.vector) is None:
            raise ValueError("there are no models to average")
        return ModelState(vector, self._counters)


def normalise_weights(weights: Iterable[float]) -> list[float]:
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
def average_model_parameters(models: Iterable[nn.Module], weights: Iterable[float]) -> nn.Module:
    """A new model whose parameters and buffers are the `WeightedMean` of those of `models`.

    Parameters
    ----------
    models
        Models of one architecture: equal names, shapes and types of all parameters and buffers. They are not changed.
    weights
        One a model, finite, not negative, not all zero. They are scaled to sum to one, so both ``[0.5, 0.5]`` and
        numbers of examples will do.

    Returns
    -------
    nn.Module
        A copy of the first model, with the average in it.

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
    require_equal_architectures(models)
    tensors = [_named_tensors(model) for model in models]
    average = copy.deepcopy(models[0])
    for name, target in _named_tensors(average).items():
        mean = WeightedMean()
        for share, each in zip(shares, tensors, strict=True):
            tensor = each[name].to(target.device)
            mean.add(ModelState(tensor) if _is_averaged(target) else ModelState(tensor.new_empty(0), (tensor,)), share)
        target.copy_(mean.state().vector if _is_averaged(target) else mean.state().counters[0])
    return average


@torch.no_grad()
def interpolate(first: nn.Module, second: nn.Module, theta: float) -> nn.Module:
    """A new model on the line through two models: θ·w + (1 − θ)·w′, also outside [0, 1].

    What is equal in both stays as it is, infinities too. Buffers that are not floating are the first model's. The
    models are of one architecture.

    Notes
    -----
    McMahan et al. (2017), figure 1: θ = 1/2 is the average of two clients with equally many examples.
    """
    between = copy.deepcopy(second)
    others = _named_tensors(first)
    for name, target in _named_tensors(between).items():
        if _is_averaged(target):
            is_equal = target == others[name]
            w, other = (each.to(torch.promote_types(each.dtype, torch.float64)) for each in (others[name], target))
            target.copy_(other.where(is_equal, other + theta * (w - other)))
        else:
            target.copy_(others[name])
    return between


@torch.no_grad()
def distance(first: nn.Module, second: nn.Module) -> float:
    """The Euclidean distance ‖w − w′‖₂ between the parameters of two models of one architecture."""
    if (squared := kernels.squared_distance(*(flat_parameters(each) for each in (first, second)))) is not None:
        return math.sqrt(squared)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return float(torch.linalg.vector_norm(torch.cat([_difference(one, other).flatten() for one, other in pairs])))


def _difference(one: Tensor, other: Tensor) -> Tensor:
    """Zero also where both are the same infinity, as in a frozen mask."""
    one, other = at_least_float32(one), at_least_float32(other)
    return (one - other).masked_fill(one == other, 0)


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _is_averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def require_equal_architectures(models: Sequence[nn.Module]) -> None:
    """Raise a `ValueError` unless the parameters and buffers of all models have equal names, shapes and types."""
    first, *others = map(_named_tensors, models)
    for index, other in enumerate(others, start=1):
        _require_equal_architecture(first, other, index)


def _require_equal_architecture(first: dict[str, Tensor], other: dict[str, Tensor], index: int) -> None:
    if odd := sorted(first.keys() ^ other.keys()):
        raise ValueError(f"model {index} has another architecture than model 0: only one of them has {odd[0]!r}")
    for name, tensor in first.items():
        if (tensor.shape, tensor.dtype) != (other[name].shape, other[name].dtype):
            raise ValueError(
                f"model {index} has another architecture than model 0: {name!r} is {tuple(other[name].shape)} "
                f"{other[name].dtype} there and {tuple(tensor.shape)} {tensor.dtype} here"
            )
