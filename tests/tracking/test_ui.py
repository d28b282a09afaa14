"""`fedbench ui`: it starts, answers, prints where to look, and ends without a trace."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from browser import free_port, start_ui, ui
from command import fedbench_here
from empty_store import put_empty_store
from mlflow import MlflowClient

from fedbench.tracking.mlflow.store import open_store
from fedbench.tracking.mlflow.views import saved_view, view_address, view_tags, views_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store with an experiment: its address and the experiment's id."""
    uri = put_empty_store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")
    client = open_store(uri)
    return uri, client.create_experiment("tiny", tags={"fedbench.schema": "2", **view_tags()})


@pytest.fixture(scope="module")
def server(store: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a tracking server on that store."""
    with ui("--tracking-uri", store[0], folder=tmp_path_factory.mktemp("server")) as addresses:
        yield addresses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGINT, 2), pytest.param(signal.SIGHUP, 1, marks=pytest.mark.nightly)]
)
def test_the_ui_answers_prints_the_suites_address_and_ends_when_asked(
    store: tuple[str, str], tmp_path: Path, number: int, workers: int
) -> None:
    """Behind a proxy that answers nobody, which its own server is not asked through."""
    proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:1") | {"NO_PROXY": "", "no_proxy": ""}
    directly = requests.Session()
    directly.trust_env = False
    uri, experiment = store
    port = free_port()
    process = start_ui("tiny", "--port", str(port), "--tracking-uri", uri, folder=tmp_path, workers=workers, **proxy)
    try:
        assert process.stdout is not None
        server = f"http://127.0.0.1:{port}"
        for view in views_of(view_tags()):
            assert process.stdout.readline().endswith(f": {view_address(server, experiment, view)}\n")
        assert directly.get(f"http://127.0.0.1:{port}/health", timeout=10).ok
        page = directly.get(f"http://127.0.0.1:{port}/", timeout=10)
        assert "<title>MLflow</title>" in page.text
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=30)
        assert 0 == process.returncode
        assert "Traceback" not in err
        wait_until_gone(str(tmp_path))
        with pytest.raises(requests.ConnectionError):
            directly.get(f"http://127.0.0.1:{port}/health", timeout=5)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


# Where to look: of a tracking server, which is asked and not started


def printed(suite: str, server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are printed of a suite."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = fedbench_here("ui", suite, "--tracking-uri", server, folder=folder)
    assert (0, "") == (done.code, done.err)
    return re.findall(r"http://\S+", done.out)


@pytest.mark.slow
def test_of_a_tracking_server_the_addresses_in_its_own_ui_are_printed(
    server: str, store: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [view_address(server, store[1], view) for view in views_of(view_tags())]
    assert expected == printed("tiny", server, tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_view_of_the_highest_rank_comes_first_and_without_a_view_it_is_the_page_of_runs(
    server: str, store: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store[0])
    trials = saved_view("trials", "Trials compared", 3, {})
    client.create_experiment("tiny.tuning", tags={"fedbench.schema": "2", **view_tags(), **trials})
    addresses = printed("tiny.tuning", server, tmp_path, monkeypatch)
    views = [address.partition("viewStateShareKey=")[2].partition("&")[0] for address in addresses]
    assert ["trials", "seeds", "cells"] == views
    experiment = client.create_experiment("bare", tags={"fedbench.schema": "2"})
    (address,) = printed("bare", server, tmp_path, monkeypatch)
    assert address.endswith(f"/#/experiments/{experiment}/runs")


def wait_until_gone(mark: str) -> None:
    """Wait for the end of every process that was started with `mark` in its environment; 30 seconds at most."""
    for _ in range(600):
        if not any(mark in environment(process) for process in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.05)
    pytest.fail("the command left a process behind")


def environment(process: Path) -> str:
    with suppress(OSError):  # it has ended, or is not ours to look at
        return (process / "environ").read_text(errors="replace")
    return ""


# What is refused


def refusal(*arguments: str, folder: Path) -> str:
    done = fedbench_here("ui", *arguments, folder=folder)
    assert (2, "") == (done.code, done.out)
    (line,) = done.err.splitlines()
    return line


def test_a_port_in_use_is_one_line(store: tuple[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = refusal("--port", str(port), "--tracking-uri", store[0], folder=tmp_path)
    assert f"fedbench: error: port {port} on 127.0.0.1 cannot be used" in line
    assert line.endswith("choose another with --port or --host")


@pytest.mark.parametrize("host", ["", " ", "nosuch.invalid", "a" * 64])
def test_a_host_that_is_none_is_one_line(host: str, store: tuple[str, str], tmp_path: Path) -> None:
    line = refusal("--host", host, "--tracking-uri", store[0], folder=tmp_path)
    assert re.search(
        r"--host is empty|port 5000 on \S+ cannot be used \(.+\): choose another with --port or --host$", line
    )


def test_a_suite_that_never_ran_is_one_line_that_says_how_to_run_it(store: tuple[str, str], tmp_path: Path) -> None:
    line = refusal("nosuch", "--tracking-uri", store[0], folder=tmp_path)
    assert "suite nosuch has no runs in" in line
    assert "fedbench run nosuch --tracking-uri sqlite:///" in line


def test_a_tracking_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    line = refusal("--tracking-uri", "http://127.0.0.1:1", folder=tmp_path)
    assert "tracking server http://127.0.0.1:1 does not answer" in line
