"""A database server, of MLflow or of Optuna: asked once before it is used, waited for while it is away."""

from __future__ import annotations

import re
import socket
import time
from typing import Any

from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.engine import URL, Dialect, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from fedbench.tracking.mlflow.waiting import begin_waiting, end_waiting, require_not_given_up
from fedbench.util.errors import StoreError

DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
ANSWER_SECONDS = 10
AWAY_SECONDS = 600  # after which a database that is away is given up
PAUSE_SECONDS = 2.0  # between two attempts
NOT_YET = ("starting up", "shutting down", "in recovery mode", "not yet accepting connections")


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
        _ = url.host, url.port
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            f"{place} is no address of a store: use sqlite:///FOLDER/FILE.db, a database's or a server's address as "
            f"{option}"
        ) from error
    if closed := _knock(url):
        raise StoreError(f"{place} does not answer ({closed.strerror or closed}): start it, or correct {option}")


def _knock(url: URL) -> OSError | None:
    """Why nobody opens; None if somebody does, or if there is no door to knock at."""
    port = url.port or DEFAULT_PORTS.get(url.get_backend_name())
    if url.host and port:
        try:
            socket.create_connection((url.host, port), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            return error
    return None


def connect_once(uri: str) -> None:
    """Connect to a database: what it refuses is refused again and again, and MLflow would ask for a minute."""
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
    """How to come by the driver that an address needs, in words."""
    return 'pip install "fedbench-mlflow[postgresql]"' if uri.startswith("postgresql") else "install it"


@event.listens_for(Engine, "do_connect")
def _connect_patiently(
    dialect: Dialect, _: ConnectionPoolEntry, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Connect to a database server; one that is away is waited for, as while it starts again."""
    if dialect.name not in DEFAULT_PORTS or not options.get("host"):
        return None  # SQLAlchemy connects
    port = options.get("port")
    address = URL.create(dialect.name, host=str(options["host"]), port=int(port) if port else None)
    deadline = time.monotonic() + AWAY_SECONDS
    while True:
        require_not_given_up()
        try:
            connection = dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.Error as error:
            if time.monotonic() > deadline or not _is_away(address, str(error)):
                raise
            begin_waiting(f"database {address}")
            time.sleep(PAUSE_SECONDS)
        else:
            end_waiting()
            return connection


def _is_away(address: URL, problem: str) -> bool:
    """Whether it is worth waiting: the server is not there, or is about to be."""
    return any(words in problem for words in NOT_YET) or _knock(address) is not None
