"""The commands on recorded results: report, answer, compare, conformance, export, history. They read the store only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.completion import complete_suite
from fedbench.cli.exits import EXIT_FAILED, say
from fedbench.cli.options import JsonOption, SuiteArgument, TrackingUriOption, console, print_json, suite_name_of
from fedbench.suites.checks import check_value
from fedbench.suites.contrast import ContrastMeasure, ContrastSpec
from fedbench.util.errors import StoreError, SuiteError
from fedbench.util.progress import loading, phase
from fedbench.util.text import any_of, counted

if TYPE_CHECKING:
    from fedbench.tracking.records import StoredSuite

OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="The folder to write to (default: mlruns/reports/SUITE).", show_default=False),
]


def add_result_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("report", epilog="Example: fedbench report quickstart --out report")(report_command)
    app.command("answer", epilog="Example: fedbench answer algorithms --measure loss")(answer_command)
    app.command("compare", epilog="Example: fedbench compare ~/main/mlruns mlruns")(compare_command)
    app.command("conformance", epilog="Example: fedbench conformance paper-table2")(conformance_command)
    app.command("export", epilog="Example: fedbench export quickstart --out quickstart.csv")(export_command)
    app.command("history", epilog="Example: fedbench history quickstart --out report")(history_command)


def _read(name_or_path: str, tracking_uri: str | None) -> tuple[StoredSuite, str]:
    """A suite's records, and the address of the store."""
    name = suite_name_of(name_or_path)  # before the imports, so that an error is quick
    from fedbench.suites.contrast import read_contrast

    with loading(name, "MLflow"):
        from fedbench.tracking.mlflow.store import default_tracking_uri
        from fedbench.tracking.mlflow.suites import read_suite

        uri = tracking_uri or default_tracking_uri()
        phase("reading the store")
        stored = read_suite(name, uri, name_or_path)
    contrast = read_contrast(name_or_path)
    return stored if contrast is None else replace(stored, contrast=contrast), uri


def report_command(
    suite_name: SuiteArgument,
    out: OutOption = None,
    log: Annotated[bool, typer.Option(help="Keep the report in the store too, as a run of the experiment.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON; the page is written with --out only.")
    ] = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Write a suite's results on one page to explore, print and send."""
    stored, uri = _read(suite_name, tracking_uri)
    if as_json:
        from fedbench.reports.results import stored_json

        print_json(stored_json(stored))
        if out is None:
            return
    from fedbench.reports.page import default_folder, make_report
    from fedbench.tracking.mlflow.store import open_existing_store
    from fedbench.tuning.reading import read_studies

    studies = read_studies(open_existing_store(uri), stored.name)
    page = make_report(stored, out or default_folder(stored.name), studies)
    if log:
        from fedbench.tracking.mlflow.report import log_report

        try:
            log_report(uri, stored.name, page)
        except StoreError as error:  # such as one that can only be read
            say(f"warning: the report is not kept in the store: {error}")
    typer.echo(f"{page}: open it in a browser.", err=as_json)


def answer_command(
    suite_name: SuiteArgument,
    measure: Annotated[
        str | None,
        typer.Option(
            help=f"What cells are compared by: {any_of(list(ContrastMeasure))} (default: the suite's, else accuracy).",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Answer a suite's question from what is recorded: which cells differ, by how much, and how sure that is."""
    chosen = check_value("measure", measure, "--measure", ContrastSpec)
    stored, _ = _read(suite_name, tracking_uri)
    from fedbench.reports.answers import answer_all, answers_json, answers_text

    answers = answer_all(stored.current, stored.contrast, chosen)
    if as_json:
        print_json({"suite": stored.name, "question": stored.question, "answers": answers_json(answers)})
    else:
        console().print(answers_text(stored.question, answers, len(stored.cells) - len(stored.current)))


def compare_command(
    first: Annotated[str, typer.Argument(metavar="A", help="A store, an invocation or a commit.")],
    second: Annotated[str, typer.Argument(metavar="B", help="What to compare with it. STORE#WHICH names both.")],
    suite_name: Annotated[
        str | None, typer.Option("--suite", help="Only this suite (default: all that both have).", show_default=False)
    ] = None,
    metric: Annotated[str, typer.Option(help="The metric, of which the last round counts.")] = "accuracy",
    as_json: JsonOption = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Compare two stores, invocations or commits: each cell's difference, its interval, and a verdict.

    A store is an address, a SQLite file, or a folder that holds mlflow.db. An invocation is one of `fedbench runs
    list`; a commit is a hash, or a name that git knows.
    """
    with loading("comparing", "MLflow"):
        from fedbench.reports.comparison import compare, comparison_json, comparison_table
        from fedbench.tracking.mlflow.store import default_tracking_uri, without_password
        from fedbench.tracking.mlflow.suites import find_suites

        uri = tracking_uri or default_tracking_uri()
        phase("reading the stores")
        sides = [find_suites(each, uri, suite_name) for each in (first, second)]
    comparison = compare(sides[0], sides[1], (without_password(first), without_password(second)), metric)
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
        raise SuiteError(f"{suite.path}: it has no published results; add the key conformance to the file")
    from fedbench.reports.conformance import OUTSIDE, conformance, conformance_json, conformance_table

    stored, _ = _read(suite_name, tracking_uri)
    rows = conformance(suite, stored)
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
    from fedbench.reports.tables import export_suite, require_known_suffix

    require_known_suffix(out)
    stored, _ = _read(suite_name, tracking_uri)
    typer.echo(f"{out}: {counted(export_suite(stored, out), 'row')}")


def history_command(
    suite_name: Annotated[
        str,
        typer.Argument(
            metavar="SUITE",
            help="A suite's name or file; speed: the timing benchmarks only.",
            autocompletion=complete_suite,
        ),
    ],
    out: OutOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead; the page is written with --out only.")
    ] = False,
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Draw a suite's accuracy and the code's speed over commits, as `fedbench check` recorded them."""
    name = suite_name_of(suite_name)
    with loading(name, "MLflow"):
        from fedbench.gate.history import read_history
        from fedbench.reports.history import history_json, history_table
        from fedbench.tracking.mlflow.store import DEFAULT_FOLDER, default_tracking_uri

        phase("reading the store")
        history = read_history(name, tracking_uri or default_tracking_uri(), suite_name)
    pages: list[Path] = []
    if out or not as_json:
        from fedbench.reports.history_figures import write_history

        pages.append(write_history(history, out or DEFAULT_FOLDER / "reports" / name))
    if as_json:
        print_json(history_json(history, list(map(str, pages))))
        return
    console().print(history_table(history))
    typer.echo(f"{pages[0]}: open it in a browser.")
