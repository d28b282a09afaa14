"""The average of models whose units were put into one order before."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from torch import Tensor, nn
from torch.profiler import record_function

from fedbench.core.alignment.matching import orders_by_activations, orders_by_weights, permute
from fedbench.core.alignment.repair import moments_of, repair_in_place
from fedbench.core.alignment.units import Architecture
from fedbench.core.averaging import WeightedMean
from fedbench.core.flat import FlatModel, ModelState

By = Literal["weights", "activations"]
MAX_PASSES = 10  # over more than two models


class AlignedMean:
    """An accumulator: the `WeightedMean` of models, the units of each in the order of the first's.

    Of more than two models, each is then aligned with the mean of the others, in turn, until none changes: MergeMany,
    algorithm 3 of Ainsworth, Hayase and Srinivasa (2023), arXiv:2209.04836, but in a fixed order. Units that have
    frozen parameters stay where they are, since the server does not average these.

    Parameters
    ----------
    architecture
        That of the models.
    model
        One of them, with the frozen parameters that all have.
    inputs
        (N, ...) what the activations are of; not read by weights without repair.
    by, is_repaired
        See `fedbench.core.align` and `fedbench.core.repair`.

    Attributes
    ----------
    aligned
        The models as they were averaged, in the order in which they were added.
    """

    def __init__(
        self,
        architecture: Architecture,
        model: nn.Module,
        inputs: Tensor,
        by: By = "weights",
        is_repaired: bool = False,
    ) -> None:
        frozen = {name for name, each in model.named_parameters(remove_duplicate=False) if not each.requires_grad}
        self._units = [each for each in architecture.units if not any(place.name in frozen for place in each.places)]
        self._program, self._inputs, self._by, self._is_repaired = architecture.program, inputs, by, is_repaired
        self._own, self._other = (FlatModel(copy.deepcopy(model).eval()) for _ in range(2))
        self._shares: list[float] = []
        self.aligned: tuple[ModelState, ...] = ()

    def add(self, state: ModelState, share: float) -> None:
        """Add a model with its share."""
        self.aligned = (*self.aligned, state)
        self._shares.append(share)

    @record_function("fedbench/averaging")
    def state(self) -> ModelState:
        """The mean of what was added."""
        states = list(self.aligned)
        for k in range(1, len(states)):
            self._align(states, k, states[0])
        for _ in range(MAX_PASSES if len(states) > 2 else 0):
            if not sum(self._align(states, k, self._mean(states, left_out=k)) for k in range(len(states))):
                break
        self.aligned = tuple(states)
        mean = self._mean(states)
        if self._is_repaired:
            self._other.load(mean)
            moments = [moments_of(self._program, model, self._inputs) for model in self._modules(states)]
            repair_in_place(self._program, self._other.module, moments, self._shares, self._inputs)
            mean = self._other.state().head(len(mean.vector))
        return mean

    def _align(self, states: list[ModelState], k: int, to: ModelState) -> bool:
        """Put the units of one model into the order of another's; False if they are."""
        self._own.load(states[k])
        self._other.load(to)
        model, other = self._own.module, self._other.module
        if self._by == "weights":
            orders = orders_by_weights(self._units, model, other)
        else:
            orders = orders_by_activations(self._program, self._units, model, other, self._inputs)
        if all((order == np.arange(len(order))).all() for order in orders):
            return False
        permute(model, self._units, orders)
        states[k] = self._own.state().head(len(to.vector))
        return True

    def _mean(self, states: Sequence[ModelState], left_out: int | None = None) -> ModelState:
        mean, rest = WeightedMean(), 1.0 if left_out is None else 1 - self._shares[left_out]
        for k, (state, share) in enumerate(zip(states, self._shares, strict=True)):
            if k != left_out:
                mean.add(state, share / rest)
        return mean.state()

    def _modules(self, states: Sequence[ModelState]) -> Iterator[nn.Module]:
        for state in states:
            self._own.load(state)
            yield self._own.module
