"""What a suite file says of tuning: the key `tune` and the one home of its defaults.

All are frozen and hashable, and importing them imports neither torch, mlflow nor optuna.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from fedbench.util.frozen import Fraction, Frozen

SEARCHABLE = ("client_fraction", "local_epochs", "batch_size", "learning_rate", "rounds")  # in the order of `CellSpec`
# Fields that judge or measure a finished run. Trials are judged by the objective, so these have their defaults there.
NOT_TUNED = (
    "require_accuracy",
    "require_loss_fall",
    "target_accuracy",
    "stop_at_target",
    "interpolation",
    "interpolation_set",
)
Budget = Literal["rounds", "steps"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)


class Objective(StrEnum):
    """What a study makes as good as it can be, measured on the validation split."""

    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"
    LOSS = "loss"
    ROUNDS_TO_TARGET = "rounds_to_target"

    @property
    def is_minimised(self) -> bool:
        """Whether smaller is better."""
        return self in (Objective.LOSS, Objective.ROUNDS_TO_TARGET)


class Axis(Frozen):
    """One searched field: a range of numbers, or choices.

    Attributes
    ----------
    field
        One of `SEARCHABLE`.
    low, high
        Both ends of the range are included; None for choices.
    log
        Whether the range is searched by its logarithm.
    choices
        Values, where there is no range; null may be one of a batch size.
    """

    field: str
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[int | float | None, ...] = ()

    def holds(self, value: float | None) -> bool:
        """Whether the search can come to `value`."""
        if self.low is None or self.high is None:
            return value in self.choices
        return value is not None and self.low <= value <= self.high


class TuneSpec(Frozen):
    """The key `tune` of a suite file. What it leaves out has the default of the field."""

    # The scenario that is tuned; None: the first of the file.
    scenario: str | None = None
    # Scenario fields and what they are set to, as `--set` does it: they choose one cell of a grid. `load_suite` leaves
    # out those that the command line has set.
    set: tuple[tuple[str, Any], ...] = ()
    # The searched fields, in the order of `CellSpec`; None: the default space (see `fedbench.tuning.plan_space`).
    space: tuple[Axis, ...] | None = None
    objective: Objective = Objective.ACCURACY
    # The validation accuracy to reach, a fraction; for `rounds_to_target` alone, which needs it.
    target: Annotated[float, Field(gt=0, le=1)] | None = None
    # What is held equal where local epochs differ: the rounds, or the clients' local steps in all. None: the rounds,
    # or nothing if they are searched.
    budget: Budget | None = None
    # Trials that the study comes to.
    trials: Annotated[int, Field(ge=1, le=100_000)] = 40
    # Seeds of each trial, the same in every trial; None: the first three of the suite's.
    seeds: tuple[int, ...] | None = None
    # Seeds on which best and default are tested in the end; None: the five after the largest of all others.
    fresh_seeds: tuple[int, ...] | None = None
    # Share of the training data that is held out to validate on.
    validation: Annotated[Fraction, Field(gt=0, lt=1)] = 0.2
    # Whether a trial that does badly in its first rounds is ended.
    pruning: bool = True
