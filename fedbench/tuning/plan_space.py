"""What a plan searches and what it costs: local steps, the default space, and whether a space can be searched."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping

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
    """Refuse a space that the default configuration lies outside of: it is the first trial."""
    for axis in space:
        own = getattr(spec, axis.field)
        if not axis.holds(own):
            offered = ", ".join(map(show, axis.choices)) or f"{show(axis.low)} to {show(axis.high)}"
            raise SuiteError(
                f"tune: space: {axis.field}: {offered} leaves out the scenario's own {show(own)}, where the search "
                f"begins; widen it, or set {axis.field} in the scenario"
            )


def require_round_fits(space: tuple[Axis, ...], spec: CellSpec) -> None:
    """Refuse a space with a point of which one round takes more local steps than the whole budget, that of `spec`."""
    budget = spec.local_steps()
    dearest = spec.replace({axis.field: _dearest(axis) for axis in space})
    steps = dearest.local_steps(rounds=1)
    if steps <= budget:
        return
    too_many = f"one round can take {steps:,} local steps, but the budget of all rounds is {budget:,}"
    for axis in sorted(space, key=lambda axis: axis.field != "local_epochs"):  # the usual culprit first
        fitting = _dearest_that_fits(axis, dearest, budget)
        if fitting is not None:
            bound = "smallest" if axis.field == "batch_size" else "largest"
            raise SuiteError(f"tune: space: {axis.field}: {too_many}; the {bound} value that fits is {show(fitting)}")
    rounds = -(-steps // spec.local_steps(rounds=1))
    raise SuiteError(f"tune: space: {too_many}; narrow the space, or set rounds to {rounds} in the scenario")


def _dearest(axis: Axis) -> int | float | None:
    """The value of an axis with which a round takes the most local steps."""
    values = axis.choices or (axis.low, axis.high)
    # No batch size means one step an epoch, as a very large one does.
    numbers = {math.inf if value is None else value: value for value in values}
    return numbers[min(numbers) if axis.field == "batch_size" else max(numbers)]


def _dearest_that_fits(axis: Axis, dearest: CellSpec, budget: int) -> int | float | None:
    """The value of an axis with the most steps within the budget, the other fields being the dearest; None if none."""

    def fits(value: int | float | None) -> bool:
        return dearest.replace({axis.field: value}).local_steps(rounds=1) <= budget

    if axis.choices:
        fitting = tuple(value for value in axis.choices if fits(value))
        return _dearest(axis.model_copy(update={"choices": fitting})) if fitting else None
    assert axis.low is not None  # noqa: S101 - there are no choices
    assert axis.high is not None  # noqa: S101
    if axis.field == "client_fraction":
        clients = budget // (dearest.local_steps(rounds=1) // dearest.clients_per_round)
        fraction = clients / dearest.num_clients
        return fraction if clients and axis.low <= fraction <= axis.high else None
    values = range(int(axis.low), int(axis.high) + 1)
    if axis.field == "batch_size":
        position = bisect_left(values, True, key=fits)
        return values[position] if position < len(values) else None
    position = bisect_left(values, True, key=lambda value: not fits(value))
    return values[position - 1] if axis.field == "local_epochs" and position else None
