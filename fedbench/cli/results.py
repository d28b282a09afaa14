"""The commands on what is recorded: report, compare, export, history, runs. They read the tracking store alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.exits import EXIT_FAILED
from fedbench.cli.options import JsonOption, SuiteArgument, TrackingUriOption, console, print_json
from fedbench.util.errors import StoreError, SuiteError

if TYPE_CHECKING:
    from fedbench.reports.reading import StoredSuite
    from fedbench.tracking.mlflow.listing import ListedRun

runs_app = typer.Typer(help="List, show and delete the runs of the store.", no_args_is_help=True)


def add_result_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("report", epilog="Example: fedbench report quickstart --out report")(report_command)
    app.command("compare", epilog="Example: fedbench compare ~/main/mlruns mlruns")(compare_command)
    app.command("conformance", epilog="Example: fedbench conformance paper-table2")(conformance_command)
    app.command("export", epilog="Example: fedbench export quickstart --out quickstart.csv")(export_command)
    app.command("history", epilog="Example: fedbench history quickstart --out report")(history_command)
    app.add_typer(runs_app, name="runs")


def _suite_name(name_or_path: str) -> str:
    """The name of a suite that is given by its name or by its file; the store is asked for no more than that."""
    if not name_or_path.endswith((".yaml", ".yml")):
        return name_or_path
    from fedbench.suites.loading import load_suite

    return load_suite(name_or_path).name


def _read(name_or_path: str, tracking_uri: str | None) -> StoredSuite:
    name = _suite_name(name_or_path)  # before the imports: an error in it is told at once
    from fedbench.reports.reading import read_suite
    from fedbench.tracking.mlflow.store import default_tracking_uri

    return read_suite(name, tracking_uri or default_tracking_uri())


def report_command(
    suite_name: SuiteArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write to (default: mlruns/reports/SUITE).", show_default=False),
    ] = None,
    log: Annotated[bool, typer.Option(help="Keep the report in the store too, as a run of the experiment.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON; the page is written with --out alone.")
    ] = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Write a suite's results on one page, with figures, from the tracking store alone."""
    stored = _read(suite_name, tracking_uri)
    if as_json:
        from fedbench.reports.suite_results import stored_json

        print_json(stored_json(stored.suite, [cell.result for cell in stored.cells]))
        if out is None:
            return
    from fedbench.reports.page import log_report, make_report
    from fedbench.tracking.mlflow.store import DEFAULT_FOLDER

    folder = out or DEFAULT_FOLDER / "reports" / stored.suite.name
    page = make_report(stored, folder)
    if log:
        log_report(stored, folder)
    typer.echo(f"{page}: open it in a browser. The figures are in {page.parent / 'figures'}.", err=as_json)


