"""fedbench as a user runs it: `fedbench run peers.yaml`, tracked in a fresh MLflow store."""

from __future__ import annotations

from pathlib import Path

import mlflow
from measure import Measurement, Round, fedbench_command

SUITE = Path(__file__).with_name("peers.yaml")


def command(data_dir: Path, folder: Path) -> list[str]:
    """The command line; the store is made in `folder`."""
    return fedbench_command("run", str(SUITE), "--data-dir", str(data_dir), "--tracking-uri", store(folder))


def store(folder: Path) -> str:
    """The tracking store's address."""
    return f"sqlite:///{folder}/mlflow.db"


def rounds(measurement: Measurement, folder: Path) -> tuple[Round, ...]:
    """The ends of the rounds, from the store: a round's metrics have the time at which they came to the tracker."""
    client = mlflow.MlflowClient(store(folder))
    experiment = client.get_experiment_by_name("peers")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'run'")
    history = sorted(client.get_metric_history(run.info.run_id, "accuracy"), key=lambda metric: metric.step)
    return tuple(Round(metric.timestamp / 1_000 - measurement.started, metric.value) for metric in history)
