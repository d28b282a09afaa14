"""Housekeeping: what runs there are, and deleting some."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest
from empty_store import put_empty_store
from tiny_store import track, write_suite

from fedbench.tracking.mlflow.listing import delete_runs, find_run, list_runs
from fedbench.tracking.mlflow.store import checkpoint_folder, open_store
from fedbench.util.errors import StoreError
from fedbench.util.locks import lock

TWO = """
name: tiny
question: Why?
seeds: [0, 1]
scenarios: [{name: a, examples_per_client: 10, rounds: 1, local_epochs: 1}]
"""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A store with one cell of two seeds."""
    address = put_empty_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    track(write_suite(tmp_path, TWO), address)
    return address


def test_runs_are_listed_with_what_became_of_them(uri: str) -> None:
    assert ["finished", "finished"] == [each.status for each in list_runs("tiny", uri)]
    assert 2 == len(list_runs(None, uri))


def test_a_run_whose_lock_is_free_is_orphaned_and_one_whose_lock_is_held_is_running(uri: str) -> None:
    client = open_store(uri)
    first, second = list_runs("tiny", uri)
    for each in (first, second):
        client.update_run(each.run_id, status="RUNNING")
    held = lock(checkpoint_folder(uri) / f"{second.tags['fedbench.fingerprint']}.lock")
    found = list_runs("tiny", uri)
    assert ["orphaned", "running"] == [each.status for each in found]
    with pytest.raises(StoreError, match=f"run {second.run_id} is being computed: end the command"):
        delete_runs(found, uri)
    assert 2 == len(list_runs("tiny", uri))
    held.release()
    assert ["orphaned", "orphaned"] == [each.status for each in list_runs("tiny", uri)]


def test_where_nobody_can_know_a_run_is_not_orphaned(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_store(uri)
    first, _ = list_runs("tiny", uri)
    client.update_run(first.run_id, status="RUNNING")
    lock(checkpoint_folder(uri) / f"{first.tags['fedbench.fingerprint']}.lock").release()
    assert "orphaned" == list_runs("tiny", uri)[0].status

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    assert "running" == list_runs("tiny", uri)[0].status


def test_a_run_is_found_by_the_beginning_of_its_id(uri: str) -> None:
    run_id = list_runs("tiny", uri)[0].run_id
    runs = list_runs("tiny", uri)
    assert run_id == find_run(run_id[:12], runs, uri).run_id
    with pytest.raises(StoreError, match="no run begins with zzzz"):
        find_run("zzzz", runs, uri)
    with pytest.raises(StoreError, match="2 runs begin with"):
        find_run(run_id, [*runs, *runs], uri)
    for short in (run_id[:3], ""):
        with pytest.raises(StoreError, match="at least 4 characters"):
            find_run(short, runs, uri)


@pytest.mark.parametrize("tag", ["fedbench.fingerprint", "fedbench.cell_fingerprint"])
def test_a_fingerprint_that_is_a_path_names_no_file(uri: str, tag: str, caplog: pytest.LogCaptureFixture) -> None:
    first, second = list_runs("tiny", uri)
    open_store(uri).set_tag(first.run_id, tag, "../../outside")
    assert [second] == list_runs("tiny", uri)
    (line,) = caplog.messages
    assert f"run {first.run_id} ('a seed=0') is left out: its tag {tag} is '../../outside'" in line


def test_deleting_a_seed_brings_the_cells_summary_up_to_date(uri: str) -> None:
    client = open_store(uri)
    first, second = list_runs("tiny", uri)
    path = checkpoint_folder(uri) / f"{first.tags['fedbench.fingerprint']}.ckpt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    delete_runs([first], uri)
    assert not path.exists()
    assert [second.run_id] == [each.run_id for each in list_runs("tiny", uri)]
    experiment_id = client.get_run(first.run_id).info.experiment_id
    (summary,) = client.search_runs([experiment_id], "tags.`fedbench.kind` = 'cell'")
    assert "1" == summary.data.tags["fedbench.seeds"]
    assert second.metrics["accuracy"] == summary.data.metrics["accuracy/mean"]
    assert 1 == len(client.search_logged_models([experiment_id]))
    delete_runs([second], uri)
    assert [] == list_runs("tiny", uri)
    assert [] == list(client.search_runs([experiment_id]))


def test_a_deleted_run_is_executed_again(tmp_path: Path, uri: str) -> None:
    delete_runs(list_runs("tiny", uri)[:1], uri)
    outcomes = track(write_suite(tmp_path, TWO), uri)
    assert [0] == [outcome.run.seed for outcome in outcomes if outcome.executed]


def test_a_suite_that_never_ran_is_one_line(uri: str) -> None:
    with pytest.raises(StoreError, match=r"suite other has no runs in .*: fedbench run other"):
        list_runs("other", uri)
