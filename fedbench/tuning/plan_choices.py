"""Which cell a study tunes, and on which seeds its answer is tested."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from math import prod
from pathlib import Path

from pydantic import ValidationError

from fedbench.components import find
from fedbench.datasets import splits_of
from fedbench.suites.checks import cell_error, check_seeds
from fedbench.suites.fields import in_order
from fedbench.suites.schema import Cell, CellSpec, Scenario
from fedbench.suites.tune import MAX_TRIALS, NOT_TUNED, TuneSpec
from fedbench.tuning.plan_space import DEFAULT_FIELDS
from fedbench.util.errors import SuiteError
from fedbench.util.text import show

NUM_FRESH_SEEDS = 5


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


def fresh_seeds_after(seeds: Iterable[int]) -> tuple[int, ...]:
    """The fresh seeds of the first answer, after the largest of all others."""
    largest = max(seeds)
    last = largest + MAX_TRIALS * NUM_FRESH_SEEDS  # if each trial were the best for a while
    check_seeds([last], "tune: fresh_seeds, which are those after the largest of all others,")
    return tuple(range(largest + 1, largest + 1 + NUM_FRESH_SEEDS))


def check_sampler_seed(value: int) -> int:
    """Check the seed of Optuna's sampler, which is one of NumPy's."""
    if type(value) is not int or not 0 <= value < 2**32:
        raise SuiteError(f"--seed is {show(value)}; it must be a whole number from 0 to 2**32 - 1")
    return value
