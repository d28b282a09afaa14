"""The commands `fedbench runs`: list, show and delete runs of the store."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.completion import complete_suite
from fedbench.cli.exits import EXIT_FAILED, say
from fedbench.cli.help import Group
from fedbench.cli.options import JsonOption, SuiteArgument, TrackingUriOption, console, print_json, suite_name_of
from fedbench.util.advice import command
from fedbench.util.errors import StoreError
from fedbench.util.progress import loading
from fedbench.util.text import counted

if TYPE_CHECKING:
    from fedbench.tracking.records import RunRecord

runs_app = typer.Typer(cls=Group, help="List, show and delete the runs of the store.", no_args_is_help=True)


@runs_app.command("list", epilog="Example: fedbench runs list quickstart --status orphaned")
def runs_list(
    suite_name: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="Only this suite's runs.", autocompletion=complete_suite)
    ] = None,
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
    with loading("runs", "MLflow"):
        from fedbench.reports.runs import run_details, run_json
        from fedbench.tracking.mlflow.listing import find_run, list_runs

    run = find_run(run_id, list_runs(None, tracking_uri), tracking_uri)
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
    from fedbench.tracking.mlflow.database import chosen_store, mlflow_uri

    see = command("fedbench", "runs", "list", suite_name, tracking_uri=chosen_store(tracking_uri))
    if run_ids is None and cell is None and status is None:
        raise StoreError(f"say which runs: --run, --cell or --status (see: {see})")
    with loading("runs", "MLflow"):
        from fedbench.tracking.mlflow.listing import delete_runs, find_run
    from fedbench.tracking.mlflow.store import default_tracking_uri, mlflow_command, without_password

    runs = _chosen_runs(suite_name, status, cell, tracking_uri)
    if run_ids is not None:
        ids = {find_run(prefix, runs, tracking_uri).run_id for prefix in run_ids}
        runs = [each for each in runs if each.run_id in ids]
    if cell is not None and not runs:
        raise StoreError(f"--cell {cell}: no such runs of {suite_name}: see their labels with {see}")
    if not runs:
        typer.echo("no such runs: nothing is deleted")
        return
    if not yes:
        from fedbench.reports.runs import runs_table

        console().print(runs_table(runs))
        if not _confirm("Delete this run?" if len(runs) == 1 else f"Delete these {len(runs)} runs?"):
            say("nothing was deleted")
            raise typer.Exit(EXIT_FAILED)
        shown = {(each.run_id, each.status) for each in runs}  # one that began or ended meanwhile is another now
        runs = [
            each for each in _chosen_runs(suite_name, None, None, tracking_uri) if (each.run_id, each.status) in shown
        ]
        if spared := len(shown) - len(runs):
            say(f"{spared} of them changed meanwhile and stay")
    delete_runs(runs, tracking_uri)
    if _chosen_runs(suite_name, "finished", None, tracking_uri):  # how the cells compare may be another answer now
        from fedbench.api import record_answers

        record_answers(suite_name_of(suite_name), tracking_uri)
    place = tracking_uri or default_tracking_uri()
    restore = mlflow_command(place, "runs restore --run-id ID")
    clear = mlflow_command(place, f"gc --backend-store-uri {shlex.quote(without_password(mlflow_uri(place)))}")
    typer.echo(f"{counted(len(runs), 'run')} deleted. To restore one: {restore}\nTo free the disk for good: {clear}")


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
    with loading("runs", "MLflow"):
        from fedbench.tracking.mlflow.listing import STATUSES, list_runs

    if status is not None and status not in STATUSES:
        raise StoreError(f"--status {status}: choose from {', '.join(STATUSES)}")
    runs = list_runs(name, tracking_uri, suite_name)
    return [each for each in runs if status in (None, each.status) and cell in (None, each.tags.get("fedbench.cell"))]
