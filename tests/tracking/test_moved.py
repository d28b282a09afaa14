"""A store that was copied or moved has its artifacts beside it, and leaves the original alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_store import Store, track

from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.util.errors import StoreError
from fedbench.util.files import sqlite_address
from fedbench.util.locks import lock


def files(folder: Path) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture
def copied(store: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store.folder, tmp_path / "a copy"))


def test_a_copy_leaves_the_original_alone(store: Store, copied: Path) -> None:
    before = files(store.folder)
    uri = sqlite_address(copied / "mlflow.db")
    track(store.suite, uri, store.suite.runs[:1], fresh=True)
    stored = read_suite("tiny", uri)
    run = next(iter(stored.cells[0].runs.values()))
    (copied / "artifacts" / "tiny" / run.run_id / "artifacts" / "partition.csv").write_text("the copy's")
    assert "the copy's" == stored.source.text(run.run_id, "partition.csv")
    assert before == files(store.folder)
    assert str(store.folder).encode() not in b"".join(
        row.encode() for row in (each.artifact_location for each in open_store(uri).search_experiments()) if row
    )


def test_a_database_without_its_artifacts_is_refused(store: Store, tmp_path: Path) -> None:
    shutil.copy(store.folder / "mlflow.db", tmp_path)
    with pytest.raises(StoreError, match=r"the artifacts of tiny are still there: copy or move the folder .*artifacts"):
        open_store(sqlite_address(tmp_path / "mlflow.db"))


def test_a_store_that_a_command_uses_under_another_path_stays(copied: Path) -> None:
    held = lock(copied / "checkpoints" / "0.lock")
    with pytest.raises(StoreError, match="in use under another path"):
        open_store(sqlite_address(copied / "mlflow.db"))
    held.remove()


def test_another_path_of_the_same_folder_is_no_move(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.folder)
    before = files(store.folder)
    open_store(sqlite_address(tmp_path / "link" / "mlflow.db"))
    assert before == files(store.folder)
