"""Stores with made numbers (see `made_suite`), written by the real tracker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from empty_store import put_empty_store
from made_suite import CLASSES, CONFUSION, Judge, Metrics, all_ok, interpolation_of, metrics_of, rounds_of

from fedbench.datasets import load_dataset
from fedbench.measures import run_result
from fedbench.runs.identity import fingerprint
from fedbench.suites.schema import Suite
from fedbench.tracking import FinalRecord
from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker


def address(folder: Path) -> str:
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def record(
    suite: Suite,
    uri: str,
    metrics: Metrics = metrics_of,
    verdict: Judge = all_ok,
    fresh: bool = False,
) -> None:
    """Record every run of a suite that is not in the store yet, without computing anything."""
    tracker = MlflowTracker(suite, put_empty_store(uri))
    dataset = load_dataset("mnist-5k")
    finished = tracker.finished_runs()
    for run in suite.runs:
        identity = fingerprint(run, dataset.digest, "cpu")
        cell = fingerprint(run, dataset.digest, "cpu", of_cell=True)
        if identity in finished and not fresh:
            continue
        tracked = tracker.start_run(run, identity, cell, dataset, rounds=0, fresh=fresh)
        assert isinstance(tracked, MlflowRun)
        for step, measured in enumerate(rounds := rounds_of(run, metrics), start=1):
            tracked.log_round(step, measured)
        lines = {"": interpolation_of(run)} if run.spec.interpolation else {}
        tracked.log_final(FinalRecord(CLASSES, np.array(CONFUSION), lines=lines))
        tracked.finish(run_result(*verdict(run), rounds[-1]))
    for cell in suite.cells:
        tracker.finish_cell(fingerprint(cell.runs()[0], dataset.digest, "cpu", of_cell=True))
