"""The key `contrast` of a suite file: which cells are compared, and by what. A wrong one raises `SuiteError`."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fedbench.suites.checks import check_mapping, check_value
from fedbench.suites.files import errors_in, find_suite, read_key
from fedbench.util.errors import SuiteError
from fedbench.util.frozen import Frozen
from fedbench.util.text import show, unknown

SCENARIO = "scenario"  # in place of an axis: scenarios are compared


class ContrastMeasure(StrEnum):
    """What cells are compared by: the value after the last round. `worst_client` is the least client accuracy."""

    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"
    LOSS = "loss"
    ROUNDS_TO_TARGET = "rounds_to_target"
    BYTES_TO_TARGET = "bytes_to_target"
    AVERAGING_GAIN = "averaging_gain"
    WORST_CLIENT = "worst_client"


class ContrastSpec(Frozen, use_attribute_docstrings=True):
    """The key `contrast` of a suite file. A key that is left out has its field's default."""

    axes: tuple[str, ...] | None = None
    """The axes along which cells are compared, or `scenario` for the scenarios themselves. None: each axis of a
    scenario with two to six values. An empty list: no cells are compared."""
    measure: Annotated[ContrastMeasure, Field(strict=False)] | None = None
    """What they are compared by. None: `rounds_to_target` where runs stop at their target, `balanced_accuracy` where
    the largest class has half as much again as an equal share of the test set, else `accuracy`."""


def check_contrast(value: object, axes: Collection[str] | None = None) -> ContrastSpec:
    """Check the key `contrast`; `axes` are those of the file's scenarios, None if they are not known."""
    given = check_mapping({} if value is None else value, "contrast", tuple(ContrastSpec.model_fields))
    measure, chosen = given.get("measure"), given.get("axes")
    measure = check_value("measure", measure, "contrast: measure", ContrastSpec)
    if chosen is not None:
        chosen = _axes(chosen, axes)
    return ContrastSpec(axes=chosen, measure=measure)


def read_contrast(name_or_path: str) -> ContrastSpec | None:
    """The key of the suite that a name or a path finds, of which nothing else is checked; None if there is no file."""
    try:
        path = find_suite(name_or_path)
    except SuiteError:
        return None  # a suite of another folder or machine: its name is enough to read what it recorded
    with errors_in(path):
        return check_contrast(read_key(path, "contrast"))


def _axes(value: object, axes: Collection[str] | None) -> tuple[str, ...]:
    place = "contrast: axes"
    if not isinstance(value, list) or not all(isinstance(axis, str) for axis in value):
        raise SuiteError(f"{place} is {show(value)}; it must be a list of fields, such as [learning_rate]")
    for position, axis in enumerate(value):
        if axis in value[:position]:
            raise SuiteError(f"{place} holds {show(axis)} twice; keep one")
        if axes is not None and axis not in {*axes, SCENARIO}:
            choices = [*sorted(axes), SCENARIO]
            raise SuiteError(f"{place}: {unknown('axis', axis, choices)}; an axis is a field with a list")
    return tuple(value)
