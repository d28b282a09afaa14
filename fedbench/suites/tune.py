"""The key `tune` of a suite file: what it says, and the one home of its defaults. A wrong one raises `SuiteError`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from fedbench.suites.checks import (
    Parts,
    check_choice,
    check_mapping,
    check_seeds,
    check_setting,
    check_settings,
    check_value,
)
from fedbench.suites.fields import COMMON, in_order
from fedbench.suites.uses import dimensions, grid_size
from fedbench.util.errors import SuiteError
from fedbench.util.frozen import Fraction, Frozen
from fedbench.util.text import show, unknown

# In the order of `CellSpec`. Options of parts that are numbers can be searched too.
SEARCHABLE = (
    "client_fraction",
    "local_epochs",
    "batch_size",
    "learning_rate",
    "learning_rate_decay",
    "clip_norm",
    "rounds",
)
# Fields that judge or measure a finished run. Trials are judged by the objective, so these have their defaults there.
NOT_TUNED = (
    "require_accuracy",
    "require_loss_fall",
    "target_accuracy",
    "stop_at_target",
    "interpolation",
    "interpolation_set",
)
MAX_TRIALS = 100_000
BY_LOGARITHM = ("learning_rate",)  # searched by its logarithm unless the file says otherwise
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, json_schema_extra={"uniqueItems": True})]


class Objective(StrEnum):
    """What a study optimises, measured on the validation split."""

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
        One of `SEARCHABLE`, or an option of a part.
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
        """Whether `value` is within the range or among the choices."""
        if self.low is None or self.high is None:
            return value in self.choices
        return value is not None and self.low <= value <= self.high


class TuneSpec(Frozen, use_attribute_docstrings=True):
    """The key `tune` of a suite file. A key that is left out has its field's default."""

    scenario: str | None = None
    """The scenario that is tuned; None: the first of the file."""
    set: tuple[tuple[str, Any], ...] = ()
    """Scenario fields and what they are set to, as `--set` does it: they choose one cell of a grid."""
    space: tuple[Axis, ...] | None = None
    """The searched fields, in the order of `CellSpec`; None: the default space (see `fedbench.tuning.plan_space`)."""
    objective: Annotated[Objective, Field(strict=False)] = Objective.ACCURACY
    target: Annotated[float, Field(gt=0, le=1)] | None = None
    """The accuracy to reach, a fraction; for `rounds_to_target` alone, which needs it."""
    budget: Literal["rounds", "steps"] | None = None
    """What is held equal where local epochs differ: the rounds, or the clients' local steps in all. None: the rounds,
    or nothing if they are searched."""
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] = 40
    """Trials of the study in all."""
    seeds: Seeds | None = None
    """Seeds of each trial, the same in every trial; None: the first three of the suite's."""
    fresh_seeds: Seeds | None = None
    """Seeds on which the best and the default configuration are tested, the same for each answer; None: the five after
    the largest of all others, and for each further best of the study the next five."""
    validation: Annotated[Fraction, Field(gt=0, lt=1)] = 0.2
    """Share of the training data that is held out for validation."""
    pruning: bool = True
    """Whether a trial that does badly in its first rounds is pruned."""

    @property
    def searches_rounds(self) -> bool:
        """Whether the number of rounds is searched."""
        return any(axis.field == "rounds" for axis in self.space or ())


def check_tune(value: object, scenarios: Collection[str], parts: Parts) -> TuneSpec:
    """Check the key `tune`; `scenarios` are the names of the file's."""
    given = check_mapping({} if value is None else value, "tune", tuple(TuneSpec.model_fields))
    return _with(TuneSpec(), given, "tune: ", scenarios, parts)


def with_options(
    tune: TuneSpec, options: Mapping[str, object], scenarios: Collection[str], seeds: Sequence[int]
) -> TuneSpec:
    """The key with options of the command line in place of what the file says; those that are None are not given.

    `seeds` are those of the trials if neither names any.
    """
    given = {"seeds": [*(tune.seeds or seeds)]} | {key: value for key, value in options.items() if value is not None}
    if given.get("objective", tune.objective) != tune.objective:  # to which the file's target belongs
        tune = tune.model_copy(update={"target": None})
    return _with(tune, given, "--", scenarios, Parts())


