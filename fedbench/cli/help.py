"""The help of groups of commands, in which nothing is cut to fit a line."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

LONGEST = 1_000  # characters of a command's first sentence


class Group(TyperGroup):
    """A group that lists each command with its whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(LONGEST)) for name, each in commands if each])
