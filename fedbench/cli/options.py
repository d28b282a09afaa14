"""Arguments and options that commands share, and how they print."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, cast

import typer

from fedbench.cli.completion import complete_setting, complete_suite
from fedbench.executors.needs import MOST_CPUS, MOST_GIB, MOST_WORKERS
from fedbench.util.advice import command

if TYPE_CHECKING:
    from rich.console import Console

SuiteArgument = Annotated[
    str,
    typer.Argument(metavar="SUITE", help="A suite's name, or a path to its YAML file.", autocompletion=complete_suite),
]
# Control characters but tabs, ends of lines and changes of colour; and what reverses the order of letters.
CONTROL = re.compile(r"(?!\x1b\[[\d;]*m)[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def _use_data_dir(chosen: Path | None) -> Path | None:
    """What is known of a dataset of torchvision is in the data folder, which a suite does not name."""
    if chosen:
        os.environ["FEDBENCH_DATA_DIR"] = str(chosen)
    return chosen


DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="The data folder (default: FEDBENCH_DATA_DIR, else data).",
        show_default=False,
        callback=_use_data_dir,
    ),
]
TrackingUriOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="The MLflow store (default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db).",
        show_default=False,
    ),
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", help="Seeds instead of the file's: 0,1,2 or 0-4.", show_default=False)
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=MOST_WORKERS,
        help="Cores that compute (default: as many as the machine has).",
        show_default=False,
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
ExecutorOption = Annotated[
    Literal["local", "ray"], typer.Option("--executor", help="Where runs are computed: on this machine, or by Ray.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="The head of the Ray cluster (default: RAY_ADDRESS, else Ray is started on this machine).",
        show_default=False,
    ),
]
CpusOption = Annotated[
    int | None,
    typer.Option(
        "--cpus-per-run",
        min=1,
        max=MOST_CPUS,
        help="With Ray: cores of a node that a run takes (default: 1).",
        show_default=False,
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-run",
        min=0,
        max=1,
        help="With Ray: GPUs, or the part of one, that a run takes (default: 1 with --device cuda).",
        show_default=False,
    ),
]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory-per-run",
        min=0.1,
        max=MOST_GIB,
        help="With Ray: memory of a node that a run takes, in GiB (default: 1).",
        show_default=False,
    ),
]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set a field in every scenario; a list is an axis.",
        show_default=False,
        autocompletion=complete_setting,
    ),
]


def suite_name_of(name_or_path: str) -> str:
    """The name of a suite that is given by its name or by its file."""
    if not name_or_path.endswith((".yaml", ".yml")):
        return name_or_path
    from fedbench.suites.files import read_name

    return read_name(Path(name_or_path))


def view_command(name: str, tracking_uri: str | None) -> str:
    """The command that shows an experiment in MLflow's UI."""
    from fedbench.tracking.mlflow.database import chosen_store

    return command("fedbench", "ui", name, tracking_uri=chosen_store(tracking_uri))


class _Printable:
    """A stream that escapes what a terminal must not be sent, whoever named a suite, a column or a class.

    Colours stay, for which `rich` needs them.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(CONTROL.sub(lambda found: ascii(found[0])[1:-1], text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console() -> Console:
    """A console for standard output: as wide as the terminal, plain in a pipe."""
    from rich.console import Console

    return Console(
        file=cast("TextIO", _Printable(sys.stdout)),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not sys.stdout.isatty(),
        width=None if sys.stdout.isatty() else 160,
    )


def print_advice(screen: Console, text: str, advised: str) -> None:
    """Print a sentence and the command that it advises, in one piece, so that it can be copied."""
    if screen.soft_wrap or len(text) + len(advised) < screen.width:
        screen.print(f"{text} {advised}")
    else:
        screen.print(text)
        screen.print(f"  {advised}", soft_wrap=True)


def print_json(content: Any) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