def _with(tune: TuneSpec, given: Mapping[str, Any], prefix: str, scenarios: Collection[str], parts: Parts) -> TuneSpec:
    """A key with other values, checked by themselves and together; a place in a message is a prefix and the name."""
    checks: dict[str, Callable[[Any, str], object]] = {
        "scenario": lambda value, place: check_choice(value, place, scenarios, "scenario"),
        "set": lambda value, place: _settings(value, place, parts),
        "space": lambda value, place: _space(value, place, parts),
        "seeds": check_seeds,
        "fresh_seeds": check_seeds,
    }
    checked = dict(tune)
    for key, value in given.items():
        if key not in checks:
            checked[key] = check_value(key, value, f"{prefix}{key}", TuneSpec)
        elif value is not None or key == "space":
            checked[key] = checks[key](value, f"{prefix}{key}")
    tune = TuneSpec(**checked)
    needs_target = tune.objective is Objective.ROUNDS_TO_TARGET
    if needs_target and tune.target is None:
        raise SuiteError(
            f"{prefix}objective is {tune.objective}; set {prefix}target too, the accuracy to reach, such as 0.9"
        )
    if tune.target is not None and not needs_target:
        raise SuiteError(
            f"{prefix}target is {show(tune.target)}, but the objective is {tune.objective}; "
            f"leave it out, or take {Objective.ROUNDS_TO_TARGET} as the objective"
        )
    if tune.budget and tune.searches_rounds:
        raise SuiteError(
            f"{prefix}budget: nothing is held equal where the rounds are searched; leave the budget out, or take "
            "rounds out of tune: space"
        )
    if both := [seed for seed in tune.fresh_seeds or () if seed in (tune.seeds or ())]:
        raise SuiteError(
            f"tune: fresh_seeds holds {both[0]}, which is a seed of the trials; choose one that no trial has seen"
        )
    return tune


def _settings(value: object, place: str, parts: Parts) -> tuple[tuple[str, Any], ...]:
    """Check `set`: as ``--set``, but one value a field."""
    given = check_settings(value, place, parts)
    settings: dict[str, Any] = {}
    for field, setting in given.items():
        if isinstance(setting, list) or grid_size({field: setting}) > 1:
            raise SuiteError(f"{place}: {field} is the list {show(setting)}; one cell is tuned, so give one value")
        if field in NOT_TUNED:
            raise SuiteError(f"{place}: {field} has no effect, trials are judged by the objective; remove it")
        settings |= dimensions({field: setting})[0][0]
    return tuple((field, settings[field]) for field in in_order(settings))


def _space(value: object, place: str, parts: Parts) -> tuple[Axis, ...]:
    if not isinstance(value, dict) or not value:
        raise SuiteError(
            f"{place} is {show(value)}; it must be a mapping of fields to search, such as {{local_epochs: {{low: 1, "
            "high: 20}}, or be left out"
        )
    for field in value:
        if field not in parts.fields:
            raise SuiteError(f"{place}: {unknown('field', field, SEARCHABLE)}, or an option that is a number")
        if field in COMMON and field not in SEARCHABLE:
            others = "or an option of a part that is a number"
            raise SuiteError(f"{place}: {field} cannot be searched; choose from {', '.join(SEARCHABLE)}, {others}")
    return tuple(_axis(field, value[field], f"{place}: {field}", parts) for field in in_order(value))


def _number(field: str, value: object, place: str, parts: Parts) -> Any:
    """A value of a searched field: a number as the field has it, or None."""
    number = check_setting(field, value, place, parts)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
        raise SuiteError(f"{place} is {show(value)}; only numbers can be searched")
    return number


def _axis(field: str, value: object, place: str, parts: Parts) -> Axis:
    if isinstance(value, list):
        return Axis(field=field, choices=_choices(field, value, place, parts))
    if not isinstance(value, dict):
        raise SuiteError(f"{place} is {show(value)}; it must be a range {{low: ..., high: ...}} or a list of choices")
    return _range(field, check_mapping(value, place, ("low", "high", "log")), place, parts)


def _choices(field: str, value: list[Any], place: str, parts: Parts) -> tuple[int | float | None, ...]:
    if len(value) < 2:
        raise SuiteError(f"{place} is {show(value)}; give two choices or more, or set {field} in the scenario instead")
    choices: list[int | float | None] = []
    for item in value:
        choice = _number(field, item, f"{place}: a choice", parts)
        if choice in choices:
            raise SuiteError(f"{place} holds {show(item)} twice; keep one")
        choices.append(choice)
    return tuple(choices)


def _range(field: str, given: dict[str, Any], place: str, parts: Parts) -> Axis:
    ends = []
    for key in ("low", "high"):
        if key not in given:
            raise SuiteError(f"{place}: {key} is missing; a range has low and high")
        if given[key] is None:
            raise SuiteError(f"{place}: {key} is null; it must be a number, null can be one of a list of choices")
        ends.append(_number(field, given[key], f"{place}: {key}", parts))
    low, high = ends
    log = given.get("log", field in BY_LOGARITHM)
    if not isinstance(log, bool):
        raise SuiteError(f"{place}: log is {show(log)}; it must be true or false")
    if low > high:
        raise SuiteError(f"{place}: low is {show(low)}, above high, which is {show(high)}; swap them")
    if low == high:
        raise SuiteError(f"{place}: low and high are both {show(low)}; set {field} in the scenario instead")
    if log and low == 0:
        raise SuiteError(f"{place}: low is {show(low)}, which has no logarithm; raise it, or write log: false")
    return Axis(field=field, low=low, high=high, log=log)
