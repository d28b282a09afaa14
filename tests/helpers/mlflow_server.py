"""A real MLflow server for tests, on a port of its own of this machine alone.

with mlflow_server(folder) as server:  # on a SQLite file in the folder
    track(suite, server.uri)
    server.stop()
    server.start()  # again, at the same address, with what it had

with mlflow_server(folder, backend=postgresql.create("mlflow")) as server: ...
with mlflow_server(folder, artifacts="s3://bucket", environment={"MLFLOW_S3_ENDPOINT_URL": ...}) as server: ...
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

START_SECONDS = 120.0


@dataclass
class MlflowServer:
    """A server, which keeps artifacts for its clients; see `mlflow_server`."""

    folder: Path
    port: int
    backend: str
    artifacts: str
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """Its address, for ``MLFLOW_TRACKING_URI``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.folder / "server.log").read_text()

    def start(self) -> None:
        """Start it, or start it again at the same address, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment |= {
            "MLFLOW_BACKEND_STORE_URI": self.backend,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # which would start more processes
            **self.environment,
        }
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--artifacts-destination", self.artifacts, *self.options],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that its own processes can be ended with it
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(requests.RequestException):
                if requests.get(f"{self.uri}/health", timeout=2).ok:
                    return
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"the MLflow server did not start: {self.log}")

    def stop(self) -> None:
        """Stop it as an administrator would: requests in progress are answered."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, like a power cut."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: it takes connections and answers nothing, until `resume`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
            os.killpg(self._process.pid, signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=20)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None


@contextmanager
def mlflow_server(
    folder: Path,
    backend: str | None = None,
    artifacts: str | None = None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    workers: int = 1,
) -> Iterator[MlflowServer]:
    """A server that answers, ended afterwards.

    Parameters
    ----------
    folder
        Where it runs: what it prints goes to ``server.log`` there. Made if it is not there.
    backend
        The address of its database (default: a SQLite file in the folder).
    artifacts
        Where it keeps artifacts for its clients (default: ``artifacts`` in the folder).
    options
        More options of `mlflow server`.
    environment
        More environment variables. Those of this process that begin with MLFLOW_ are not passed on.
    workers
        Its processes: one starts sooner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    running = MlflowServer(
        folder,
        port,
        backend or f"sqlite:///{folder.absolute()}/mlflow.db",
        artifacts or (folder.absolute() / "artifacts").as_uri(),
        ("--workers", str(workers), *options),
        environment or {},
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()
