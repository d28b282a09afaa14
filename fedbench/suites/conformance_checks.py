"""The checks of a suite file's key `conformance`. A wrong part raises `SuiteError` with its place and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedbench.suites.checks import check_mapping
from fedbench.suites.conformance_schema import Measure, Reference
from fedbench.suites.schema import Scenario, show, unknown
from fedbench.util.errors import SuiteError

KEYS = tuple(key for key in Reference.model_fields if key != "scenario")


def check_conformance(value: object, scenarios: Sequence[Scenario]) -> tuple[Reference, ...]:
    """Check the key `conformance`; `scenarios` are the file's own, without what the command line changes.

    Raises
    ------
    SuiteError
        One line that names the place, the value and what to do.
    """
    by_name = {scenario.name: scenario for scenario in scenarios}
    checks = {"paper": _paper, "band": _band, "measure": _measure, "speedup_over": _speedup_over(by_name)}
    rows = []
    for name, given in check_mapping({} if value is None else value, "conformance", tuple(by_name)).items():
        place = f"conformance: {name}"
        fields = check_mapping({} if given is None else given, place, KEYS)
        row = Reference(scenario=name, **{key: checks[key](part, f"{place}: {key}") for key, part in fields.items()})
        _require_cell(row, by_name[name], place)
        rows.append(row)
    return tuple(rows)


def _measure(value: object, place: str) -> Measure:
    if value not in list(Measure):
        raise SuiteError(f"{place}: {unknown('measure', value, list(Measure))}")
    return Measure(str(value))


def _paper(value: object, place: str) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | str)):
        raise SuiteError(f"{place} is {show(value)}; it must be a number, or text where the paper has none")
    return value


def _speedup_over(scenarios: Mapping[str, Scenario]) -> Callable[[object, str], Any]:
    def check(value: object, place: str) -> Any:
        if value is not None and (not isinstance(value, str) or value not in scenarios):
            raise SuiteError(f"{place}: {unknown('scenario', value, scenarios)}")
        return value

    return check


def _band(value: object, place: str) -> tuple[Any, Any] | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) and len(value) == 2 else None
    if numbers is None or any(isinstance(each, bool | str | list | dict) for each in numbers):
        raise SuiteError(f"{place} is {show(value)}; it must be [smallest, largest], null for no bound on a side")
    low, high = numbers
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        raise SuiteError(f"{place} is {show(value)}; it must leave something inside and something outside")
    return low, high


def _require_cell(row: Reference, scenario: Scenario, place: str) -> None:
    if len(scenario.cells) > 1:
        raise SuiteError(f"{place}: the scenario has {len(scenario.cells)} cells; give each a scenario of its own")
    spec = scenario.cells[0].spec
    if row.measure is Measure.ROUNDS_TO_TARGET and spec.target_accuracy is None:
        raise SuiteError(f"{place}: the scenario has no target; set target_accuracy")
    if row.measure is Measure.INTERPOLATION_GAIN and not spec.interpolation:
        raise SuiteError(f"{place}: the scenario interpolates nothing; set interpolation to true")
