"""What a run records of parts that are not built in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from empty_store import put_empty_store
from tiny_store import write_suite

from fedbench.executors import in_process
from fedbench.runs.data import DataSource
from fedbench.runs.suite_run import run_suite
from fedbench.tracking.mlflow.tracker import MlflowTracker

SUITE = """
name: own
question: Can an old run be read?
seeds: [0]
scenarios: [{name: a, examples_per_client: 10, rounds: 1, local_epochs: 1, model: './net.py:net',
    partition: 'own_dealing.halves:halves'}]
"""
NET = """
from torch import nn
def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
"""
HALVES = "def halves(table, k, n, rng):\n    return rng.permutation(k * n).reshape(k, n)\n"


def test_a_changed_file_is_a_new_run_and_the_old_ones_source_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_dealing").mkdir()
    (tmp_path / "own_dealing/__init__.py").touch()
    (tmp_path / "own_dealing/halves.py").write_text(HALVES)
    monkeypatch.syspath_prepend(tmp_path)
    uri = put_empty_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    texts = (NET, NET.replace("Flatten()", "Flatten(1)"))
    for text in texts:
        (tmp_path / "net.py").write_text(text)
        tracker = MlflowTracker(write_suite(tmp_path, SUITE), uri)
        list(run_suite(tracker.suite.runs, DataSource(), tracker, in_process.execute))
    runs = tracker.client.search_runs([tracker.experiment_id], "tags.`fedbench.kind` = 'run'")
    assert {hashlib.sha256(text.encode()).hexdigest() for text in texts} == {
        run.data.tags["fedbench.source.model"] for run in runs
    }
    for run in runs:
        kept = Path(tracker.client.download_artifacts(run.info.run_id, "parts", str(tmp_path)))
        text = (kept / "model/net.py").read_text()
        assert hashlib.sha256(text.encode()).hexdigest() == run.data.tags["fedbench.source.model"]
        assert f"# own_dealing is not installed\n{HALVES}" == (kept / "partition/own_dealing/halves.py").read_text()
