"""The commands `fedbench runs`: list, show and delete runs of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.exits import EXIT_FAILED, say
from fedbench.cli.options import JsonOption, SuiteArgument, TrackingUriOption, console, print_json, suite_name_of
from fedbench.util.errors import StoreError

if TYPE_CHECKING:
    from fedbench.tracking.records import RunRecord

runs_app = typer.Typer(help="List, show and delete the runs of the store.", no_args_is_help=True)


@runs_app.command("list", epilog="Example: fedbench runs list quickstart --status orphaned")
def runs_list(
    suite_name: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="Only this suite's runs.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only these: finished, failed, killed, running or orphaned.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """List runs with their status, verdict and invocation."""
    runs = _chosen_runs(suite_name, status, None, tracking_uri)
    from fedbench.reports.runs import run_json, runs_table

    if as_json:
        print_json({"runs": [run_json(each) for each in runs]})
    else:
        console().print(runs_table(runs))


@runs_app.command("show", epilog="Example: fedbench runs show 1f0c3a9d")
def runs_show(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its beginning.")],
    as_json: JsonOption = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Show one run: tags, parameters, last metrics, and which process works on it."""
    from fedbench.reports.runs import run_details, run_json
    from fedbench.tracking.mlflow.listing import find_run

    run = find_run(run_id, tracking_uri)
    if as_json:
        print_json(run_json(run))
    else:
        console().print(run_details(run))


@runs_app.command("delete", epilog="Example: fedbench runs delete quickstart --status failed")
def runs_delete(
    suite_name: SuiteArgument,
    run_ids: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="RUN", help="This run; may be repeated.", show_default=False),
    ] = None,
    cell: Annotated[str | None, typer.Option(help="Runs of the cell with this label.", show_default=False)] = None,
    status: Annotated[
        str | None, typer.Option(help="Runs with this status (see: fedbench runs list).", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Delete runs with their models and checkpoints, and update the summaries of their cells."""
    if run_ids is None and cell is None and status is None:
        raise StoreError("say which runs: --run, --cell or --status (all of a suite: mlflow experiments delete)")
    runs = _chosen_runs(suite_name, status, cell, tracking_uri)
    if run_ids is not None:
        runs = [each for each in runs if each.run_id.startswith(tuple(run_ids))]
    if not runs:
        typer.echo("no such runs: nothing is deleted")
        return
    if not yes:
        from fedbench.reports.runs import runs_table

        console().print(runs_table(runs))
        if not _confirm(f"Delete these {len(runs)} runs?"):
            say("nothing was deleted")
            raise typer.Exit(EXIT_FAILED)
    from fedbench.tracking.mlflow.listing import delete_runs

    delete_runs(runs, tracking_uri)
    typer.echo(f"{len(runs)} runs deleted (`mlflow runs restore` restores one, `mlflow gc` frees the disk)")


def _confirm(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:  # Ctrl-C, or no answer at all
        typer.echo()
        return False


def _chosen_runs(
    suite_name: str | None, status: str | None, cell: str | None, tracking_uri: str | None
) -> list[RunRecord]:
    name = None if suite_name is None else suite_name_of(suite_name)
    from fedbench.tracking.mlflow.listing import STATUSES, list_runs

    if status is not None and status not in STATUSES:
        raise StoreError(f"--status {status}: choose from {', '.join(STATUSES)}")
    runs = list_runs(name, tracking_uri)
    return [each for each in runs if status in (None, each.status) and cell in (None, each.tags.get("fedbench.cell"))]
