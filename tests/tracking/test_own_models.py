"""Models of many kinds from a suite to the store: each stored model scores the logged accuracy again."""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from command import Done, fedbench_here
from mlflow import MlflowClient
from mlflow.entities import Run
from numpy.typing import NDArray

from fedbench.datasets import load_dataset
from fedbench.suites.loading import load_suite
from fedbench.tracking.mlflow import models

NETS = """
import torch
from torch import nn


def small(*layers):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), *layers)


def normed():
    return small(nn.Linear(49, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 10))


def frozen():
    model = small(nn.Linear(49, 32), nn.ReLU(), nn.Linear(32, 10))
    model[2].requires_grad_(False)
    return model


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(49, 49), nn.Linear(49, 49), nn.Linear(49, 10)
        self.second.weight = self.first.weight

    def forward(self, x):
        x = nn.functional.avg_pool2d(x, 4).flatten(1)
        return self.last(self.second(self.first(x).relu()).relu())


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = small(nn.Linear(49, 10), nn.BatchNorm1d(10))

    def forward(self, x):
        return self.layers(x if x.mean() < 100 else -x)


def adam(parameters, learning_rate, beta: float = 0.9):
    return torch.optim.Adam(parameters, learning_rate, betas=(beta, 0.999))


def noise(inputs, generator, sigma: float = 0.1):
    return inputs + sigma * torch.randn(inputs.shape, generator=generator)


def everything(vectors, weights):
    return vectors
"""
SUITE = """
name: own
question: Is it stored?
seeds: [0]
defaults: {num_clients: 2, examples_per_client: 100, rounds: 2, local_epochs: 1, learning_rate: 0.1}
scenarios:
  - {name: models, model: ['./nets.py:normed', './nets.py:frozen', './nets.py:Tied', './nets.py:Branching']}
  - name: parts
    model: ./nets.py:normed
    optimiser: {use: ./nets.py:adam, beta: 0.8}
    augmentation: {use: ./nets.py:noise, sigma: 0.2}
    aggregation: median
    clip_norm: 1.0
    learning_rate_decay: 0.9
    interpolation: true
  - {name: wrong, model: ./nets.py:normed, aggregation: './nets.py:everything'}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "nets.py").write_text(NETS)
    (folder / "own.yaml").write_text(SUITE)
    return fedbench_here("run", "own.yaml", "--workers", "1", folder=folder), folder


@pytest.fixture(scope="module")
def runs(done: tuple[Done, Path]) -> dict[str, Run]:
    mlflow.set_tracking_uri(f"sqlite:///{done[1]}/mlruns/mlflow.db")
    found = mlflow.search_runs(experiment_names=["own"], output_format="list")
    return {run.info.run_name: run for run in found if run.data.tags["fedbench.kind"] == "run"}


def scored(output: NDArray[np.float32]) -> float:
    labels = load_dataset("mnist-5k").test_labels.numpy()
    return float(np.sum(output.argmax(axis=1) == labels) / len(labels))


def inputs() -> torch.Tensor:
    data = load_dataset("mnist-5k")
    return data.normalise(data.test_images)


@pytest.mark.parametrize("name", ["models model=./nets.py:normed", "models model=./nets.py:frozen", "parts"])
def test_a_stored_program_scores_the_accuracy_again(runs: dict[str, Run], name: str) -> None:
    run = runs[f"{name} seed=0"]
    model = mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    assert run.data.metrics["accuracy"] == scored(model.predict(inputs().numpy()))


def test_tied_weights_are_stored(runs: dict[str, Run]) -> None:
    run = runs["models model=./nets.py:Tied seed=0"]
    model = mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    assert run.data.metrics["accuracy"] == scored(model.predict(inputs().numpy()))


def test_a_model_that_cannot_be_exported_is_a_state_dict(done: tuple[Done, Path], runs: dict[str, Run]) -> None:
    run = runs["models model=./nets.py:Branching seed=0"]
    client, (output,) = MlflowClient(), run.outputs.model_outputs
    folder = Path(client.get_logged_model(output.model_id).artifact_location.removeprefix("file://"))
    suite = load_suite(done[1] / "own.yaml")
    model = next(cell.spec for cell in suite.cells if "Branching" in cell.label).build_model()
    model.load_state_dict(torch.load(folder / "data/state_dict.pt", weights_only=True))
    with torch.inference_mode():
        assert run.data.metrics["accuracy"] == scored(model.eval()(inputs()).numpy())


def test_one_line_says_that_a_state_dict_is_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    class Branching(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.mean() < 100 else -x)

    for number in range(2):
        models._save(tmp_path / str(number), "branching", Branching(3, 2), np.zeros((2, 3), np.float32), 2)
    start = "fedbench: torch.export cannot take the model Branching; its state dict is stored: GuardOnDataDependent"
    (line,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.INFO)
    assert (True, False) == (line.startswith(start), "\n" in line)
    assert ("", "") == capfd.readouterr()


def test_nothing_is_said_of_an_environment_without_pip(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As uv makes them. MLflow warns of it, since what it writes for conda then names no version."""
    installed = metadata.version

    def version(name: str) -> str:
        if name == "pip":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    models._save(tmp_path / "model", "linear", torch.nn.Linear(3, 2), np.zeros((2, 3), np.float32), 2)
    assert "\n- pip\n" in (tmp_path / "model" / "conda.yaml").read_text()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert ([], ("", "")) == (said, capfd.readouterr())


def test_options_of_all_parts_are_parameters_and_a_wrong_rule_costs_its_run_alone(
    done: tuple[Done, Path], runs: dict[str, Run]
) -> None:
    params = {"optimiser": "./nets.py:adam", "beta": "0.8", "sigma": "0.2", "aggregation": "median"}
    more = {"clip_norm": "1.0", "learning_rate_decay": "0.9", "weights": "examples", "average_frozen": "False"}
    assert (params | more).items() <= runs["parts seed=0"].data.params.items()
    failed = {name: run.data.tags["fedbench.reason"] for name, run in runs.items() if run.info.status == "FAILED"}
    assert ["wrong seed=0"] == list(failed)
    assert "aggregation: the rule returned shape (2, " in failed["wrong seed=0"]
    assert 1 == done[0].code
