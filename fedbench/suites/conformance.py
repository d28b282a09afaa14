"""The key `conformance` of a suite file: published results of its scenarios. A wrong one raises `SuiteError`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from fedbench.suites.cell import CellSpec
from fedbench.suites.checks import check_choice, check_mapping, check_value
from fedbench.util.errors import SuiteError
from fedbench.util.frozen import Frozen
from fedbench.util.text import show

BAND = {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 2, "maxItems": 2}


class Measure(StrEnum):
    """Which result of a scenario is compared with the paper."""

    ROUNDS_TO_TARGET = "rounds_to_target"
    INTERPOLATION_GAIN = "interpolation_gain"


class Reference(Frozen, use_attribute_docstrings=True):
    """One row: what the paper reports for a scenario, and which results reproduce it."""

    scenario: str
    """The scenario; it has one cell."""
    paper: int | float | str | None = None
    """The paper's number, or text where it gives none; None: it does not say."""
    band: Annotated[tuple[int | float | None, int | float | None], WithJsonSchema(BAND)] | None = None
    """The smallest and the largest mean over seeds that counts as reproduced; None: no bound on that side, or no
    band."""
    measure: Annotated[Measure, Field(strict=False)] = Measure.ROUNDS_TO_TARGET
    speedup_over: str | None = None
    """The scenario of which the paper gives this one's speed-up: its rounds over this one's."""


KEYS = tuple(key for key in Reference.model_fields if key != "scenario")


def check_conformance(value: object, scenarios: Mapping[str, Sequence[CellSpec]]) -> tuple[Reference, ...]:
    """Check the key `conformance`; `scenarios` are the file's cells, without what the command line changes."""
    rows = []
    for name, given in check_mapping({} if value is None else value, "conformance", tuple(scenarios)).items():
        place = f"conformance: {name}"
        fields = check_mapping({} if given is None else given, place, KEYS)
        row = Reference(
            scenario=name, **{key: _check(key, fields[key], f"{place}: {key}", scenarios) for key in fields}
        )
        _require_cell(row, scenarios[name], place)
        rows.append(row)
    return tuple(rows)


def _check(key: str, value: Any, place: str, scenarios: Mapping[str, Sequence[CellSpec]]) -> Any:
    if key == "measure":
        return check_value(key, value, place, Reference)
    if value is None:
        return None
    if key == "speedup_over":
        return check_choice(value, place, scenarios, "scenario")
    if key == "band":
        return _band(value, place)
    if not (isinstance(value, str) or _is_number(value)):
        raise SuiteError(f"{place} is {show(value)}; it must be a number, or text where the paper has none")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _band(value: object, place: str) -> tuple[Any, Any]:
    numbers = value if isinstance(value, list) and len(value) == 2 else None
    if numbers is None or not all(each is None or _is_number(each) for each in numbers):
        raise SuiteError(f"{place} is {show(value)}; it must be [smallest, largest], null for no bound on a side")
    low, high = numbers
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        raise SuiteError(f"{place} is {show(value)}; it must leave something inside and something outside")
    return low, high


def _require_cell(row: Reference, cells: Sequence[CellSpec], place: str) -> None:
    if len(cells) > 1:
        raise SuiteError(f"{place}: the scenario has {len(cells)} cells; give each a scenario of its own")
    if row.measure is Measure.ROUNDS_TO_TARGET and cells[0].target_accuracy is None:
        raise SuiteError(f"{place}: the scenario has no target; set target_accuracy")
    if row.measure is Measure.INTERPOLATION_GAIN and not cells[0].interpolation:
        raise SuiteError(f"{place}: the scenario interpolates nothing; set interpolation to true")
