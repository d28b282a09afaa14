"""Stores with made numbers, written by the real tracker: what a reader can work out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from empty_store import put_empty_store

from fedbench.datasets import load_dataset
from fedbench.measures import Verdict, run_result
from fedbench.runs.identity import fingerprint
from fedbench.suites.loading import load_suite
from fedbench.suites.schema import RunSpec, Suite
from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker

TEXT = """
name: made
question: What is shown?
seeds: [0, 1, 2]
scenarios:
  - {name: grid, num_clients: [2, 3], examples_per_client: [20, 50], rounds: 2}
  - {name: pair, init: [shared, independent], rounds: 1, interpolation: true}
"""
Metrics = Callable[[RunSpec, int], Mapping[str, float]]


def made_suite(folder: Path, text: str = TEXT) -> Suite:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "made.yaml"
    path.write_text(text)
    return load_suite(path)


def address(folder: Path) -> str:
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def metrics_of(run: RunSpec, step: int) -> dict[str, float]:
    """Accuracy 0.5 plus 0.1 for each round, a tenth of the clients, and a hundredth of the seed."""
    accuracy = 0.5 + 0.1 * step + 0.1 * (run.spec.num_clients - 2) + 0.01 * run.seed
    return {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "loss": 1 - accuracy,
        "majority_rate": 0.1,
        "train_loss": 1.0,
        "client_drift": 2.0,
        "recall/0": accuracy,
        "recall/1": accuracy - 0.1,
        "averaging_gain": 0.02 + 0.001 * run.seed,
        "client_accuracy/0": accuracy - 0.01,
        "client_accuracy/1": accuracy - 0.03,
        "training_seconds": 1.0,
    }


def record(
    suite: Suite,
    uri: str,
    metrics: Metrics = metrics_of,
    verdict: Callable[[RunSpec], tuple[Verdict, str | None]] = lambda _: (Verdict.OK, None),
    fresh: bool = False,
) -> None:
    """Record every run of a suite that is not in the store yet, without computing anything."""
    tracker = MlflowTracker(suite, put_empty_store(uri))
    dataset = load_dataset("mnist-5k")
    finished = tracker.finished_runs()
    try:
        for run in suite.runs:
            identity = fingerprint(run, dataset.digest, "cpu")
            cell = fingerprint(run, dataset.digest, "cpu", of_cell=True)
            if identity in finished and not fresh:
                continue
            tracked = tracker.start_run(run, identity, cell, dataset, rounds=0, fresh=fresh)
            assert isinstance(tracked, MlflowRun)
            for step in range(1, run.spec.rounds + 1):
                tracked.log_round(step, last := metrics(run, step))
                if run.spec.stop_at_target and last["accuracy"] >= (run.spec.target_accuracy or 1):
                    break
            if run.spec.interpolation:
                tracked.log_interpolation([(-0.2, 2.0, 0.3), (0.5, 1.0 + 0.1 * run.seed, 0.6), (1.2, 3.0, 0.2)])
            tracked.log_confusion(np.array([[3, 1], [0, 4]]), ["cat", "dog"])
            tracked.finish(run_result(*verdict(run), last))
        for cell in suite.cells:
            identities = [fingerprint(run, dataset.digest, "cpu") for run in cell.runs()]
            tracker.finish_cell(fingerprint(cell.runs()[0], dataset.digest, "cpu", of_cell=True), identities)
    finally:
        tracker.close()
