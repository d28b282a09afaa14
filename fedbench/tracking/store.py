"""Opening an MLflow store: SQLite files are made and checked, servers are asked once, and every error is one line."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType

import mlflow
import requests
from alembic.util.exc import CommandError
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fedbench.errors import StoreError
from fedbench.tracking.views import REGRESSION, SPEED

for _name, _level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("mlflow.store.db", logging.CRITICAL)):
    logging.getLogger(_name).setLevel(_level)  # greetings are not results, and what goes wrong is said in one line

HTTP_SERVER_ERROR = 500
DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)
DEFAULT_FOLDER = Path("mlruns")
MAX_BATCH = 1_000  # metrics that MLflow takes at once
MIN_FREE_BYTES = 100 << 20  # on the disk of a local store, below which no run is begun


def default_tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else a SQLite database inside ``mlruns/`` of the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT_FOLDER / 'mlflow.db'}"


def without_password(uri: str) -> str:
    """A store's address as it may be shown."""
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):  # a folder, or nonsense
        return re.sub(r"://[^/@]*@", "://***@", uri)
    secrets = {key: "***" for key in url.query if "pass" in key.lower()}  # drivers take it there, too
    if url.password is None and not secrets:
        return uri
    return url.update_query_dict(secrets).render_as_string(hide_password=True).replace("%2A", "*")


def open_existing_store(uri: str) -> MlflowClient:
    """As `open_store`, for who only reads: a SQLite file that is not there is not made but an error.

    Raises
    ------
    StoreError
        If there is no such store, or it cannot be opened.
    """
    folder = local_folder(uri)
    if folder and not Path(make_url(uri).database or "").exists():
        raise StoreError(f"there is no tracking store {uri}: fedbench run makes one, or name another store")
    return open_store(uri)


def open_store(uri: str) -> MlflowClient:
    """A client of the store at `uri`, which is made if it is a SQLite file that is not there yet.

    Raises
    ------
    StoreError
        If the store cannot be opened or written, or was made by another version of MLflow.
    """
    with store_errors(uri):
        if uri.startswith("sqlite:"):
            _require_writable_sqlite(uri)
        elif uri.startswith(("http://", "https://")):
            _require_answering_server(uri)
        else:
            require_reachable_database(uri)
        try:
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
        except ImportError as error:
            raise StoreError(f"tracking store {without_password(uri)} needs a driver ({error}): install it") from error
        return client


def check_store(uri: str | None) -> str:
    """Open the store, or say what would keep it from being made; in words for `fedbench doctor`."""
    uri = uri or default_tracking_uri()
    count = len(open_store(uri).search_experiments(filter_string="tags.`fedbench.schema` LIKE '%'"))
    return f"{without_password(uri)} can be written; {count} suites in it"


def experiment_of(client: MlflowClient, uri: str, suite_name: str) -> Experiment:
    """A suite's experiment.

    Raises
    ------
    StoreError
        If the suite never ran in this store, or its experiment was deleted.
    """
    with store_errors(uri):
        experiment: Experiment | None = client.get_experiment_by_name(suite_name)
    if experiment is None:
        own = {SPEED: "bench", REGRESSION: "check SUITE"}
        remedy = own.get(suite_name, f"run {suite_name}")
        raise StoreError(f"suite {suite_name} has no runs in {without_password(uri)}: fedbench {remedy}")
    require_not_deleted(experiment, uri)
    return experiment


def require_not_deleted(experiment: Experiment, uri: str) -> None:
    """Refuse an experiment that was deleted in MLflow.

    Raises
    ------
    StoreError
        One line that says how to restore it.
    """
    if experiment.lifecycle_stage == "deleted":
        raise StoreError(
            f"experiment {experiment.name} in {without_password(uri)} was deleted: restore it with `mlflow experiments "
            f"restore --experiment-id {experiment.experiment_id}`, or choose another store with --tracking-uri"
        )


def experiment_id(client: MlflowClient, uri: str, suite_name: str) -> str:
    """The id of a suite's experiment; see `experiment_of`."""
    return str(experiment_of(client, uri, suite_name).experiment_id)


def local_folder(uri: str) -> Path | None:
    """The folder of a SQLite store; None for a store of another kind."""
    database = make_url(uri).database if uri.startswith("sqlite:") else None
    return Path(database).absolute().parent if database else None


def checkpoint_folder(uri: str) -> Path:
    """Where the runs under way of a store are kept: beside a SQLite file, else in the working directory."""
    return (local_folder(uri) or DEFAULT_FOLDER.absolute()) / "checkpoints"


