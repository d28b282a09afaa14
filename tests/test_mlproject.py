"""MLproject: `mlflow run` with the local environment manager, as a user types it, and the commands that it makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from mlflow import MlflowClient
from mlflow.projects._project_spec import load_project

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent
ENTRY_POINTS = ("main", "run", "tune", "check")

TINY = """
name: tiny
question: Does it work?
seeds: [0, 1]
defaults: {dataset: mnist-5k, model: simple-cnn, batch_size: 50, learning_rate: 0.05, rounds: 1}
scenarios:
  - {name: pair, num_clients: 2, examples_per_client: 50}
  - {name: other, num_clients: 3, examples_per_client: 50}
"""


def words(entry_point: str, folder: Path, **parameters: str) -> list[str]:
    """The arguments that fedbench gets: MLflow's command, run by bash as MLflow does, with a stand-in for fedbench."""
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    program = folder / ".venv" / "bin" / "fedbench"
    program.write_text("#!/bin/bash\nprintf '%s\\0' \"$@\"\n")
    program.chmod(0o755)
    command = load_project(str(ROOT)).get_entry_point(entry_point).compute_command(parameters, None)
    environment = {"PATH": "/usr/bin:/bin"}  # where there is no fedbench, as without an activated environment
    done = subprocess.run(
        ["/bin/bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_by_default_every_option_is_left_out(tmp_path: Path, entry_point: str) -> None:
    command = "run" if entry_point == "main" else entry_point
    assert [command, "quickstart"] == words(entry_point, tmp_path)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_parameter_is_an_option_of_the_command(tmp_path: Path, entry_point: str) -> None:
    from fedbench.cli.app import app

    names = [name for name in load_project(str(ROOT)).get_entry_point(entry_point).parameters if name != "suite"]
    command, suite, *options = words(entry_point, tmp_path, suite="my", **dict.fromkeys(names, "1"))
    assert ("my", [f"--{name}=1" for name in names]) == (suite, options)
    typer.main.get_command(app).commands[command].make_context(command, [suite, *options])  # type: ignore[attr-defined]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_value_stays_one_word_and_is_not_run(tmp_path: Path, entry_point: str) -> None:
    project = load_project(str(ROOT)).get_entry_point(entry_point)
    value = 'a b\'; touch made; $(touch made) `touch made` "*" {suite} $HOME'
    got = words(entry_point, tmp_path, **dict.fromkeys(project.parameters, value), only=value)
    options = [f"--{name}={value}" for name in project.parameters if name != "suite"]
    assert [value, *options, "--only", value] == got[1:]
    assert not (tmp_path / "made").exists()


def mlflow_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the project from a folder that has what a checkout has of it, and a tiny suite."""
    shutil.copy(ROOT / "MLproject", folder)
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "mlruns").mkdir()
    hidden = ("MLFLOW_", "FEDBENCH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment = kept | {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db",
    }
    command = [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def statuses(folder: Path) -> dict[str, list[tuple[str, str | None]]]:
    """Of each experiment its runs: how they ended, and what fedbench says they are."""
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    found = {}
    for experiment in client.search_experiments():
        runs = client.search_runs([experiment.experiment_id])
        found[experiment.name] = sorted((run.info.status, run.data.tags.get("fedbench.kind", "")) for run in runs)
    return found


@pytest.mark.slow
def test_a_run_of_the_project_is_recorded_apart_from_the_suites_runs(tmp_path: Path) -> None:
    done = mlflow_run(tmp_path, "-e", "run", "-P", "suite=tiny.yaml", "-P", "workers=1", "-P", "only=pair")
    assert 0 == done.returncode, done.stderr
    assert "2 runs executed" in done.stdout
    own = [("FINISHED", "cell"), ("FINISHED", "run"), ("FINISHED", "run")]
    assert {"Default": [("FINISHED", "")], "tiny": own} == statuses(tmp_path)
    assert {"MLproject", "tiny.yaml", "mlruns"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
@pytest.mark.nightly
def test_a_run_of_the_project_fails_where_fedbench_does(tmp_path: Path) -> None:
    done = mlflow_run(tmp_path, "-P", "suite=absent.yaml")
    assert 1 == done.returncode
    assert "error: absent.yaml: there is no such file" in done.stderr, done.stderr
    assert {"Default": [("FAILED", "")]} == statuses(tmp_path)
