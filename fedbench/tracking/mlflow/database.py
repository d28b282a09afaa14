"""A database of MLflow or Optuna: asked once before it is used, and shown without its password."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from fedbench.util.errors import StoreError
from fedbench.util.files import SQLITE, sqlite_address

DEFAULT_FOLDER = Path("mlruns")
DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
ANSWER_SECONDS = 10


def require_reachable_database(uri: str, what: str = "tracking store", option: str = "--tracking-uri") -> None:
    """Connect to a database's port once, before a library retries for minutes.

    Raises `StoreError` if nothing listens, or `uri` is not an address; the text names `what` it is and the `option` to
    correct.
    """
    place = f"{what} {without_password(uri)}"
    try:
        url = make_url(uri)
        _ = url.host, url.port
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            f"{place} is not the address of a store: use sqlite:///FOLDER/FILE.db, a database's or a server's address "
            f"as {option}"
        ) from error
    if closed := _connection_error(url):
        raise StoreError(f"{place} does not answer ({closed.strerror or closed}): start it, or correct {option}")


def _connection_error(url: URL) -> OSError | None:
    """Why nothing listens at an address; None if something does, or if the address has no port."""
    port = url.port or DEFAULT_PORTS.get(url.get_backend_name())
    if url.host and port:
        try:
            socket.create_connection((url.host, port), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            return error
    return None


def default_tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else a SQLite database inside ``mlruns/`` of the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(DEFAULT_FOLDER / "mlflow.db")


def chosen_store(uri: str | None) -> str | None:
    """The option ``--tracking-uri`` of an advised command on this store, without a password; None if it needs none."""
    shown = without_password(uri) if uri else None
    return None if shown == without_password(default_tracking_uri()) else shown


def mlflow_uri(uri: str) -> str:
    """The address that MLflow is given: of ``sqlite:///`` with escapes it would make the folder as it is written."""
    return uri.replace("sqlite:", "sqlite+pysqlite:", 1) if uri.startswith("sqlite:") and "%" in uri else uri


def local_folder(uri: str) -> Path | None:
    """The folder of a SQLite store; None for a store of another kind."""
    database = make_url(uri).database if uri.startswith(SQLITE) else None  # one with less cannot be parsed
    return Path(database).absolute().parent if database else None


def artifact_folder(uri: str, experiment: str) -> Path | None:
    """Where a SQLite store has a folder for each run of an experiment; None for a store of another kind."""
    folder = local_folder(uri)
    return folder / "artifacts" / experiment if folder else None


def connect_once(uri: str) -> None:
    """Connect to a database, to learn at once what it refuses: MLflow would try for a minute."""
    engine = create_engine(uri, poolclass=NullPool)
    engine.connect().close()
    engine.dispose()


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


def driver_of(uri: str) -> str:
    """How to install the driver that an address needs."""
    return 'pip install "fedbench-mlflow[postgresql]"' if uri.startswith("postgresql") else "install it"
