"""Recording a run in MLflow, in a SQLite store of its own. Nothing is counted that a yardstick could measure."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from work import MODEL

from fedbench.datasets import load_dataset
from fedbench.measures import Verdict, run_result
from fedbench.models import build_model
from fedbench.suites.loading import load_suite

CLASSES = tuple(map(str, range(10)))
ROUNDS = 5
SUITE = """
name: recorded
question: How long does recording a run take?
seeds: [0]
scenarios: [{name: pair, rounds: 5}]
"""


def metrics(step: int) -> dict[str, float]:
    """As many as a round of ten clients has."""
    names = ("accuracy", "balanced_accuracy", "loss", "majority_rate", "train_loss", "client_drift")
    times = ("training_seconds", "evaluation_seconds")
    of_clients = [f"client_drift/{k}" for k in range(10)]
    return dict.fromkeys((*names, *times, *of_clients, *(f"recall/{name}" for name in CLASSES)), 0.1 * step)


@pytest.mark.benchmark(group="tracking")
def test_track_a_run_of_five_rounds(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Begin it, log its rounds, its confusion matrix and its model, end it; what only the first run does is warm-up."""
    from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker

    (tmp_path / "recorded.yaml").write_text(SUITE)
    suite = load_suite(tmp_path / "recorded.yaml")
    run, dataset, model = suite.runs[0], load_dataset("mnist-5k"), build_model(MODEL)
    example, confusion = dataset.normalise(dataset.test_images[:2]).numpy(), np.diag(np.full(10, 100))
    tracker = MlflowTracker(suite, f"sqlite:///{tmp_path}/mlflow.db")
    fingerprints = (f"{number:064x}" for number in count())

    def track(fingerprint: str) -> None:
        tracked = tracker.start_run(run, fingerprint, "cell", dataset, 0, fresh=False)
        assert isinstance(tracked, MlflowRun)
        for step in range(1, ROUNDS + 1):
            tracked.log_round(step, metrics(step))
        tracked.log_confusion(confusion, CLASSES)
        tracked.log_model(MODEL, model, example, len(CLASSES))
        tracked.finish(run_result(Verdict.OK, None, metrics(ROUNDS)))

    try:
        benchmark.pedantic(track, setup=lambda: ((next(fingerprints),), {}), rounds=10, warmup_rounds=2)
        assert tracker.finished_runs()
    finally:
        tracker.close()
