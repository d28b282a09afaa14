"""Commands that read a store need not be able to write it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import fedbench_here
from made_store import address, record
from made_suite import ONE_CELL, made_suite
from mlflow import MlflowClient
from rights import only_reading

from fedbench.tracking.mlflow.listing import list_runs
from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.suites import read_suite
from fedbench.util.errors import StoreError
from fedbench.util.files import sqlite_address
from fedbench.util.locks import lock


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    record(made_suite(folder, ONE_CELL), address(folder))
    return folder


@pytest.fixture(params=["in its place", "moved"])
def fixed(made: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of a store that nobody may write."""
    folder = made
    if request.param == "moved":
        folder = Path(shutil.copytree(made, tmp_path / "a copy"))
        for path in (folder / "mlruns" / "artifacts").rglob("confusion.csv"):
            path.write_text(path.read_text().replace("cat", "cow"))
    with only_reading(folder / "mlruns"):
        yield folder


@pytest.mark.parametrize(
    "command",
    [
        ["runs", "list"],
        ["answer", "made"],
        ["report", "made", "--out", "{}/report"],
        ["report", "made", "--json"],
        ["export", "made", "--out", "{}/made.csv"],
        ["compare", "mlruns", "mlruns"],
    ],
    ids=" ".join,
)
def test_a_command_reads_a_store_that_can_only_be_read(fixed: Path, command: list[str], tmp_path: Path) -> None:
    done = fedbench_here(*(each.format(tmp_path) for each in command), folder=fixed)
    assert 0 == done.code, done.err
    kept = (
        "fedbench: warning: the report is not kept in the store: " if "--out" in command and "report" in command else ""
    )
    assert done.err.startswith(kept)
    assert ("can only be read" in done.err) is bool(kept)


def test_artifacts_are_those_beside_the_store_that_is_read(fixed: Path, made: Path) -> None:
    stored = read_suite("made", sqlite_address(fixed / "mlruns" / "mlflow.db"))
    run = next(iter(stored.cells[0].runs.values()))
    text = stored.source.text(run.run_id, "confusion.csv")
    assert text is not None
    assert ("cow" in text) is (fixed != made)


def test_what_writes_is_refused_in_one_line(fixed: Path) -> None:
    done = fedbench_here("runs", "delete", "made", "--status", "finished", "--yes", folder=fixed)
    assert 2 == done.code
    assert "can only be read" in done.err
    assert 1 == done.err.count("\n")


def test_a_run_under_way_is_seen_where_its_lock_can_only_be_read(tmp_path: Path) -> None:
    suite = made_suite(tmp_path, ONE_CELL)
    record(suite, uri := address(tmp_path))
    client = MlflowClient(uri)
    run = list_runs("made", uri)[0]
    client.update_run(run.run_id, "RUNNING")
    held = lock(tmp_path / "mlruns" / "checkpoints" / f"{run.tags['fedbench.fingerprint']}.lock")
    with only_reading(tmp_path / "mlruns"):
        assert "running" == list_runs("made", uri)[0].status
        held.release()
        assert "orphaned" == list_runs("made", uri)[0].status
        with pytest.raises(StoreError, match="can only be read"):
            open_store(uri)
