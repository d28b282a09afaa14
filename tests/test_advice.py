"""The commands that messages advise work as they are written, where they are written."""

from __future__ import annotations

import ast
import html
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import mlflow
import optuna.cli
import pytest
import typer
from click.testing import CliRunner
from command import fedbench_here
from empty_store import put_empty_store
from made_store import record
from mlflow.cli import cli as mlflow_cli
from mlflow.entities import ViewType

from fedbench.cli.app import app
from fedbench.suites.loading import load_suite
from fedbench.tracking.mlflow.database import mlflow_uri
from fedbench.tracking.mlflow.errors import store_errors
from fedbench.tracking.mlflow.store import open_store
from fedbench.tuning.storage import open_storage, storage_errors
from fedbench.util.advice import command
from fedbench.util.errors import FedbenchError
from fedbench.util.files import sqlite_address

SOURCE = Path(__file__).parent.parent / "fedbench"
FEDBENCH: Any = typer.main.get_command(app)
PROGRAMS = r"(?:fedbench|mlflow|optuna|pip)"
WORD = r"(?:(?:'[^']*'|\"'\")+|[^\s'`,;()]+)"
ADVISED = re.compile(rf"(?:MLFLOW_TRACKING_URI={WORD} )?{PROGRAMS}(?: {WORD})+")
NAMED = re.compile(rf"\b(?:fedbench (?:{'|'.join(FEDBENCH.commands)})|(?:mlflow|optuna|pip) [a-z-]+)\b")
# What names a command where no option depends on the situation: of a fixed example, a title, or prose.
FIXED = {
    "bench/recording.py": {"fedbench bench"},
    "bench/run.py": {"pip install"},
    "cli/gate.py": {"fedbench check"},
    "datasets/mnist_5k.py": {"pip install"},
    "executors/__init__.py": {"pip install"},
    "gate/recording.py": {"fedbench check"},
    "kernels/loading.py": {"pip install"},
    "reports/listings.py": {"fedbench components", "fedbench run", "fedbench suites"},
    "reports/parts.py": {"fedbench components", "fedbench new"},
    "reports/runs.py": {"fedbench run"},
    "runs/doctor.py": {"pip install"},
    "suites/json_schema.py": {"fedbench tune", "fedbench conformance"},
    "suites/yaml_loader.py": {"fedbench suites"},
    "tracking/mlflow/database.py": {"pip install"},
    "tracking/mlflow/errors.py": {"mlflow if"},
    "tracking/mlflow/describe.py": {"fedbench report"},
    "tuning/save.py": {"fedbench tune"},
    "tuning/storage.py": {"optuna version", "optuna if"},
    "tuning/study_records.py": {"fedbench report"},
}
ONE_RUN = "name: made\nquestion: Why?\nseeds: [0]\nscenarios: [{name: a, rounds: 1, examples_per_client: 10}]\n"


def literals(path: Path) -> set[str]:
    """The commands that the texts of a module name, but for docstrings and the help."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    apart: set[ast.AST] = {node.value for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    for node in nodes:
        if isinstance(node, ast.keyword) and node.arg in ("help", "epilog"):
            apart |= set(ast.walk(node.value))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and node not in apart]
    return {found for text in texts if isinstance(text, str) for found in NAMED.findall(text)}


def test_no_message_names_a_command_but_by_the_function_for_it() -> None:
    found = {str(path.relative_to(SOURCE)): literals(path) for path in SOURCE.rglob("*.py")}
    assert {name: names for name, names in FIXED.items() if names} == {
        name: each for name, each in found.items() if each
    }


def test_a_command_is_quoted_for_the_shell() -> None:
    text = command("fedbench", "run", Path("my suites/a.yaml"), tracking_uri="sqlite:///a&b.db", reason=None)
    assert "fedbench run 'my suites/a.yaml' --tracking-uri 'sqlite:///a&b.db'" == text


def parse(words: list[str]) -> None:
    """Parse a command of fedbench, without executing it."""
    group: Any = FEDBENCH
    while hasattr(group, "commands"):
        group, words = group.commands[words[0]], words[1:]
    group.make_context("fedbench", words)


@pytest.mark.parametrize("path", [path for path in SOURCE.rglob("*.py") if "/cli/" in str(path)], ids=lambda p: p.name)
def test_the_examples_of_the_help_can_be_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDBENCH_DATA_DIR", "data")
    for example in re.findall(r"Example: fedbench (.*?)['\"]\)", path.read_text()):
        parse(shlex.split(example))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name means much to a shell and in an address, with a suite in another."""
    folder = tmp_path / "it's 100% a & b; $HOME"
    (folder / "my suites").mkdir(parents=True)
    (folder / "my suites" / "made.yaml").write_text(ONE_RUN)
    put_empty_store(f"sqlite:///{folder}/store/mlflow.db")
    return folder


@pytest.fixture
def recorded(folder: Path) -> Path:
    record(load_suite(folder / "my suites" / "made.yaml"), address(folder))
    return folder


def address(folder: Path, name: str = "mlflow") -> str:
    return sqlite_address(folder / "store" / f"{name}.db")