def require_space(uri: str) -> None:
    """Refuse to go on where the disk of a local store is about to be full, before anything is half written.

    Raises
    ------
    StoreError
        One line that says how much is left.
    """
    folder = local_folder(uri)
    if folder and (free := shutil.disk_usage(folder).free) < MIN_FREE_BYTES:
        raise StoreError(
            f"only {free >> 20} MB are free on the disk of {folder}: make room (at least {MIN_FREE_BYTES >> 20} MB), "
            "then the same command goes on from here"
        )


def _require_writable_sqlite(uri: str) -> None:
    """Make the folder of a SQLite store and find out at once, and cheaply, whether it can be used."""
    database = make_url(uri).database
    if not database or database == ":memory:" or database.startswith("file:"):
        raise StoreError(f"tracking store {uri} names no file: use sqlite:///FOLDER/mlflow.db")
    path = Path(database).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass  # raises OSError where nothing can be written
    if not path.exists():
        _make_sqlite(path)
    with path.open("rb+") as file:
        if file.read(16) not in (b"", b"SQLite format 3\0"):
            raise StoreError(f"tracking store {uri} is not a SQLite database: choose another with --tracking-uri")
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "alembic_version" not in tables:
        raise StoreError(f"tracking store {uri} is another program's database: choose another with --tracking-uri")


def _make_sqlite(path: Path) -> None:
    """Make a store under another name and put it in place whole, whoever else does so or ends us meanwhile."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
        new = Path(folder) / "mlflow.db"
        event.listen(Engine, "connect", _leave_waiting_for_the_disk)  # of MLflow's some hundred steps: to the end
        try:
            MlflowClient(f"sqlite:///{new}").search_experiments(max_results=1)
        finally:
            event.remove(Engine, "connect", _leave_waiting_for_the_disk)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(new, path)


def _leave_waiting_for_the_disk(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()


def _require_answering_server(uri: str) -> None:
    """Ask a tracking server once, briefly, before MLflow asks it patiently for minutes."""
    try:
        address = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search"
        requests.post(address, json={"max_results": 1}, timeout=10).raise_for_status()
    except requests.HTTPError as error:
        if error.response.status_code >= HTTP_SERVER_ERROR:
            raise StoreError(f"tracking server {without_password(uri)} answers {error.response.status_code}") from error
    except (requests.RequestException, ValueError) as error:
        raise StoreError(
            f"tracking server {without_password(uri)} does not answer: start it, or correct --tracking-uri"
        ) from error


def require_reachable_database(uri: str, what: str = "tracking store", option: str = "--tracking-uri") -> None:
    """Knock at a database's door, once, before a library asks it patiently for minutes.

    Raises
    ------
    StoreError
        If nobody answers, or `uri` is no address; `what` it is and the `option` that names another are in the text.
    """
    place = f"{what} {without_password(uri)}"
    try:
        url = make_url(uri)
        host, port = url.host, url.port or DEFAULT_PORTS.get(url.get_backend_name())
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            f"{place} is no address of a store: use sqlite:///FOLDER/FILE.db, a database's or a server's address as "
            f"{option}"
        ) from error
    if host and port:
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError as error:
            raise StoreError(
                f"{place} does not answer ({error.strerror or error}): start it, or correct {option}"
            ) from error


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Use a store: interruptions wait until the end, and what goes wrong becomes a `StoreError` of one line."""
    try:
        with _uninterrupted():
            yield
    except StoreError:
        raise
    except (MlflowException, SQLAlchemyError, sqlite3.Error, CommandError, OSError) as error:
        raise StoreError(_explain(without_password(uri), error)) from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back: a write that is broken off can leave a run half recorded, or a lock behind."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    held: list[tuple[int, FrameType | None]] = []
    handlers = {each: signal.signal(each, lambda *arguments: held.append(arguments)) for each in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held and callable(handler := handlers[signal.Signals(held[0][0])]):
            handler(*held[0])


def _explain(uri: str, error: Exception) -> str:
    text = " ".join(str(error).split()).partition(" [SQL:")[0]
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return (
            f"tracking store {uri} was made by another version of MLflow than this one ({mlflow.__version__}): upgrade "
            f"mlflow if it is newer, run `mlflow db upgrade {uri}` if it is older, or choose another --tracking-uri"
        )
    if "disk is full" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return f"tracking store {uri}: the disk is full: make room, then the same command goes on from here"
    if "database is locked" in text:
        return f"tracking store {uri} is locked by another program: end it, then the same command goes on from here"
    return f"tracking store {uri} failed ({text[:300]}): check that it can be written, or choose another --tracking-uri"
