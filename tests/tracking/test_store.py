"""A store that cannot be used is one line that says what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_store import record
from made_suite import made_suite
from mlflow import MlflowClient
from rights import only_reading
from sqlalchemy import create_engine, text
from sqlalchemy.exc import PendingRollbackError
from tiny_store import Store, track

from fedbench.measures import Verdict
from fedbench.models import build_model
from fedbench.suites.schema import Suite
from fedbench.tracking import FinalRecord
from fedbench.tracking.mlflow.errors import store_errors
from fedbench.tracking.mlflow.models import log_model
from fedbench.tracking.mlflow.store import (
    check_store,
    default_tracking_uri,
    experiment_of,
    local_folder,
    open_store,
    without_password,
)
from fedbench.tracking.mlflow.tracker import MlflowTracker
from fedbench.util.errors import StoreError

FULL = 2  # SQLite's number for: wait until the disk has it


def refusal(suite: Suite, uri: str) -> str:
    with pytest.raises(StoreError) as caught:
        MlflowTracker(suite, uri)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.fixture(scope="module")
def database(store: Store) -> bytes:
    """The bytes of a store with one suite in it."""
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as connection:
        return connection.serialize()


@pytest.fixture
def copy(store: Store, database: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    path.write_bytes(database)
    for folder in (store.folder / "artifacts").iterdir():  # of other tests' experiments, too
        (tmp_path / "artifacts" / folder.name).mkdir(parents=True)
    return path


def test_a_file_that_is_no_database_is_left_as_it_is(tiny_suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("These are my notes, and no database.")
    message = refusal(tiny_suite, f"sqlite:///{path}")
    assert f"tracking store sqlite:///{path} is not a SQLite database: choose another with --tracking-uri" == message
    assert "These are my notes, and no database." == path.read_text()


def test_a_directory_in_the_databases_place(tiny_suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    message = refusal(tiny_suite, f"sqlite:///{tmp_path}/mlflow.db")
    assert re.search(r"mlflow\.db failed \(.*\): check that it can be written, or choose another", message)


def test_a_file_in_the_folders_place(tiny_suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("")
    message = refusal(tiny_suite, f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert "or choose another --tracking-uri" in message


def test_a_folder_that_cannot_be_written(tiny_suite: Suite, tmp_path: Path) -> None:
    with only_reading(tmp_path):
        assert "can only be read (Permission denied)" in refusal(tiny_suite, f"sqlite:///{tmp_path}/mlflow.db")


def test_a_sqlite_address_without_a_file(tiny_suite: Suite) -> None:
    assert "names no file: use sqlite:///FOLDER/mlflow.db" in refusal(tiny_suite, "sqlite://")


@pytest.mark.parametrize("uri", ["bogus://somewhere/db", "sqlite+nothing:///x.db", "not a uri at all"])
def test_an_address_of_no_known_kind(
    tiny_suite: Suite, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert "--tracking-uri" in refusal(tiny_suite, uri)
    assert before == set(tmp_path.iterdir())


def test_a_store_of_a_newer_mlflow_says_to_upgrade(tiny_suite: Suite, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    message = refusal(tiny_suite, f"sqlite:///{copy}")
    assert "was made by another version of MLflow" in message
    assert "upgrade mlflow if it is newer" in message


def test_a_database_of_something_else_is_not_written_into(tiny_suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    refusal(tiny_suite, f"sqlite:///{path}")
    assert before == path.read_bytes()


def test_a_damaged_database(tiny_suite: Suite, copy: Path, database: bytes) -> None:
    copy.write_bytes(database[:4096] + b"\xff" * (len(database) - 4096))
    assert "--tracking-uri" in refusal(tiny_suite, f"sqlite:///{copy}")


@pytest.mark.parametrize("schema", ["3", "99", "new"])
def test_a_suite_recorded_by_a_newer_fedbench_says_to_upgrade(store: Store, copy: Path, schema: str) -> None:
    client = MlflowClient(f"sqlite:///{copy}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    client.set_experiment_tag(experiment.experiment_id, "fedbench.schema", schema)
    message = refusal(store.suite, f"sqlite:///{copy}")
    assert f"has schema {schema}, and this fedbench reads up to 2: upgrade fedbench" in message


def test_an_experiment_that_fedbench_did_not_make_is_left_as_it_is(tiny_suite: Suite, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = open_store(uri)
    experiment = client.create_experiment("tiny", tags={"mine": "yes"})
    client.create_run(experiment)
    message = refusal(tiny_suite, uri)
    expected = (
        f"experiment tiny in {uri} was not made by fedbench: give the suite another name, or choose another store "
        "with --tracking-uri"
    )
    assert expected == message
    tags = client.get_experiment(experiment).tags
    assert {"mine": "yes"} == {name: value for name, value in tags.items() if not name.startswith("mlflow.experiment")}


def test_a_deleted_experiment_says_how_to_restore_it(store: Store, copy: Path) -> None:
    client = MlflowClient(f"sqlite:///{copy}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    message = refusal(store.suite, f"sqlite:///{copy}")
    assert f"mlflow experiments restore --experiment-id {experiment.experiment_id}" in message


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://", "http://[::1"])
def test_a_server_that_does_not_answer_is_asked_once(tiny_suite: Suite, uri: str) -> None:
    message = refusal(tiny_suite, uri)
    assert f"tracking server {uri} does not answer: start it, or correct --tracking-uri" == message


def test_a_new_folder_is_made_for_a_new_store(tiny_suite: Suite, tmp_path: Path) -> None:
    (outcome,) = track(tiny_suite, f"sqlite:///{tmp_path}/a/b/mlflow.db")
    assert outcome.executed
    assert outcome.result.verdict in (Verdict.OK, Verdict.BELOW_MAJORITY, Verdict.COLLAPSED)
    assert (tmp_path / "a" / "b" / "artifacts" / "tiny").is_dir()
    (again,) = track(tiny_suite, f"sqlite:///{tmp_path}/a/b/mlflow.db")
    assert (False, outcome.result) == (again.executed, again.result)


def test_a_store_is_made_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    open_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert ["mlflow.db"] == [path.name for path in tmp_path.iterdir()]


def test_only_while_a_store_is_made_is_the_disk_not_waited_for(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/mlflow.db")
    engine = create_engine(f"sqlite:///{tmp_path}/mlflow.db")
    with engine.connect() as connection:
        assert FULL == connection.execute(text("PRAGMA synchronous")).scalar()
    engine.dispose()
    assert ["mlflow.db"] == [path.name for path in tmp_path.iterdir()]


def test_the_store_is_that_of_the_environment_or_in_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sqlite:///mlruns/mlflow.db" == default_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert "http://elsewhere" == default_tracking_uri()


def test_a_sqlite_stores_folder_is_that_of_its_file(tmp_path: Path) -> None:
    assert tmp_path == local_folder(f"sqlite:///{tmp_path}/mlflow.db")
    assert local_folder("http://127.0.0.1:5000") is None


def test_the_doctor_counts_the_suites_of_a_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    record(made_suite(tmp_path), uri)
    assert check_store(uri).endswith("can be written; 1 suite in it")


def test_the_experiment_of_a_suite_that_never_ran_says_how_to_run_it(store: Store) -> None:
    client = open_store(store.uri)
    assert "tiny" == experiment_of(client, "tiny").name
    with pytest.raises(StoreError, match=r"suite nosuch has no runs in .*: fedbench run nosuch"):
        experiment_of(client, "nosuch")


def test_a_password_among_the_options_of_an_address_is_hidden() -> None:
    shown = without_password("postgresql://server/name?user=me&password=secret")
    assert "postgresql://server/name?password=***&user=me" == shown


def test_what_an_interruption_breaks_is_an_interruption() -> None:
    broken = PendingRollbackError("can't reconnect")
    broken.__context__ = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), store_errors("sqlite:///mlflow.db"):
        raise broken


def test_an_error_of_another_path_is_not_the_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(number: int, *names: object) -> str:
        with pytest.raises(StoreError) as caught, store_errors(f"sqlite:///{tmp_path}/mlflow.db"):
            raise OSError(number, os.strerror(number), *names)
        return str(caught.value)

    full = Path("/full")
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(path != full)))
    assert shown(errno.ENOENT, "/proc/x").startswith("/proc/x cannot be used (No such file or directory): correct that")
    assert shown(errno.ENOENT, str(tmp_path / "mlflow.db")).startswith("tracking store ")
    assert f"{full} cannot be used (No space left on device): make room there, or set TMPDIR" in shown(errno.ENOSPC)
    assert "the disk is full: make room" in shown(errno.ENOSPC, str(tmp_path / "mlflow.db"))


def test_a_temporary_folder_without_room_for_a_model_is_named_before_pytorch_writes_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch ends the process where it cannot write the file of a program."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4_000_000))
    example = np.zeros((1, 1, 28, 28), dtype=np.float32)
    with pytest.raises(OSError, match="No space left on device") as caught:
        log_model(MlflowClient("sqlite://"), "1", "run", FinalRecord(model=build_model("simple-cnn"), example=example))
    assert caught.value.filename == str(tmp_path)