def execute(words: list[str], folder: Path) -> str:
    """Execute a command in this process; what it says."""
    if words[0] == "fedbench":
        done = fedbench_here(*words[1:], folder=folder)
        if done.code:
            follow(done.err, folder)
            done = fedbench_here(*words[1:], folder=folder)
        assert 0 == done.code, done.err
        return done.out
    with pytest.MonkeyPatch.context() as changes:
        if "=" in words[0]:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type] # as in a process of its own
            changes.setenv(*words.pop(0).split("=", 1))
        program, *arguments = words
        if program == "optuna":
            changes.setattr(sys, "argv", words)
            assert 0 == optuna.cli.main()
        else:
            assert "mlflow" == program
            done = CliRunner().invoke(mlflow_cli, arguments, catch_exceptions=False)
            assert 0 == done.exit_code, done.output
    return ""


def follow(message: str, folder: Path) -> list[str]:
    """Execute the commands that a message advises."""
    advised = ADVISED.findall(message.replace("fedbench: ", ""))
    assert advised, message
    for each in advised:
        execute(shlex.split(each), folder)
    return advised


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report", "history"])
@pytest.mark.nightly
def test_following_the_advice_leads_to_the_results(name: str, folder: Path) -> None:
    """A report needs a run, a history needs a check, which needs a baseline of models that learn."""
    more = ONE_RUN.replace("rounds: 1, examples_per_client: 10", "rounds: 3, examples_per_client: 200")
    (folder / "my suites" / "made.yaml").write_text(more)
    store = ("--tracking-uri", address(folder))
    assert execute(["fedbench", name, "my suites/made.yaml", "--out", "my results", *store], folder)


def test_a_report_says_how_to_update_it(recorded: Path) -> None:
    store = ("--tracking-uri", address(recorded))
    execute(["fedbench", "report", "made", "--out", "my report", *store], recorded)
    page = html.unescape((recorded / "my report" / "report.html").read_text())
    (again,) = re.findall(r"To update it: (.*)</", page)
    (look,) = re.findall(r"in the MLflow UI: (.*)</", page)
    assert execute(shlex.split(again), recorded).startswith("my report/report.html")
    assert ["fedbench", "ui", "made", *store] == shlex.split(look)


def test_runs_are_listed_restored_and_cleared(recorded: Path) -> None:
    store = ("--tracking-uri", address(recorded))
    for words in (
        ["runs", "show", "zzzz"],
        ["runs", "show", "z"],
        ["runs", "delete", "made"],
        ["runs", "delete", "made", "--cell", "nosuch"],
        ["compare", "nosuch", "nosuch"],
        ["compare", "20200101T000000", "20200101T000000"],
    ):
        done = fedbench_here(*words, *store, folder=recorded)
        assert 2 == done.code
        (advised,) = follow(done.err, recorded)
        assert "runs list" in advised
    done = fedbench_here("runs", "delete", "made", "--status", "finished", "--yes", *store, folder=recorded)
    restore, clear = ADVISED.findall(done.out)
    client = open_store(address(recorded))
    (deleted,) = client.search_runs(["1"], "tags.`fedbench.kind` = 'run'", run_view_type=ViewType.DELETED_ONLY)
    execute(shlex.split(restore.replace("ID", deleted.info.run_id)), recorded)
    assert "active" == client.get_run(deleted.info.run_id).info.lifecycle_stage
    execute(shlex.split(clear), recorded)


@pytest.mark.parametrize(
    "words", [("ui", "nosuch"), ("ui", "speed"), ("report", "my suites/made.yaml"), ("history", "speed")]
)
def test_what_would_record_it_is_advised_with_the_store(words: tuple[str, ...], folder: Path) -> None:
    done = fedbench_here(*words, "--tracking-uri", address(folder), folder=folder)
    (advised,) = ADVISED.findall(done.err.replace("fedbench: ", ""))
    _, *arguments = shlex.split(advised)
    assert ["--tracking-uri", address(folder)] == arguments[-2:]
    parse(arguments)
    assert ("my suites/made.yaml" in words) is (["run", "my suites/made.yaml"] == arguments[:2])


def test_a_deleted_experiment_is_restored(folder: Path) -> None:
    client = open_store(uri := address(folder))
    client.delete_experiment(client.create_experiment("made"))
    done = fedbench_here("runs", "list", "made", "--tracking-uri", uri, folder=folder)
    follow(done.err, folder)
    experiment = client.get_experiment_by_name("made")
    assert experiment is not None
    assert "active" == experiment.lifecycle_stage


def test_libraries_are_told_the_place_whose_version_differs(folder: Path) -> None:
    store, storage = address(folder), address(folder, "optuna")
    with pytest.raises(FedbenchError) as of_store, store_errors(store):
        raise OSError("Detected out-of-date database schema")
    open_storage(storage)
    with pytest.raises(FedbenchError) as of_storage, storage_errors(storage):
        raise RuntimeError("set up with another optuna version")
    for message, words in (
        (of_store, ["mlflow", "db", "upgrade", mlflow_uri(store)]),
        (of_storage, ["optuna", "storage", "upgrade", "--storage", storage]),
    ):
        (advised,) = re.findall("`(.*)`", str(message.value))
        assert words == shlex.split(advised)
        execute(words, folder)


def test_data_is_fetched_into_the_folder_that_was_named(folder: Path) -> None:
    (folder / "my suites" / "made.yaml").write_text(ONE_RUN.replace("rounds", "dataset: mnist, rounds"))
    done = fedbench_here("run", "my suites/made.yaml", "--data-dir", "my data", folder=folder)
    (advised,) = ADVISED.findall(done.err.replace("fedbench: ", ""))
    assert ["fedbench", "data", "fetch", "mnist", "--data-dir", "my data"] == shlex.split(advised)
    assert "FEDBENCH_DATA_DIR" not in os.environ
