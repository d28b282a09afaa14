"""Parts with their options in one mapping, ``model: {use: ./my_net.py:Net, width: 64}``, laid out as flat fields.

A list in the mapping is an axis, and so is a list of names and mappings. In a list, an option belongs to the names
whose mappings set it, where a field of its own would be one of all cells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from fedbench.components import KINDS
from fedbench.suites.fields import in_order

USE = "use"


def alternatives(value: object) -> Iterator[tuple[object, dict[str, Any]]]:
    """The names that a field of `KINDS` has, each with its options, in which lists are axes."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict):
            yield each.get(USE), {option: setting for option, setting in each.items() if option != USE}
        else:
            yield each, {}


def merge(levels: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Scenario fields of several levels, each of which replaces what those before it set.

    A part replaces one with its options. An option by itself replaces the one in the mapping of a part, and one in a
    mapping replaces the one by itself.
    """
    merged: dict[str, Any] = {}
    for level in levels:
        for kind in KINDS:
            for _, options in alternatives(level.get(kind)):
                for option in options:
                    merged.pop(option, None)
            if kind in merged and kind not in level:
                merged[kind] = _without(merged[kind], level)
        merged |= level
    return merged


def _without(value: Any, options: Iterable[str]) -> Any:
    if isinstance(value, list):
        return [_without(each, options) for each in value]
    return {key: each for key, each in value.items() if key not in options} if isinstance(value, dict) else value


def dimensions(fields: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The grid of scenario fields: for each field its alternatives, as flat fields, in the order of the axes."""
    return [list(_flat(field, fields[field])) for field in in_order(fields)]


def grid_size(fields: Mapping[str, Any]) -> int:
    """The number of points of a grid, without laying it out."""
    return prod(
        sum(
            prod(len(each) for each in options.values() if isinstance(each, list)) for _, options in alternatives(value)
        )
        for value in fields.values()
    )


def _listed(field: str, value: object) -> list[dict[str, list[Any]]]:
    """The alternatives of a field, each as flat fields with the values of each."""
    if field not in KINDS:
        return [{field: _as_list(value)}]
    return [
        {field: [name]} | {option: _as_list(each) for option, each in options.items()}
        for name, options in alternatives(value)
    ]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flat(field: str, value: object) -> Iterator[dict[str, Any]]:
    for listed in _listed(field, value):
        yield from (dict(zip(listed, point, strict=True)) for point in product(*listed.values()))


def axes_of(fields: Mapping[str, Any], overridden: Collection[str]) -> tuple[str, ...]:
    """The fields with lists and those that are overridden; of parts with options, the options in which they differ."""
    axes: set[str] = set()
    for field, value in fields.items():
        given = _listed(field, value)
        first = {name: values[0] for name, values in given[0].items()}
        names = {name for each in given for name in each}
        differ = {
            name
            for name in names
            if any(value != first.get(name, USE) for each in given for value in each.get(name, [USE]))
        }
        if field in overridden:
            axes |= names
        elif isinstance(value, list) or differ:
            axes |= differ or {field}
    return tuple(in_order(axes))
