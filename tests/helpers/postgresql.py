"""A private PostgreSQL server for tests, never the system's.

with server() as postgresql:
    url = postgresql.create("name")  # an empty database
    ...
    postgresql.stop()  # as a machine that goes down: connections end at once
    postgresql.start()
    postgresql.restart()
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

USER, PASSWORD = "me", "s3cret-word"
READER = "reader"  # the role of `Server.read_only`; its password is the same


def why_no_postgresql() -> str | None:
    """What is missing; None if nothing is. To be given to `needed.needs`."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install psycopg[binary]"
    if _programs() is None:
        return "no PostgreSQL server was found: install the package postgresql"
    if os.geteuid() == 0 and _owner() is None:
        return "PostgreSQL does not run as root, and there is no other user to run it as"
    return None


def _programs() -> Path | None:
    """The folder of initdb and postgres; Debian has them outside the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)


def _owner() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _identity() -> dict[str, Any]:
    """Whom to run the programs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(str(_owner()))
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@dataclass
class Server:
    """A server with a password, on a port of its own of this machine alone."""

    folder: Path
    port: int
    is_durable: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self, database: str, password: str = PASSWORD, user: str = USER) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; gives its address."""
        self.execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def read_only(self, database: str) -> str:
        """The address of a database for a role that may read everything in it and write nothing."""
        self.execute(
            f"DO $$ BEGIN CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'; "
            "EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            f"GRANT pg_read_all_data TO {READER}",
        )
        return self.url(database, user=READER)

    def execute(self, *statements: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def bytes_of(self, database: str) -> int:
        """What a database takes on the disk."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            row = connection.execute("SELECT pg_database_size(%s)", (database,)).fetchone()
        assert row is not None
        return int(row[0])

    def start(self) -> None:
        """Start it, or start it again with the databases that it had, and wait until it answers."""
        programs = _programs()
        assert programs is not None
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self.is_durable else "off",
        }
        arguments = [f"--{key}={value}" for key, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", self.folder / "data", *arguments],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **_identity(),
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End it, and its connections with it."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def restart(self, seconds: float = 0.0) -> None:
        """Stop it, and start it again after so many seconds."""
        self.stop()
        time.sleep(seconds)
        self.start()

    def _wait_until_it_answers(self) -> None:
        import psycopg

        for _ in range(300):
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()}")


@contextmanager
def server(is_durable: bool = False) -> Iterator[Server]:
    """A new server without databases, ended and removed afterwards; one that is durable waits for the disk."""
    programs = _programs()
    assert programs is not None, why_no_postgresql()
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if identity := _identity():
            for path in (folder, folder / "password"):
                os.chown(path, identity["user"], identity["group"])
        options = ["--auth", "scram-sha-256", "--username", USER, "--pwfile", str(folder / "password"), "--no-sync"]
        subprocess.run(
            [programs / "initdb", *options, "--pgdata", folder / "data"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            **identity,
        )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        running = Server(folder, port, is_durable)
        try:
            running.start()
            yield running
        finally:
            running.stop()
