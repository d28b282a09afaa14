"""What a plan searches and what it costs: local steps, the default space, and whether a space can be searched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from fedbench.suites.schema import CellSpec
from fedbench.suites.tune import Axis
from fedbench.util.errors import SuiteError
from fedbench.util.text import show

Params = Mapping[str, int | float | None]  # values of the searched fields, by name

DEFAULT_FIELDS = ("local_epochs", "learning_rate")
LEARNING_RATES = (0.001, 1.0)  # of the default space, by their logarithm
LOCAL_EPOCHS = (1, 20)


def default_space(spec: CellSpec, budget: str) -> tuple[Axis, ...]:
    """Local epochs and learning rate around those of the default configuration `spec`.

    The ends are widened to include its own values. For budget `steps` local epochs go no further than the budget of all
    rounds allows in one; where that leaves one value, they are not searched.
    """
    low, high = LEARNING_RATES
    rate = Axis(field="learning_rate", low=min(low, spec.learning_rate), high=max(high, spec.learning_rate), log=True)
    fewest, most = LOCAL_EPOCHS
    most = max(most, spec.local_epochs)
    if budget == "steps":
        most = min(most, spec.rounds * spec.local_epochs)  # all local epochs of the budget in one round
    epochs = Axis(field="local_epochs", low=fewest, high=most)
    return (epochs, rate) if most > fewest else (rate,)


def require_default_inside(space: tuple[Axis, ...], spec: CellSpec) -> None:
    """Refuse a space of other fields, or that the default configuration lies outside of: it is the first trial."""
    for axis in space:
        if not spec.has(axis.field):
            raise SuiteError(f"tune: space: {axis.field}: the scenario has no such option; choose another")
        own = spec.get(axis.field)
        if not axis.holds(own):
            offered = ", ".join(map(show, axis.choices)) or f"{show(axis.low)} to {show(axis.high)}"
            raise SuiteError(
                f"tune: space: {axis.field}: {offered} leaves out the scenario's own {show(own)}, where the search "
                f"begins; widen it, or set {axis.field} in the scenario"
            )


def require_round_fits(space: tuple[Axis, ...], spec: CellSpec) -> None:
    """Refuse a space with a point of which one round takes more local steps than the whole budget, that of `spec`."""
    budget = spec.local_steps()
    largest = {axis.field: _most_steps(axis) for axis in space}
    steps = spec.replace(largest).local_steps(rounds=1)
    if steps > budget:
        rounds = -(-steps // spec.local_steps(rounds=1))
        values = ", ".join(f"{field} {show(value)}" for field, value in largest.items())
        raise SuiteError(
            f"tune: space: one round with {values} takes {steps:,} local steps, but the budget of all rounds is "
            f"{budget:,}; narrow the space, or set rounds to {rounds} in the scenario"
        )


def _most_steps(axis: Axis) -> int | float | None:
    """The value of an axis with which a round takes the most local steps."""
    ends = _ends(axis)
    return ends[0] if axis.field == "batch_size" else ends[1]


def _ends(axis: Axis) -> tuple[int | float | None, int | float | None]:
    """The least and the greatest value of an axis; none as a batch size is the whole set, the greatest."""
    values = axis.choices or (axis.low, axis.high)
    numbers = {math.inf if value is None else value: value for value in values}
    return numbers[min(numbers)], numbers[max(numbers)]


def most_rounds(space: tuple[Axis, ...], spec: CellSpec, budget: str) -> int:
    """The most rounds that a point of the space has; `spec` is the default configuration."""
    ends = {axis.field: _ends(axis) for axis in space}
    if "rounds" in ends:
        return cast(int, ends["rounds"][1])
    if budget != "steps":
        return spec.rounds
    fewest = {field: pair[field == "batch_size"] for field, pair in ends.items() if field in type(spec).model_fields}
    # Not checked: it may be no valid configuration, although each of its values is one of others.
    steps = spec.model_copy(update=fewest).local_steps(rounds=1)
    return max(spec.local_steps() // steps, 1)
