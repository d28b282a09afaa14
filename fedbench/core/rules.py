"""Rules by which a server may combine its clients' models, instead of `WeightedMean`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.profiler import record_function

from fedbench.core.flat import ModelState, at_least_float32
from fedbench.util.errors import RunError

Rule = Callable[[Tensor, Tensor], Tensor]  # (m, D) vectors, (m,) weights that sum to 1 -> (D,)


class Accumulator(Protocol):
    """What the models of a round are added to, in the order of the clients, with shares that sum to 1."""

    def add(self, state: ModelState, share: float) -> None:
        """Add a client's model."""
        ...

    def state(self) -> ModelState:
        """The server's model."""
        ...


class ByRule:
    """What a rule makes of all vectors at once, in at least float32.

    It does not see the counters: they are those of the largest share.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._states: list[ModelState] = []
        self._shares: list[float] = []

    def add(self, state: ModelState, share: float) -> None:
        """Add a client's model."""
        self._states.append(state)
        self._shares.append(share)

    @record_function("fedbench/averaging")
    @torch.no_grad()
    def state(self) -> ModelState:
        """The server's model.

        Raises
        ------
        RunError
            If the rule needs more clients, or returns another shape or type, or what is not finite although all models
            are.
        """
        if (least := getattr(self._rule, "min_clients", 1)) > len(self._states):
            raise RunError(f"aggregation: the rule needs {least} clients in a round, and {len(self._states)} took part")
        vectors = at_least_float32(torch.stack([state.vector for state in self._states]))  # (m, D)
        vector = self._rule(vectors, vectors.new_tensor(self._shares))
        wanted = f"a vector of shape {tuple(vectors.shape[1:])} and type {vectors.dtype}"
        if not isinstance(vector, Tensor):
            raise RunError(f"aggregation: the rule returned a {type(vector).__name__} instead of {wanted}")
        if (vector.shape, vector.dtype) != (vectors.shape[1:], vectors.dtype):
            found = f"shape {tuple(vector.shape)} and type {vector.dtype}"
            raise RunError(f"aggregation: the rule returned {found} instead of {wanted}")
        vector = vector.to(self._states[0].vector.dtype)
        if not vector.isfinite().all() and all(state.vector.isfinite().all() for state in self._states):
            raise RunError("aggregation: the rule returned values that are not finite, although all models are")
        largest = max(range(len(self._shares)), key=self._shares.__getitem__)  # the first of equals
        return ModelState(vector, self._states[largest].counters)


def accumulator_of(rule: Rule) -> Callable[[], Accumulator]:
    """What makes the accumulator of a round: the rule's own method `accumulator` if it has one, else `ByRule`."""
    own: Callable[[], Accumulator] | None = getattr(rule, "accumulator", None)
    return own or (lambda: ByRule(rule))
