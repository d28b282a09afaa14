"""The parts that a suite can name, as tables for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedbench.reports.layout import number, plain_table
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
    table = plain_table("kind", "name", "from", "what it is", title="Parts")
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        is_last = after is None or after.kind != part.kind
        table.add_row(part.kind, part.name, part.origin, _about(part), end_section=is_last)
    return Group(table, "Options: fedbench components KIND. One of your own: fedbench new KIND NAME.")


def options_table(parts: Sequence[Listed]) -> RenderableType:
    """Each part with its options."""
    blocks: list[RenderableType] = []
    for part in parts:
        blocks += [Text(f"{part.name} ({part.origin})", "bold"), _about(part)]
        if part.options:
            table = plain_table("option", "takes", "default", "meaning")
            for option in part.options:
                table.add_row(option.name, option.type, _default(option), option.meaning)
            blocks.append(table)
        blocks.append("")
    return Group(*blocks[:-1])


def _about(part: Listed) -> Text:
    return Text(part.problem, "red") if part.problem else Text(part.about or part.target)


def _default(option: Option) -> str:
    if option.required:
        return "required"
    return option.default if isinstance(option.default, str) else show(option.default)
