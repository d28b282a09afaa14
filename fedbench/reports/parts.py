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
from fedbench.util.text import show

if TYPE_CHECKING:
    from fedbench.suites.catalogue import Listed, Option


def parts_json(parts: Sequence[Listed]) -> dict[str, Any]:
    """The parts for machines; the options of a part whose code was not imported are null."""
    return {"components": [{**asdict(part), "options": _options_json(part)} for part in parts]}


def _options_json(part: Listed) -> list[dict[str, Any]] | None:
    if part.options is None:
        return None
    defaults = [number(each.default) if isinstance(each.default, float) else each.default for each in part.options]
    return [asdict(each) | {"default": default} for each, default in zip(part.options, defaults, strict=True)]


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
            blocks.append(
                Fitted(
                    Column("option", [each.name for each in part.options], is_text=True),
                    Column("takes", [each.type for each in part.options], is_text=True),
                    Column("default", [_default(each) for each in part.options], is_text=True),
                    Column("meaning", [each.meaning for each in part.options], is_text=True),
                )
            )
        blocks.append("")
    return Group(*blocks[:-1])


def _about(part: Listed) -> Text:
    return Text(part.problem, "red") if part.problem else Text(part.about or part.target)


def _default(option: Option) -> str:
    if option.required:
        return "required"
    return option.default if isinstance(option.default, str) else show(option.default)
