"""The commands `fedbench data`: list, download and check the datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedbench.cli.exits import EXIT_FAILED
from fedbench.cli.help import Group
from fedbench.cli.options import DataDirOption, JsonOption, console, print_json
from fedbench.util.errors import DataError

data_app = typer.Typer(cls=Group, help="List, download and check the datasets.", no_args_is_help=True)


@data_app.command("list", epilog="Example: fedbench data list")
def data_list(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List the datasets and whether they are present."""
    from fedbench.datasets import dataset_statuses
    from fedbench.reports.listings import datasets_json, datasets_table

    statuses = dataset_statuses(data_dir)
    if as_json:
        print_json(datasets_json(statuses))
    else:
        console().print(datasets_table(statuses))


DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A dataset of `fedbench data list`, or all of them; one of torchvision, as torchvision:CIFAR100; or any "
        "name as in a suite.",
    ),
]


@data_app.command("fetch", epilog="Example: fedbench data fetch ham10000 --from ~/Downloads/archive.zip")
def data_fetch(
    name: DatasetArgument,
    source: Annotated[
        Path | None, typer.Option("--from", help="Take it from this folder or archive.", show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Download a dataset from FEDBENCH_MIRROR or its public source, or copy it from --from; checksummed, resumable."""
    from fedbench.datasets import data_dir as resolve

    for each in _named_datasets(name):
        _dataset(each, "fetch", "downloaded").fetch(resolve(data_dir), source)
        typer.echo(f"{each}: ready")


@data_app.command("verify", epilog="Example: fedbench data verify all")
def data_verify(name: DatasetArgument = "all", data_dir: DataDirOption = None) -> None:
    """Check every file of a dataset."""
    from fedbench.datasets import data_dir as resolve

    problems = 0
    for each in _named_datasets(name):
        try:
            _dataset(each, "verify", "checked").verify(resolve(data_dir))
            typer.echo(f"{each}: all files are present and intact")
        except DataError as error:
            problems += 1
            typer.echo(f"{each}: {error}")
    if problems:
        raise typer.Exit(EXIT_FAILED)


def _named_datasets(name: str) -> list[str]:
    from fedbench.datasets import DATASETS

    return list(DATASETS) if name == "all" else [name]


def _dataset(name: str, action: str, done: str) -> Any:
    """What loads a dataset, if it has the function `action`."""
    from fedbench.components import find

    dataset = find("dataset", name).make()
    if not hasattr(dataset, action):
        raise DataError(f"dataset {name} cannot be {done}: it has no function {action}")
    return dataset
