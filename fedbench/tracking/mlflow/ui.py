"""The MLflow UI on fedbench's store: start the server, wait until it answers, end it cleanly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

import requests
import typer
from mlflow.entities import Experiment

from fedbench.tracking.mlflow.database import mlflow_uri
from fedbench.tracking.mlflow.server import is_server
from fedbench.tracking.mlflow.store import default_tracking_uri, experiment_of, open_store, without_password
from fedbench.tracking.mlflow.views import view_address, views_of
from fedbench.util.errors import StoreError

START_SECONDS = 120.0
PATIENCE_SECONDS = 8.0  # between two lines that say so
REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - hosts that listen everywhere; only compared


def serve(
    suite_name: str | None, host: str, port: int, tracking_uri: str | None, recorded_by: Sequence[str] = ()
) -> None:
    """Serve the MLflow UI until Ctrl-C; for a store that is a tracking server, say where its own UI is.

    `recorded_by` is the command of fedbench that records `suite_name`, where that is not ``run SUITE``. Raises
    `StoreError` if the store cannot be opened, the suite has no experiment in it, the port is in use, or the server
    ends.
    """
    uri = tracking_uri or default_tracking_uri()
    client = open_store(uri)
    experiment = experiment_of(client, suite_name, recorded_by) if suite_name else None
    if is_server(uri):
        typer.echo(_where_to_look(without_password(uri.rstrip("/")), experiment))
        return
    _require_free_port(host, port)
    arguments = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    environment = {
        "MLFLOW_WORKERS": "1",  # of which each imports MLflow, while one answers requests in threads
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # which starts more processes and halves the speed of the start
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": mlflow_uri(uri),  # in the arguments everybody could read a password
    }
    log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the server
    # A session of its own, so that its own processes can be ended with it.
    server = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=log, env=environment, start_new_session=True)  # noqa: S603 - our own interpreter
    typer.echo("starting the MLflow server, which takes 3 to 8 seconds on two cores ...", err=True)
    try:
        address = f"http://{REACHED_AT.get(host, f'[{host}]' if ':' in host else host)}:{port}"
        _wait_until_it_answers(server, log, address)
        typer.echo(f"{_where_to_look(address, experiment)}\nCtrl-C ends it.")
        server.wait()
        raise StoreError(f"the MLflow server ended by itself (exit code {server.returncode})")
    except KeyboardInterrupt:
        typer.echo("ended")
    finally:
        _end(server)


def _where_to_look(server: str, experiment: Experiment | None) -> str:
    """One line for each of the experiment's views, or for the page that there is."""
    if experiment is None:
        return f"MLflow UI: {server}"
    views = views_of(experiment.tags)
    if not views:  # somebody deleted them
        return f"MLflow UI: {server}/#/experiments/{experiment.experiment_id}/runs"
    leads = ("MLflow UI", *(view.name for view in views[1:]))
    addresses = (view_address(server, experiment.experiment_id, view) for view in views)
    return "\n".join(f"{lead}: {address}" for lead, address in zip(leads, addresses, strict=True))


def _require_free_port(host: str, port: int) -> None:
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"port {port} on {host} cannot be used ({reason}): choose another with --port or --host"
        ) from error


def _wait_until_it_answers(server: subprocess.Popen[bytes], log: IO[bytes], address: str) -> None:
    began = said = time.monotonic()
    session = requests.Session()
    session.trust_env = False  # our own server is behind no proxy
    while (now := time.monotonic()) < began + START_SECONDS:
        if now > said + PATIENCE_SECONDS:
            said = now
            typer.echo(f"still starting, after {now - began:.0f} s ...", err=True)
        if server.poll() is not None:
            log.seek(0)
            last = (log.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise StoreError(f"the MLflow server did not start: {last}")
        with suppress(requests.RequestException):
            if session.get(f"{address}/health", timeout=2).ok:
                return
        time.sleep(0.2)
    raise StoreError(f"the MLflow server did not answer within {START_SECONDS:.0f} s: try another --port")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and the processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
