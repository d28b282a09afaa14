"""The command line: parse, call, print. Each command imports what it needs, so that help and errors are quick."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fedbench.cli.bench import add_bench_command
from fedbench.cli.data import data_app
from fedbench.cli.exits import run_to_exit
from fedbench.cli.gate import add_gate_commands
from fedbench.cli.help import Group
from fedbench.cli.parts import add_part_commands
from fedbench.cli.results import add_result_commands
from fedbench.cli.run import add_run_commands
from fedbench.cli.runs import runs_app
from fedbench.cli.tune import add_tune_command
from fedbench.cli.ui import add_ui_commands
from fedbench.util.files import with_home

PLACES = {"FEDBENCH_DATA_DIR", "FEDBENCH_CHECKPOINT_DIR", "FEDBENCH_MIRROR", "MLFLOW_TRACKING_URI"}

app = typer.Typer(
    name="fedbench",
    cls=Group,
    help="A benchmark suite of Federated Averaging whose every run is tracked in MLflow.",
    epilog="Start with: fedbench run quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes cut options in a narrow terminal
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; every error ends in one line on standard error and an exit code."""
    run_to_exit(lambda: app(_expanded_arguments(), standalone_mode=False, prog_name="fedbench"))


def _expanded_arguments() -> list[str]:
    """The arguments, with the home folder for "~" in paths and addresses, which no shell expands after "=" or ":".

    So it is in the variables that name places; there other variables are expanded too.
    """
    for name in PLACES & os.environ.keys():
        os.environ[name] = with_home(os.path.expandvars(os.environ[name]))
    return [with_home(argument) for argument in sys.argv[1:]]


def _version(show: bool) -> None:
    if show:
        from fedbench import __version__

        typer.echo(f"fedbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


add_run_commands(app)
add_part_commands(app)
add_tune_command(app)
add_result_commands(app)
app.add_typer(runs_app, name="runs")
add_gate_commands(app)
add_bench_command(app)
app.add_typer(data_app, name="data")
add_ui_commands(app)


if __name__ == "__main__":
    main()
