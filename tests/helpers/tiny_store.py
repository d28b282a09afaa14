"""A tiny suite, and what runs it into a real SQLite store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from fedbench.executors import in_process
from fedbench.runs.data import DataSource
from fedbench.runs.suite_run import Outcome, run_suite
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import Suite
from fedbench.tracking.mlflow.tracker import MlflowTracker

SUITE = """
name: tiny
question: Does it track?
seeds: [0, 1]
defaults: {examples_per_client: 20, rounds: 3, local_epochs: 1, learning_rate: 0.1}
scenarios:
  - {name: pair, init: [shared, independent], interpolation: true}
  - {name: dozen, num_clients: 12, rounds: 1}
  - {name: hopeless, require_accuracy: 1.0}
"""


@dataclass
class Store:
    """A SQLite store, the suite that ran into it, and what came of it."""

    uri: str
    folder: Path
    suite: Suite
    outcomes: list[Outcome]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def of_kind(self, kind: str) -> list[Any]:
        """The runs with this tag `fedbench.kind`, in the order in which they began."""
        experiment = self.client.get_experiment_by_name(self.suite.name)
        assert experiment is not None
        wanted = f"tags.`fedbench.kind` = '{kind}'"
        return list(self.client.search_runs([experiment.experiment_id], wanted, order_by=["attributes.start_time"]))

    @property
    def runs(self) -> list[Any]:
        return self.of_kind("run")

    def cell(self, label: str) -> Any:
        """A cell's own run."""
        (found,) = (run for run in self.of_kind("cell") if label == run.data.tags["fedbench.cell"])
        return found

    def run(self, scenario: str, **tags: str) -> Any:
        wanted = {"fedbench.scenario": scenario, "fedbench.seed": "0"} | {f"fedbench.{k}": v for k, v in tags.items()}
        (found,) = (run for run in self.runs if wanted.items() <= run.data.tags.items())
        return found


def write_suite(folder: Path, text: str = SUITE) -> Suite:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return load_suite(path)


def track(suite: Suite, uri: str, runs: Sequence[Any] | None = None, fresh: bool = False) -> list[Outcome]:
    chosen = suite.runs if runs is None else runs
    return list(run_suite(chosen, DataSource(), MlflowTracker(suite, uri), in_process.execute, fresh))
