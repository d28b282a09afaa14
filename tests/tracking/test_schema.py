"""A store of schema 1, as the first version of fedbench wrote it, is used and brought up to schema 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tiny_store import track, write_suite

from fedbench.suites.schema import Suite
from fedbench.tracking.mlflow.tracker import MlflowTracker

SUITE = """
name: tiny
question: Is what is old still good?
seeds: [0, 1]
scenarios:
  - {name: a, examples_per_client: 10, rounds: 1, local_epochs: 1}
  - {name: hopeless, examples_per_client: 10, rounds: 1, local_epochs: 1, require_accuracy: 1.0}
"""
NEW_TAGS = ("fedbench.kind", "fedbench.cell_fingerprint", "fedbench.invocation", "mlflow.parentRunId")


def as_schema_1(client: MlflowClient, experiment_id: str) -> None:
    """Take away what schema 2 added."""
    for run in client.search_runs([experiment_id]):
        if run.data.tags["fedbench.kind"] == "cell":
            client.delete_run(run.info.run_id)
            continue
        for name in NEW_TAGS:
            if name in run.data.tags:
                client.delete_tag(run.info.run_id, name)
        client.set_tag(run.info.run_id, "fedbench.schema", "1")
    client.set_experiment_tag(experiment_id, "fedbench.schema", "1")
    client.set_experiment_tag(experiment_id, "mlflow.note.content", "Is what is old still good?")


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return write_suite(tmp_path, SUITE)


@pytest.fixture
def old(tmp_path: Path, suite: Suite, empty_store: bytes) -> MlflowTracker:
    """A store of schema 1 with four runs, two of them failed; through a tracker opened when it was new."""
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(empty_store)
    tracker = MlflowTracker(suite, f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    track(suite, tracker.uri)
    as_schema_1(tracker.client, tracker.experiment_id)
    return tracker


def runs(tracker: MlflowTracker) -> list[Any]:
    return list(tracker.client.search_runs([tracker.experiment_id], order_by=["attributes.start_time"]))


def kinds(tracker: MlflowTracker) -> list[tuple[str, str]]:
    """Scenario and kind of each run."""
    found = ((run.data.tags["fedbench.scenario"], run.data.tags["fedbench.kind"]) for run in runs(tracker))
    return sorted(found)


def test_opening_an_old_store_upgrades_it(old: MlflowTracker, suite: Suite) -> None:
    tracker = MlflowTracker(suite, old.uri)
    tags = tracker.client.get_experiment(tracker.experiment_id).tags
    assert "2" == tags["fedbench.schema"]
    assert "How to read it" in tags["mlflow.note.content"]
    assert {"run"} == {run.data.tags["fedbench.kind"] for run in runs(tracker)}
    assert 2 == len(tracker.finished_runs())


def test_finished_runs_of_an_old_store_are_skipped_and_their_cells_get_their_run(
    old: MlflowTracker, suite: Suite
) -> None:
    before = {run.info.run_id for run in runs(old)}
    outcomes = track(suite, old.uri)
    executed = [(each.run.scenario, each.executed) for each in outcomes]
    assert [("a", False)] * 2 + [("hopeless", True)] * 2 == executed
    expected = [("a", "cell"), ("a", "run"), ("a", "run")]
    expected += [("hopeless", "run")] * 2 + [("hopeless", "superseded")] * 2
    assert expected == kinds(old)
    (cell,) = (run for run in runs(old) if run.data.tags["fedbench.kind"] == "cell")
    assert "0,1" == cell.data.tags["fedbench.seeds"]
    nested = [run for run in runs(old) if run.data.tags.get("mlflow.parentRunId") == cell.info.run_id]
    assert {"a"} == {run.data.tags["fedbench.scenario"] for run in nested}
    assert {run.info.run_id for run in nested} <= before


def test_a_new_seed_of_an_old_cell_is_summarised_with_the_old_ones(old: MlflowTracker, tmp_path: Path) -> None:
    more = write_suite(tmp_path, SUITE.replace("[0, 1]", "[0, 1, 2]").replace("  - {name: hopeless", "#"))
    outcomes = track(more, old.uri)
    assert [False, False, True] == [each.executed for each in outcomes]
    (cell,) = (run for run in runs(old) if run.data.tags["fedbench.kind"] == "cell")
    assert "0,1,2" == cell.data.tags["fedbench.seeds"]


def test_an_upgrade_that_was_cut_off_is_done_again(
    old: MlflowTracker, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema's version is raised last of all."""
    real = MlflowClient.set_tag
    left = [None] * 2

    def set_tag(*arguments: Any, **options: Any) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_tag", set_tag)
        with pytest.raises(KeyboardInterrupt):
            MlflowTracker(suite, old.uri)
    assert "1" == old.client.get_experiment(old.experiment_id).tags["fedbench.schema"]
    assert 2 == len(MlflowTracker(suite, old.uri).finished_runs())
    assert {"run"} == {run.data.tags["fedbench.kind"] for run in runs(old)}
