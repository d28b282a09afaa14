"""The checks of a suite file's parts, each by itself. A wrong one raises `SuiteError` with its place and what to do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError

from fedbench.components import KINDS, Component, built_in_names, built_in_options, find
from fedbench.suites.cell import CellSpec
from fedbench.suites.fields import COMMON, SEE_FIELDS, known_fields
from fedbench.suites.uses import USE, alternatives
from fedbench.util.errors import SuiteError
from fedbench.util.frozen import Frozen
from fedbench.util.text import show, unknown

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a suite or a scenario
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


class Parts:
    """The parts that a suite file names, each found once, and the scenario fields that it may therefore set.

    Parameters
    ----------
    folder
        The suite file's folder; None: the working directory.
    settings
        The scenario fields of the file and the command line, unchecked.
    """

    def __init__(self, folder: Path | None = None, settings: Iterable[object] = ()) -> None:
        self.folder = folder
        self._found: dict[tuple[str, str], Component] = {}
        self._more: dict[tuple[str, str], dict[str, None]] = {}  # the options in the mappings of a part
        for kind, name, options in named_parts(settings):
            self._more.setdefault((kind, name), {}).update(dict.fromkeys(options))
        for kind, name in self._more:
            with suppress(SuiteError):  # said when the field is checked
                self.find(kind, name)

    def find(self, kind: str, name: object) -> Component:
        """See `fedbench.components.find`."""
        if not isinstance(name, str):
            return find(kind, name)
        if (kind, name) not in self._found:
            found = self._found[kind, name] = find(kind, name, self.folder)
            if options := self._more.get((kind, name)):
                undeclared = tuple(option for option in options if option not in found.options.model_fields)
                self._found[kind, name] = replace(found, more=undeclared)
        return self._found[kind, name]

    @property
    def fields(self) -> tuple[str, ...]:
        """All scenario fields: those of all cells, the options of built-in parts and those of the file's own parts."""
        own = [option for part in self._readable() for option in part.options.model_fields]
        return tuple(dict.fromkeys([*known_fields(), *own]))

    def readers(self, option: str) -> list[type[Frozen]]:
        """The declarations of the parts that read an option, the file's own first."""
        built_in = [
            Component(kind, name, built_in_names(kind)[name])
            for kind in KINDS
            for name in built_in_options(kind).get(option, ())
        ]
        parts = dict.fromkeys([*self._readable(), *built_in])
        return [part.options for part in parts if option in part.options.model_fields]

    def _readable(self) -> Iterable[Component]:
        for part in self._found.values():
            with suppress(SuiteError):
                part.options  # noqa: B018 - may import a part that is not built in
                yield part


def settings_of(suite: Mapping[str, Any], overrides: object) -> list[object]:
    """The mappings of a file that set scenario fields, unchecked."""
    scenarios, tune = suite["scenarios"], suite.get("tune")
    chosen = tune.get("set") if isinstance(tune, dict) else None
    return [suite.get("defaults"), *(scenarios if isinstance(scenarios, list) else ()), overrides, chosen]


def named_parts(settings: Iterable[object]) -> Iterator[tuple[str, str, Iterable[str]]]:
    """The parts that unchecked settings name: kind, name and the options in its mapping."""
    for fields in settings:
        for kind in KINDS:
            for name, options in alternatives(fields.get(kind) if isinstance(fields, dict) else None):
                if isinstance(name, str):
                    yield kind, name, filter(lambda option: isinstance(option, str), options)


def check_settings(value: object, place: str, parts: Parts) -> dict[str, Any]:
    """Check scenario fields, every value by itself (whether they fit together is for the cells)."""
    settings = check_mapping({} if value is None else value, place, parts.fields)
    for field, setting in settings.items():
        for item in _checked_axis(setting, f"{place}: {field}"):
            if field in KINDS and isinstance(item, dict):
                _check_use(field, item, f"{place}: {field}", settings, parts)
            else:
                check_setting(field, item, f"{place}: {field}", parts)
    return settings


def _checked_axis(setting: object, place: str) -> Sequence[object]:
    """The values of a field: of a list, which is a grid axis, its items."""
    if not isinstance(setting, list):
        return [setting]
    if not setting:
        raise SuiteError(f"{place} is an empty list; a grid axis needs at least one value")
    for position, item in enumerate(setting):
        if isinstance(item, list):
            raise SuiteError(f"{place} holds the list {show(item)}; a grid axis is a flat list")
        if item in setting[:position]:
            raise SuiteError(f"{place} holds {show(item)} twice; keep one")
    return setting