def compare_command(
    first: Annotated[str, typer.Argument(metavar="A", help="A store, an invocation or a commit.")],
    second: Annotated[str, typer.Argument(metavar="B", help="What to compare with it. STORE#WHICH names both.")],
    suite_name: Annotated[
        str | None, typer.Option("--suite", help="This suite alone (default: all in both).", show_default=False)
    ] = None,
    metric: Annotated[str, typer.Option(help="The metric, of which the last round counts.")] = "accuracy",
    as_json: JsonOption = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Compare two stores, invocations or commits: each cell's difference, its interval, and a verdict.

    A store is an address, a SQLite file, or a folder that holds mlflow.db. An invocation is one of `fedbench runs
    list`; a commit is a hash, or a name that git knows.
    """
    from fedbench.reports.compare import compare
    from fedbench.reports.comparison_table import comparison_json, comparison_table

    comparison = compare(first, second, tracking_uri, suite_name, metric)
    if as_json:
        print_json(comparison_json(comparison))
    else:
        console().print(comparison_table(comparison))


def conformance_command(
    suite_name: SuiteArgument,
    as_json: JsonOption = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Compare a suite's results with the published ones in its file, row by row; exit code 1 if one is outside.

    A row that has not run yet is no failure.
    """
    from fedbench.suites.loading import load_suite

    suite = load_suite(suite_name)
    if not suite.conformance:
        raise SuiteError(f"{suite.path}: there is nothing to conform to; add the key conformance to the file")
    from fedbench.reports.conformance import OUTSIDE, conformance
    from fedbench.reports.conformance_table import conformance_json, conformance_table
    from fedbench.reports.reading import read_suite
    from fedbench.tracking.mlflow.store import default_tracking_uri

    rows = conformance(suite, read_suite(suite.name, tracking_uri or default_tracking_uri()))
    if as_json:
        print_json(conformance_json(suite, rows))
    else:
        console().print(conformance_table(suite, rows))
    if any(row.verdict in OUTSIDE for row in rows):
        raise typer.Exit(EXIT_FAILED)


def export_command(
    suite_name: SuiteArgument,
    out: Annotated[Path, typer.Option(help="The file to write: .csv or .parquet.")],
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Write a suite's runs as one tidy table: a row for each run and round."""
    from fedbench.reports.export import export_suite, require_known_ending

    require_known_ending(out)
    rows = export_suite(_read(suite_name, tracking_uri), out)
    typer.echo(f"{out}: {rows} rows")


def history_command(
    suite_name: Annotated[
        str, typer.Argument(metavar="SUITE", help="A suite's name or file; speed: the timing benchmarks alone.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write to (default: mlruns/reports/SUITE).", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead; figures are written with --out alone.")
    ] = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Draw a suite's accuracy and the code's speed over commits, from what `fedbench check` recorded."""
    name = _suite_name(suite_name)
    from fedbench.reports.history import read_history
    from fedbench.reports.history_table import history_json, history_table
    from fedbench.tracking.mlflow.store import DEFAULT_FOLDER, default_tracking_uri

    history = read_history(name, tracking_uri or default_tracking_uri())
    figures: list[Path] = []
    if out or not as_json:
        from fedbench.reports.history_figures import write_figures

        figures = write_figures(history, out or DEFAULT_FOLDER / "reports" / name)
    if as_json:
        print_json(history_json(history, list(map(str, figures))))
        return
    console().print(history_table(history))
    for path in figures:
        typer.echo(path)


@runs_app.command("list", epilog="Example: fedbench runs list quickstart --status orphaned")
def runs_list(
    suite_name: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="Only this suite's runs.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only these: finished, failed, killed, running, orphaned or superseded.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """List runs: what became of each, and by which invocation."""
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
    """Show one run: tags, parameters, last metrics, and who works on it."""
    from fedbench.reports.runs import run_details, run_json
    from fedbench.tracking.mlflow.listing import find_run

    run = find_run(run_id, tracking_uri)
    if as_json:
        print_json(run_json(run))
    else:
        console().print(run_details(run))


@runs_app.command("delete", epilog="Example: fedbench runs delete quickstart --status superseded")
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
    """Delete runs with their models and checkpoints, and bring the cells' summaries up to date."""
    if run_ids is None and cell is None and status is None:
        raise StoreError("say which runs: --run, --cell or --status (all of a suite: mlflow experiments delete)")
    runs = _chosen_runs(_suite_name(suite_name), status, cell, tracking_uri)
    if run_ids is not None:
        runs = [each for each in runs if any(each.run_id.startswith(prefix) for prefix in run_ids)]
    if not runs:
        typer.echo("no such runs: nothing is deleted")
        return
    if not yes:
        from fedbench.reports.runs import runs_table

        console().print(runs_table(runs))
        typer.confirm(f"Delete these {len(runs)} runs?", abort=True)
    from fedbench.tracking.mlflow.listing import delete_runs

    delete_runs(runs, tracking_uri)
    typer.echo(f"{len(runs)} runs deleted (`mlflow runs restore` brings one back, `mlflow gc` frees the disk)")


def _chosen_runs(
    suite_name: str | None, status: str | None, cell: str | None, tracking_uri: str | None
) -> list[ListedRun]:
    from fedbench.tracking.mlflow.listing import STATUSES, list_runs

    if status is not None and status not in STATUSES:
        raise StoreError(f"--status {status}: choose from {', '.join(STATUSES)}")
    runs = list_runs(None if suite_name is None else _suite_name(suite_name), tracking_uri)
    kept = [each for each in runs if status in (None, each.status)]
    return [each for each in kept if cell in (None, each.run.data.tags.get("fedbench.cell"))]
