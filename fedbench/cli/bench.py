"""The command `fedbench bench`: time the parts of fedbench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.exits import EXIT_FAILED, say
from fedbench.cli.options import JsonOption, TrackingUriOption, console, print_advice, view_command

if TYPE_CHECKING:
    from fedbench.bench.run import Measured


def add_bench_command(app: typer.Typer) -> None:
    """Add this module's command to the command line."""
    app.command("bench", epilog="Example: fedbench bench --select training")(bench_command)


def bench_command(
    select: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only benchmarks whose name or group contains TEXT.", show_default=False),
    ] = None,
    log: Annotated[bool, typer.Option(help="Record the timings in the store, in the experiment speed.")] = True,
    as_json: JsonOption = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Time averaging, training and evaluation against what this machine can do; tracked in MLflow by commit."""
    from fedbench.bench.run import require_pytest, run_benchmarks

    require_pytest()
    measured = _recorded(select, tracking_uri) if log else run_benchmarks(select)
    if as_json:
        typer.echo(measured.text, nl=bool(measured.text))
    elif measured.results:
        from fedbench.reports.benchmarks import speed_table

        screen = console()
        screen.print(speed_table(measured))
        if log:
            print_advice(screen, "The curve over commits:", view_command("speed", tracking_uri))
    for name, reason in measured.failed.items():
        say(f"{name} failed: {reason}")
    if measured.failed:
        raise typer.Exit(EXIT_FAILED)


def _recorded(select: str | None, tracking_uri: str | None) -> Measured:
    """Measure and record; a store that cannot be written is found first."""
    from fedbench.bench.recording import open_speed, record_speed
    from fedbench.bench.run import checkout, run_benchmarks
    from fedbench.tracking.mlflow.store import default_tracking_uri
    from fedbench.util.commits import commit_of

    uri = tracking_uri or default_tracking_uri()
    client, commit = open_speed(uri), commit_of(checkout())
    if commit.is_shallow:
        say("the repository lacks history: the timings are recorded at too small a step (see: git fetch --unshallow)")
    measured = run_benchmarks(select)
    if measured.results:
        record_speed(client, measured, commit)
    return measured