def _check_use(kind: str, value: dict[str, Any], place: str, settings: Collection[str], parts: Parts) -> None:
    """Check the mapping of a part and its options."""
    if USE not in value:
        raise SuiteError(f"{place} is {show(value)}; name the {kind} with the key {USE}, as in {{{USE}: NAME, ...}}")
    name = value[USE]
    check_value(kind, name, f"{place}: {USE}", CellSpec, parts)
    declared = parts.find(kind, name).options
    for option, setting in value.items():
        if option == USE:
            continue
        if option in COMMON:
            raise SuiteError(f"{place}: {option} is a field of all cells, not an option; rename it in {name}")
        if option not in declared.model_fields:
            taken = ", ".join(name for name in declared.model_fields if name not in COMMON) or "no options"
            raise SuiteError(f"{place}: {name} does not take {show(option)}; it takes {taken}")
        if option in settings:
            raise SuiteError(f"{place}: {option} is set here and by itself; keep one")
        for item in _checked_axis(setting, f"{place}: {option}"):
            if item is not None:
                check_value(option, item, f"{place}: {option}", declared)


def check_setting(field: str, value: object, place: str, parts: Parts) -> Any:
    """Check the value of a scenario field by itself, and return it as the field has it.

    An option's must suit one of the parts that read it.
    """
    if field in COMMON:
        return check_value(field, value, place, CellSpec, parts)
    if value is None:  # leaves the option out
        return None
    wrong: list[SuiteError] = []
    for declared in parts.readers(field):
        try:
            return check_value(field, value, place, declared)
        except SuiteError as error:
            wrong.append(error)
    raise wrong[0]


def check_value(
    field: str, value: object, place: str, model: type[Frozen] = CellSpec, parts: Parts | None = None
) -> Any:
    """Check the value of a model's field by itself, and return it as the field has it: 1 is 1.0 where that is."""
    context = {"find": parts.find} if parts else None
    try:
        return getattr(model.model_validate({field: value}, context=context), field)
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"][:1] == (field,):
                raise SuiteError(f"{place}{_sentence(model, field, problem)}") from None
    return value  # what is wrong is how it fits to defaults of other fields


def cell_error(error: ValidationError) -> str:
    """Say the first thing that is wrong with a cell."""
    problem = error.errors()[0]
    if "error" in problem.get("ctx", {}) or not problem["loc"]:
        return str(problem.get("ctx", {}).get("error", problem["msg"]))
    field = str(problem["loc"][0])
    return f"{field}{_sentence(CellSpec, field, problem)}"


def _sentence(model: type[Frozen], field: str, problem: Any) -> str:
    """Say what is wrong with a field's value and what it must be."""
    context, kind = problem.get("ctx", {}), problem["type"]
    annotation = model.model_fields[field].annotation if field in model.model_fields else None
    if kind in ("literal_error", "enum"):
        return f": {unknown(field, problem['input'], _choices(annotation))}"
    if kind not in RULES:
        return f": {context.get('error', problem['msg'])}"
    or_null = " or null" if NoneType in get_args(annotation) else ""
    return f" is {show(problem['input'])}; it must be {RULES[kind].format(**context)}{or_null}"


def _choices(annotation: Any) -> list[str]:
    """The values of a ``Literal`` or an enumeration, which may be one side of a union."""
    if annotation is NoneType:
        return ["null"]
    if get_origin(annotation) is Annotated:
        return _choices(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [str(each) for each in annotation]
    return [name for each in get_args(annotation) for name in _choices(each)] or [str(annotation)]


def check_mapping(value: object, place: str, keys: Sequence[str]) -> dict[str, Any]:
    """Check that `value` is a mapping without other keys than `keys`."""
    see = SEE_FIELDS if set(COMMON) <= set(keys) else ""
    if not isinstance(value, dict):
        wanted = f"scenario fields (see: {see})" if see else ", ".join(keys)
        raise SuiteError(f"{place} is {show(value)}; it must be a mapping of {wanted}")
    for key in value:
        if key not in keys:
            raise SuiteError(f"{place}: {unknown('key', key, keys, see)}")
    return value


def check_choice(value: object, place: str, choices: Collection[str], kind: str) -> str:
    """Check that `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise SuiteError(f"{place}: {unknown(kind, value, choices)}")
    return value


def check_name(value: object, place: str) -> str:
    """Check the name of a suite or a scenario."""
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
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
