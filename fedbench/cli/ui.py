"""The commands `fedbench ui` and `fedbench doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from fedbench.cli.completion import complete_suite
from fedbench.cli.exits import EXIT_FAILED
from fedbench.cli.options import DataDirOption, JsonOption, TrackingUriOption, console, print_json
from fedbench.util.errors import StoreError
from fedbench.util.progress import loading


def add_ui_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    app.command("ui", epilog="Example: fedbench ui quickstart --port 5001")(ui_command)
    app.command("doctor", epilog="Example: fedbench doctor")(doctor_command)


def ui_command(
    suite_name: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUITE]", help="Print the address of this suite's experiment.", autocompletion=complete_suite
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5000,
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default is reachable from this machine only.")
    ] = "127.0.0.1",
    tracking_uri: TrackingUriOption = None,
) -> None:
    """Open the MLflow UI on the store; Ctrl-C ends it."""
    if not host.strip():
        raise StoreError("--host is empty, which is every address of this machine: leave it out, or give one")
    with loading("the MLflow UI", "MLflow"):
        from fedbench.tracking.mlflow.ui import serve

    recorded_by = {"speed": ("bench",), "regression": ("check", "SUITE")}
    serve(suite_name, host, port, tracking_uri, recorded_by.get(suite_name or "", ()))


def doctor_command(
    data_dir: DataDirOption = None, tracking_uri: TrackingUriOption = None, as_json: JsonOption = False
) -> None:
    """Check that everything that a run needs is installed and works."""
    from fedbench.reports.listings import findings_table
    from fedbench.runs.doctor import examine

    findings = examine(data_dir, tracking_uri)
    if as_json:
        print_json({"findings": [vars(finding) for finding in findings]})
    else:
        console().print(findings_table(findings))
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(EXIT_FAILED)
