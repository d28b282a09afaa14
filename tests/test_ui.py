"""`fedbench ui` by its own command: it starts, answers, and ends without a trace."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from fedbench.tracking.store import open_store

PACKAGE = Path(__file__).parents[1]


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fedbench", "ui", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PACKAGE), "NO_PROXY": "127.0.0.1", "FEDBENCH_TEST": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with an experiment: its address and the experiment's id."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    client = open_store(uri)
    return uri, client.create_experiment("tiny", tags={"fedbench.schema": "1"})


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_answers_prints_the_suites_address_and_ends_when_asked(
    store: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    uri, experiment = store
    port = free_port()
    process = start("tiny", "--port", str(port), "--tracking-uri", uri, folder=tmp_path)
    try:
        assert process.stdout is not None
        address = process.stdout.readline()
        assert re.fullmatch(rf"MLflow UI: http://127\.0\.0\.1:{port}/#/experiments/{experiment}/runs\n", address)
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=10).ok
        page = requests.get(f"http://127.0.0.1:{port}/", timeout=10)
        assert "<title>MLflow</title>" in page.text
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=30)
        assert 0 == process.returncode
        assert "Traceback" not in err
        wait_until_gone(str(tmp_path))
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_until_gone(mark: str) -> None:
    """Wait for the end of every process that was started with `mark` in its environment; five seconds at most."""
    for _ in range(100):
        if not any(mark in environment(process) for process in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.05)
    pytest.fail("the command left a process behind")


def environment(process: Path) -> str:
    with suppress(OSError):  # it has ended, or is not ours to look at
        return (process / "environ").read_text(errors="replace")
    return ""


def refusal(*arguments: str, folder: Path) -> str:
    process = start(*arguments, folder=folder)
    out, err = process.communicate(timeout=60)
    assert (2, "") == (process.returncode, out)
    (line,) = err.splitlines()
    return line


@pytest.mark.slow
def test_a_port_in_use_is_one_line(store: tuple[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = refusal("--port", str(port), "--tracking-uri", store[0], folder=tmp_path)
    assert f"fedbench: error: port {port} on 127.0.0.1 cannot be used" in line
    assert line.endswith("choose another with --port or --host")


@pytest.mark.slow
def test_a_suite_that_never_ran_is_one_line_that_says_how_to_run_it(store: tuple[str, str], tmp_path: Path) -> None:
    line = refusal("nosuch", "--tracking-uri", store[0], folder=tmp_path)
    assert "suite nosuch has no runs in" in line
    assert line.endswith("fedbench run nosuch")


@pytest.mark.slow
def test_a_server_has_its_own_ui(tmp_path: Path) -> None:
    line = refusal("--tracking-uri", "http://tracking.example", folder=tmp_path)
    assert "http://tracking.example is a server that has its own UI: open it in a browser" in line
