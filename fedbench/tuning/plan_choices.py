"""A study's settings from the suite file and the command line; an option overrides the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path

from pydantic import ValidationError

from fedbench.components import find
from fedbench.datasets import splits_of
from fedbench.suites.checks import cell_error, check_choice, check_seeds, check_value
from fedbench.suites.fields import in_order
from fedbench.suites.schema import Cell, CellSpec, Scenario, Suite
from fedbench.suites.tune import (
    MAX_TRIALS,
    NOT_TUNED,
    Objective,
    TuneSpec,
    check_budget,
    check_fresh_seeds,
    check_nothing_else_is_equal,
    check_objective,
    check_target,
)
from fedbench.tuning.plan_space import DEFAULT_FIELDS
from fedbench.util.errors import SuiteError
from fedbench.util.text import show

NUM_SEEDS = 3  # of the suite's, with which each trial is computed
NUM_FRESH_SEEDS = 5


def choose_scenario(suite: Suite, option: str | None) -> Scenario:
    """The scenario that is tuned: the option's, else the file's, else the first."""
    scenarios = {scenario.name: scenario for scenario in suite.scenarios}
    if option is not None:
        return scenarios[check_choice(option, "--scenario", scenarios, "scenario")]
    if suite.tune.scenario is not None:
        return scenarios[check_choice(suite.tune.scenario, "tune: scenario", scenarios, "scenario")]
    return suite.scenarios[0]


def choose_cell(scenario: Scenario, tune: TuneSpec, folder: Path) -> tuple[Cell, str | None]:
    """The cell that is tuned, and a sentence on which one it is, if there are several.

    On a searched axis the default is the first value, on any other the last.
    """
    first, last = scenario.cells[0], scenario.cells[-1]
    settings = dict(tune.set)
    searched = [axis.field for axis in tune.space] if tune.space else DEFAULT_FIELDS
    open_axes = [axis for axis in last.axes if axis not in settings and axis not in NOT_TUNED]
    firsts = {axis: first.spec.get(axis) for axis in open_axes if axis in searched}
    plain = {field: CellSpec.model_fields[field].default for field in NOT_TUNED}
    if "dataset" in settings and last.spec.split == splits_of(last.spec.part("dataset"))[0]:
        settings = {"split": None} | settings  # a default split is another dataset's by another name
    try:
        spec = last.spec.replace(firsts | plain | settings, partial(find, folder=folder))
    except ValidationError as error:
        raise SuiteError(f"tune: set: {cell_error(error)}") from None
    named = {*last.axes, *dict(tune.set)} - set(NOT_TUNED)
    axes = tuple(in_order(named))
    sizes = {axis: len({cell.spec.get(axis) for cell in scenario.cells}) for axis in open_axes}
    return last.model_copy(update={"spec": spec, "axes": axes}), _note(sizes, searched)


def _note(sizes: Mapping[str, int], searched: Collection[str]) -> str | None:
    """A sentence on which cell is tuned; `sizes` are the axes' numbers of values."""
    others = prod(size for axis, size in sizes.items() if axis not in searched)
    parts = [f"the last of {others} cells"] if others > 1 else []
    parts += [f"the first of {size} values of {axis}" for axis, size in sizes.items() if axis in searched and size > 1]
    return f"{' and '.join(parts)}; choose another with --set" if parts else None


def choose_budget(tune: TuneSpec, option: str | None) -> str:
    """What is held equal: ``rounds`` or ``steps``, or ``none`` where the rounds are searched."""
    if option is not None:
        check_nothing_else_is_equal(tune, f"--budget {check_budget(option, '--budget')}")
        return option
    searches_rounds = any(axis.field == "rounds" for axis in tune.space or ())
    return tune.budget or ("none" if searches_rounds else "rounds")


def choose_objective(tune: TuneSpec, option: str | None, option_target: float | None) -> tuple[Objective, float | None]:
    """The objective and its target, if it has one."""
    objective = tune.objective if option is None else check_objective(option, "--objective")
    if option_target is not None:
        target = check_value("target", option_target, "--target", TuneSpec)
    else:  # the file's target belongs to the file's objective
        target = tune.target if objective is Objective.ROUNDS_TO_TARGET else None
    place = "tune: objective" if option is None else "--objective"
    check_target(objective, target, place, "--target")
    return objective, target


def choose_seeds(suite: Suite, option: Sequence[int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The seeds of the trials and the fresh ones of the first answer."""
    tune = suite.tune
    seeds = tune.seeds or suite.seeds[:NUM_SEEDS]
    if option is not None:
        seeds = check_seeds(list(option), "--seeds")
    if tune.fresh_seeds is not None:
        check_fresh_seeds(tune.fresh_seeds, seeds, "tune: fresh_seeds")
        return seeds, tune.fresh_seeds
    largest = max(*seeds, *suite.seeds)
    last = largest + MAX_TRIALS * NUM_FRESH_SEEDS  # if each trial were the best for a while
    check_seeds([last], "tune: fresh_seeds, which are those after the largest of all others,")
    return seeds, tuple(range(largest + 1, largest + 1 + NUM_FRESH_SEEDS))


def check_sampler_seed(value: int) -> int:
    """Check the seed of Optuna's sampler, which is one of NumPy's."""
    if type(value) is not int or not 0 <= value < 2**32:
        raise SuiteError(f"--seed is {show(value)}; it must be a whole number from 0 to 2**32 - 1")
    return value
