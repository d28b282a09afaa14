"""The parts that a suite can name, as tables for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.reports.fitted import Column, Fitted
from fedbench.reports.layout import number
from fedbench.suites.fields import COMMON, known_fields
from fedbench.util.text import show

if TYPE_CHECKING:
    from fedbench.suites.catalogue import Listed, Option


def parts_json(parts: Sequence[Listed]) -> dict[str, Any]:
    """The parts for machines; the options of a part whose code was not imported are null."""
    return {"components": [{**asdict(part), "options": _options_json(part.options)} for part in parts]}


def _options_json(options: Sequence[Option] | None) -> list[dict[str, Any]] | None:
    if options is None:
        return None
    defaults = [number(each.default) if isinstance(each.default, float) else each.default for each in options]
    return [asdict(each) | {"default": default} for each, default in zip(options, defaults, strict=True)]


def parts_table(parts: Sequence[Listed]) -> RenderableType:
    """What there is, kind by kind."""
    table = Fitted(
        Column("kind", [part.kind for part in parts], is_text=True),
        Column("name", [part.name for part in parts], is_text=True),
        Column("from", [part.origin for part in parts], is_text=True, drop=1),
        Column("what it is", [_about(part) for part in parts], is_text=True),
        title="Parts",
        sections={index for index, (part, after) in enumerate(pairwise(parts)) if part.kind != after.kind},
    )
    return Group(table, "Options: fedbench components KIND. One of your own: fedbench new KIND NAME.")


def options_table(parts: Sequence[Listed]) -> RenderableType:
    """Each part with its options."""
    blocks: list[RenderableType] = []
    for part in parts:
        blocks += [Text(f"{part.name} ({part.origin})", "bold"), _about(part)]
        if part.options:
            blocks.append(_options(part.options))
        blocks.append("")
    return Group(*blocks[:-1])


def _options(options: Sequence[Option], name: str = "option") -> Fitted:
    return Fitted(
        Column(name, [each.name for each in options], is_text=True),
        Column("takes", [each.type for each in options], is_text=True),
        Column("default", [_default(each) for each in options], is_text=True),
        Column("meaning", [each.meaning for each in options], is_text=True),
    )


def fields_table(fields: Sequence[Option]) -> RenderableType:
    """The scenario fields."""
    options = [name for name in known_fields() if name not in COMMON]
    more = f"Options of the built-in parts, which are fields too: {', '.join(options)}."
    return Group(_options(fields, "field"), "", more, "What they mean: fedbench components KIND.")


def fields_json(fields: Sequence[Option]) -> dict[str, Any]:
    """The scenario fields for machines."""
    return {"fields": _options_json(fields)}


def _about(part: Listed) -> Text:
    return Text(part.problem, "red") if part.problem else Text(part.about or part.target)


def _default(option: Option) -> str:
    if option.required:
        return "required"
    return option.default if isinstance(option.default, str) else show(option.default)
