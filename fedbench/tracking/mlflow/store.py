"""Opening an MLflow store: a SQLite file is made or checked, a server is asked once, and every error is one line."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from difflib import get_close_matches
from pathlib import Path

from mlflow.entities import Experiment
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection

from fedbench.suites.variants import AT, run_words
from fedbench.tracking.mlflow.client import StoreClient
from fedbench.tracking.mlflow.database import DEFAULT_FOLDER as DEFAULT_FOLDER  # for all who use a store
from fedbench.tracking.mlflow.database import (
    chosen_store,
    connect_once,
    driver_of,
    mlflow_uri,
    require_reachable_database,
)
from fedbench.tracking.mlflow.database import default_tracking_uri as default_tracking_uri  # the same
from fedbench.tracking.mlflow.database import local_folder as local_folder  # the same
from fedbench.tracking.mlflow.database import without_password as without_password  # the same
from fedbench.tracking.mlflow.errors import RESUMES, store_errors
from fedbench.tracking.mlflow.moved import follow_move
from fedbench.tracking.mlflow.server import is_server, require_answering_server
from fedbench.util.advice import command
from fedbench.util.errors import StoreError
from fedbench.util.files import SQLITE, regular, sqlite_address
from fedbench.util.locks import put_new
from fedbench.util.text import counted

for _name, _level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("mlflow.store.db", logging.CRITICAL)):
    logging.getLogger(_name).setLevel(_level)  # greetings are not results, and errors are explained in one line

CHECKPOINTS = "FEDBENCH_CHECKPOINT_DIR"
MOST_SIMILAR = 5  # names in an error
MIN_FREE_BYTES = 100 << 20  # on the disk of a local store, below which no run is begun


def open_existing_store(uri: str) -> StoreClient:
    """As `open_store`, for reading: a SQLite file that does not exist is an error, and it need not be writable.

    Raises `StoreError` if there is no such store, or it cannot be opened.
    """
    folder = local_folder(uri)
    if folder and not Path(make_url(uri).database or "").exists():
        run = command("fedbench", "run", "SUITE", tracking_uri=chosen_store(uri))
        raise StoreError(f"there is no tracking store {uri}: make one with {run}, or name another store")
    return open_store(uri, for_reading=True)


def open_store(uri: str, *, for_reading: bool = False) -> StoreClient:
    """A client of the store at `uri`; a SQLite file that does not exist is made.

    Raises `StoreError` if the store cannot be opened or written, or was made by another version of MLflow.
    """
    with store_errors(uri):
        try:
            if uri.startswith("sqlite:"):
                _require_sqlite(uri, for_reading)
            elif is_server(uri):
                require_answering_server(uri, without_password(uri))
            else:
                require_reachable_database(uri)
                connect_once(uri)
            client = StoreClient(uri)
            client.search_experiments(max_results=1)
            if folder := local_folder(uri):
                client.moved = follow_move(folder / Path(make_url(uri).database or "").name, uri, for_reading)
        except ImportError as error:
            raise StoreError(
                f"tracking store {without_password(uri)} needs a driver ({error}): {driver_of(uri)}"
            ) from error
        return client


def check_store(uri: str | None) -> str:
    """Open the store; a sentence about it for `fedbench doctor`."""
    uri = uri or default_tracking_uri()
    count = len(open_store(uri).search_experiments(filter_string="tags.`fedbench.schema` LIKE '%'"))
    return f"{without_password(uri)} can be written; {counted(count, 'suite')} in it"


def experiment_of(client: StoreClient, suite_name: str, recorded_by: Sequence[str] = ()) -> Experiment:
    """A suite's experiment, or another that a command of fedbench records (default: ``run SUITE``).

    Raises `StoreError` if it is not there, or was deleted.
    """
    experiment: Experiment | None = client.get_experiment_by_name(suite_name)
    if experiment is None:
        words = recorded_by if recorded_by and AT not in suite_name else run_words(suite_name)
        record = command("fedbench", *words, tracking_uri=chosen_store(client.uri))
        place = f"{without_password(client.uri)}{_similar(client, suite_name)}"
        raise StoreError(f"suite {suite_name} has no runs in {place}: {record}")
    require_not_deleted(experiment, client.uri)
    return experiment


def _similar(client: StoreClient, suite_name: str) -> str:
    """Which suites and variants of the store may be meant: `` (it has tiny@rounds=3)``; empty if none."""
    found = client.search_experiments(filter_string="tags.`fedbench.schema` LIKE '%'", order_by=["name ASC"])
    names = [each.name for each in found]
    of_suite = [name for name in names if name.partition(AT)[0] == suite_name.partition(AT)[0]]
    near = (of_suite or get_close_matches(suite_name, names))[:MOST_SIMILAR]
    return f" (it has {', '.join(near)})" if near else ""


def require_not_deleted(experiment: Experiment, uri: str) -> None:
    """Refuse an experiment that was deleted in MLflow, with a `StoreError`."""
    if experiment.lifecycle_stage == "deleted":
        raise StoreError(
            f"experiment {experiment.name} in {without_password(uri)} was deleted: restore it with `"
            f"{mlflow_command(uri, f'experiments restore --experiment-id {experiment.experiment_id}')}`, or choose "
            "another store with --tracking-uri"
        )


def mlflow_command(uri: str, arguments: str) -> str:
    """A command of MLflow on this store, as a person types it: by default MLflow takes another one."""
    return f"MLFLOW_TRACKING_URI={shlex.quote(without_password(mlflow_uri(uri)))} mlflow {arguments}"


def checkpoint_folder(uri: str) -> Path:
    """Where the checkpoints and locks of unfinished runs are kept.

    That is ``FEDBENCH_CHECKPOINT_DIR``, which several machines may share; else ``checkpoints`` next to a SQLite file,
    or in ``mlruns/`` of the working directory.
    """
    if chosen := os.environ.get(CHECKPOINTS):
        return Path(chosen).absolute()
    return (local_folder(uri) or DEFAULT_FOLDER.absolute()) / "checkpoints"


def require_space(uri: str) -> None:
    """Refuse to begin a run where the disk of a local store is almost full, with a `StoreError`."""
    folder = local_folder(uri)
    if folder and (free := shutil.disk_usage(folder).free) < MIN_FREE_BYTES:
        raise StoreError(
            f"only {free >> 20} MB are free on the disk of {folder}: make room (at least {MIN_FREE_BYTES >> 20} MB), "
            f"then {RESUMES}"
        )


def _require_sqlite(uri: str, for_reading: bool) -> None:
    """Find out, quickly, whether a SQLite store can be used; for writing it and its folder are made."""
    database = make_url(uri).database if uri.startswith(SQLITE) else None
    if not database or database == ":memory:" or database.startswith("file:"):
        raise StoreError(f"tracking store {uri} names no file: use sqlite:///FOLDER/mlflow.db")
    if "?" in uri and not make_url(uri).query:
        raise StoreError(f"tracking store {uri}: write ? as %3F and % as %25 in the address of a store")
    path = Path(database).absolute()
    if (written := Path(uri.removeprefix("sqlite:///")).absolute().parent) != path.parent and written.is_dir():
        raise StoreError(f"tracking store {uri}: write % as %25 in the address of a store in {written}")
    if not for_reading:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass  # raises OSError where nothing can be written
        if not path.exists():
            _make_sqlite(path)
    with regular(path).open("rb" if for_reading else "rb+") as file:
        if file.read(16) not in (b"", b"SQLite format 3\0"):
            raise StoreError(f"tracking store {uri} is not a SQLite database: choose another with --tracking-uri")
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "alembic_version" not in tables:
        raise StoreError(f"tracking store {uri} is the database of another program: choose another with --tracking-uri")


def _make_sqlite(path: Path) -> None:
    """Make a store under another name and put it in place as a whole: other commands may do the same."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
        new = Path(folder) / "mlflow.db"
        event.listen(Engine, "connect", _leave_waiting_for_the_disk)  # for MLflow's some hundred migrations
        try:
            # MLflow's own default, the working directory, must have no quote in its name.
            SqlAlchemyStore(mlflow_uri(sqlite_address(new)), (path.parent / "artifacts").as_uri())  # type: ignore[no-untyped-call]
        finally:
            event.remove(Engine, "connect", _leave_waiting_for_the_disk)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            put_new(new, path)


def _leave_waiting_for_the_disk(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()
