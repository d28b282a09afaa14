"""The MLflow UI on fedbench's store: start the server, wait until it answers, end it cleanly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO

import requests
import typer
from mlflow import MlflowClient

from fedbench.tracking.mlflow.reading import REGRESSION_SCHEMA, SPEED_SCHEMA
from fedbench.tracking.mlflow.repeated import set_experiment_tags
from fedbench.tracking.mlflow.store import (
    default_tracking_uri,
    experiment_id,
    open_store,
    store_errors,
    without_password,
)
from fedbench.tracking.mlflow.views import CELLS, REGRESSION, SEEDS, SHARED_VIEW, SPEED, TRIALS, view_address, view_tags
from fedbench.util.errors import StoreError

START_SECONDS = 120.0
LEADS = {
    SEEDS: "Seed by seed",
    CELLS: "One line a cell, with its spread",
}  # before the addresses that are not the first


def serve(suite_name: str | None, host: str, port: int, tracking_uri: str | None) -> None:
    """Serve the MLflow UI until Ctrl-C; for a store that is a tracking server, say where its own UI is.

    Raises
    ------
    StoreError
        If the store cannot be opened, the suite has no experiment in it, the port is in use, or the server ends.
    """
    uri = tracking_uri or default_tracking_uri()
    client = open_store(uri)
    experiment = experiment_id(client, uri, suite_name) if suite_name else None
    views = _give_views(client, uri, experiment) if experiment else ()
    if uri.startswith(("http://", "https://")):
        typer.echo(_where_to_look(without_password(uri.rstrip("/")), suite_name, experiment, views))
        return
    _require_free_port(host, port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}  # there, a password in it is not seen by everybody
    log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the server
    # A session of its own, so that its own processes can be ended with it.
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment, start_new_session=True)  # noqa: S603 - our own interpreter
    typer.echo("starting the MLflow server ...", err=True)
    try:
        address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - only compared
        _wait_until_it_answers(server, log, address)
        typer.echo(f"{_where_to_look(address, suite_name, experiment, views)}\nCtrl-C ends it.")
        server.wait()
        raise StoreError(f"the MLflow server ended by itself (exit code {server.returncode})")
    except KeyboardInterrupt:
        typer.echo("ended")
    finally:
        _end(server)


def _give_views(client: MlflowClient, uri: str, experiment: str) -> tuple[str, ...]:
    """Give an experiment the views that it lacks and name them; none for schema 1, whose runs they would not find."""
    with store_errors(uri):
        found = client.get_experiment(experiment)
        tags = found.tags
        if SPEED_SCHEMA in tags:
            return (SPEED,)  # `fedbench bench` gave it what there is
        if REGRESSION_SCHEMA in tags:  # likewise `fedbench check`, a view for each suite
            views = (key.removeprefix(SHARED_VIEW) for key in sorted(tags) if key.startswith(SHARED_VIEW))
            return (REGRESSION, *(view for view in views if view.startswith(f"{REGRESSION}-")))
        if tags.get("fedbench.schema", "1") == "1":
            return ()
        set_experiment_tags(client, found, {key: value for key, value in view_tags().items() if key not in tags})
    return (TRIALS, SEEDS, CELLS) if SHARED_VIEW + TRIALS in tags else (SEEDS, CELLS)


def _where_to_look(server: str, suite_name: str | None, experiment: str | None, views: tuple[str, ...]) -> str:
    if experiment is None:
        return f"MLflow UI: {server}"
    if views:
        leads = ("MLflow UI", *(LEADS.get(view) or view.removeprefix(f"{REGRESSION}-") for view in views[1:]))
        addresses = (view_address(server, experiment, view) for view in views)
        return "\n".join(f"{lead}: {address}" for lead, address in zip(leads, addresses, strict=True))
    page = f"{server}/#/experiments/{experiment}/runs"
    return f"MLflow UI: {page}\nAn older fedbench recorded this. To group it by cell: fedbench run {suite_name}"


def _require_free_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise StoreError(
            f"port {port} on {host} cannot be used ({error.strerror}): choose another with --port or --host"
        ) from error


def _wait_until_it_answers(server: subprocess.Popen[bytes], log: IO[bytes], address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            log.seek(0)
            last = (log.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise StoreError(f"the MLflow server did not start: {last}")
        with suppress(requests.RequestException):
            if requests.get(f"{address}/health", timeout=2).ok:
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
