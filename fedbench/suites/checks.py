"""The checks of a suite file's parts, each by itself. A wrong one raises `SuiteError` with its place and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, get_args

from pydantic import ValidationError

from fedbench.suites.schema import CellSpec, show, unknown
from fedbench.util.errors import SuiteError
from fedbench.util.frozen import Frozen

FIELDS = tuple(CellSpec.model_fields)
# What pydantic finds wrong with a field, and what the field must be instead.
RULES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "finite_number": "a finite number",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:,.10g}",
}


def check_settings(value: object, place: str) -> dict[str, Any]:
    """Check scenario fields, every value by itself (whether they fit together is for the cells)."""
    settings = check_mapping({} if value is None else value, place, FIELDS)
    for field, setting in settings.items():
        if not isinstance(setting, list):
            check_value(field, setting, f"{place}: {field}")
            continue
        if not setting:
            raise SuiteError(f"{place}: {field} is an empty list; a grid axis needs at least one value")
        seen = set()
        for item in setting:
            if isinstance(item, list):
                raise SuiteError(f"{place}: {field} holds the list {show(item)}; a grid axis is a flat list")
            check_value(field, item, f"{place}: {field}")
            if item in seen:
                raise SuiteError(f"{place}: {field} holds {show(item)} twice; keep one")
            seen.add(item)
    return settings


def check_value(field: str, value: object, place: str, model: type[Frozen] = CellSpec) -> Any:
    """Check the value of a model's field by itself, and return it as the field has it: 1 is 1.0 where that is."""
    try:
        return getattr(model.model_validate({field: value}), field)
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"] == (field,):
                raise SuiteError(f"{place}{_sentence(model, field, value, problem)}") from None
    return value  # what is wrong is how it fits to defaults of other fields


def _sentence(model: type[Frozen], field: str, value: object, problem: Any) -> str:
    """Say what is wrong with a field's value and what it must be."""
    context = problem.get("ctx", {})
    if problem["type"] not in RULES:
        return f": {context.get('error', problem['msg'])}"
    or_null = " or null" if NoneType in get_args(model.model_fields[field].annotation) else ""
    return f" is {show(value)}; it must be {RULES[problem['type']].format(**context)}{or_null}"


def check_mapping(value: object, place: str, keys: Sequence[str]) -> dict[str, Any]:
    """Check that `value` is a mapping without other keys than `keys`."""
    if not isinstance(value, dict):
        raise SuiteError(f"{place} is {show(value)}; it must be a mapping of {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise SuiteError(f"{place}: {unknown('key', key, keys)}")
    return value


def check_name(value: object, place: str) -> str:
    """Check the name of a suite or a scenario."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise SuiteError(
            f"{place} is {show(value)}; it must be up to 100 letters, digits, '-', '_' or '.', a letter or digit first"
        )
    return value


def check_seeds(value: object, place: str) -> tuple[int, ...]:
    """Check a list of seeds."""
    if not isinstance(value, list) or not value:
        raise SuiteError(f"{place} is {show(value)}; it must be a list of at least one whole number")
    seen: set[int] = set()
    for seed in value:
        if type(seed) is not int or not 0 <= seed < 2**63:  # bool is a subclass of int
            raise SuiteError(f"{place} holds {show(seed)}; a seed is a whole number from 0 to 2**63 - 1")
        if seed in seen:
            raise SuiteError(f"{place} holds {seed} twice; keep one")
        seen.add(seed)
    return tuple(value)


def one_line(text: str) -> str:
    """Join lines, and escape what a terminal cannot be sent."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split()))
