"""A private PostgreSQL server for tests, never the system's."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER, PASSWORD = "me", "s3cret-word"


def why_no_postgresql() -> str | None:
    """What is missing; None if nothing is."""
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


@dataclass(frozen=True)
class Server:
    port: int

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; gives its address."""
        self.execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def execute(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextmanager
def server() -> Iterator[Server]:
    """A server with a password, on a port of its own of this machine alone."""
    programs, owner = _programs(), _owner() if os.geteuid() == 0 else None
    assert programs is not None
    identity: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if owner:
            entry = pwd.getpwnam(owner)
            identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            for path in (folder, folder / "password"):
                os.chown(path, entry.pw_uid, entry.pw_gid)
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
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        arguments = [f"--{key}={value}" for key, value in settings.items()]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *arguments],
                cwd=folder,
                stdout=log,
                stderr=log,
                **identity,
            )
        try:
            yield _answering(Server(port), folder / "log")
        finally:
            process.send_signal(signal.SIGINT)  # which ends its connections, too
            process.wait(60)


def _answering(found: Server, log: Path) -> Server:
    import psycopg

    for _ in range(300):
        try:
            found.execute("SELECT 1")
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return found
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")
