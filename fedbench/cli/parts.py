"""The commands `fedbench new` and `fedbench components`."""

from __future__ import annotations

from typing import Annotated

import typer

from fedbench.cli.options import JsonOption, console, print_json
from fedbench.util.advice import command


def add_part_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("new", epilog="Example: fedbench new model my_net")(new_command)
    app.command("components", epilog="Example: fedbench components algorithm")(components_command)


def new_command(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="model, dataset, partition, algorithm, optimiser, aggregation, augmentation or suite.",
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as my_net.")],
) -> None:
    """Write a part of your own and a suite that runs it: two files with comments, which work as they are."""
    from fedbench.new import write_new

    *parts, suite = write_new(kind, name)
    for path in parts:
        typer.echo(f"{path}: the {kind}")
    typer.echo(f"{suite}: a suite{' that compares it with a built-in one' if parts else ''}")
    typer.echo("Next:")
    for words in (("suites", suite), ("run", suite), ("report", suite.stem)):
        typer.echo(f"  {command('fedbench', *words)}")


def components_command(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="Only this kind, such as model, with the options of each.")
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one; also a file, as ./my_net.py:Net.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the parts that a suite can name: what they are, where they come from, and their options.

    Built-in parts and the entry points of installed packages are listed. Without KIND the code of other packages is not
    imported.
    """
    from fedbench.reports.parts import options_table, parts_json, parts_table
    from fedbench.suites.catalogue import describe_part, list_parts

    parts = [describe_part(kind, name)] if kind and name else list_parts(kind)
    if as_json:
        print_json(parts_json(parts))
    else:
        console().print(options_table(parts) if kind else parts_table(parts))
