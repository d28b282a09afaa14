"""What a tracking server may answer, each explained in one line, and how an absent one is waited for."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, OperationalError

from fedbench.tracking.mlflow import client as store_client
from fedbench.tracking.mlflow.client import is_away
from fedbench.tracking.mlflow.store import open_store
from fedbench.util.errors import StoreError

MAJOR = mlflow.__version__.partition(".")[0]
OTHER_MAJOR = f"{int(MAJOR) + 1}.0.1"
EXPERIMENTS = "/api/2.0/mlflow/experiments/search"


@dataclass
class Answers:
    """What the server says, and what it was asked. An answer may be a list: one for each time, the last again."""

    version: tuple[int, str] = (200, mlflow.__version__)
    search: list[int] = field(default_factory=lambda: [200])
    body: str = "{}"
    kind: str = "application/json"
    credentials: list[str | None] = field(default_factory=list)
    asked: Callable[[int], None] = lambda _: None
    uri: str = ""


@pytest.fixture
def answers() -> Iterator[Answers]:
    """A server on a port of its own."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*answers.version, "text/plain")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            times = sum(1 for _ in answers.credentials)
            answers.credentials.append(self.headers["Authorization"])
            answers.asked(times + 1)
            self._answer(answers.search[min(times, len(answers.search) - 1)], answers.body, answers.kind)

        def _answer(self, status: int, body: str, kind: str) -> None:
            with suppress(BrokenPipeError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answers.uri = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield answers
        server.shutdown()


def psycopg_error(text: str, state: str | None) -> Exception:
    error = type("OperationalError", (Exception,), {"__module__": "psycopg.errors"})(text)
    error.sqlstate = state  # type: ignore[attr-defined]
    return error


def refusal(uri: str) -> str:
    with pytest.raises(StoreError) as error:
        open_store(uri)
    return str(error.value)


def test_another_major_version_is_one_line(answers: Answers) -> None:
    answers.version = (200, OTHER_MAJOR)
    expected = (
        f"tracking server {answers.uri} runs MLflow {OTHER_MAJOR}, and this is MLflow {mlflow.__version__}: install "
        f"mlflow {int(MAJOR) + 1} here, upgrade the server, or choose another --tracking-uri"
    )
    assert expected == refusal(answers.uri)


@pytest.mark.parametrize("version", [(200, f"{MAJOR}.999.0"), (404, "not found"), (200, "<html>"), (200, "")])
def test_another_minor_version_and_an_unknown_one_are_accepted(answers: Answers, version: tuple[int, str]) -> None:
    answers.version = version
    open_store(answers.uri)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refuses the credentials (it answers 401): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, "does not let this user do so (it answers 403): ask for the permission, or set MLFLOW_TRACKING_USERNAME"),
        (500, "answers 500: look into its log, and at its database"),
        (503, "answers 503: look into its log, and at its database"),
        (404, "is not an MLflow server (it answers 404): correct --tracking-uri"),
    ],
)
def test_a_refusal_is_one_line(answers: Answers, status: int, words: str) -> None:
    answers.search = [status]
    assert refusal(answers.uri).startswith(f"tracking server {answers.uri} {words}")


@pytest.mark.parametrize("status", [401, 403])
def test_a_proxy_that_wants_a_login_for_everything_is_one_line(answers: Answers, status: int) -> None:
    answers.version, answers.search = (status, ""), [status]
    assert f"(it answers {status})" in refusal(answers.uri)


def test_a_web_page_is_not_an_mlflow_server(answers: Answers) -> None:
    answers.body, answers.kind = "<html>welcome</html>", "text/html"
    assert f"tracking server {answers.uri} is not an MLflow server (it answers 200)" in refusal(answers.uri)


def test_credentials_are_mlflows_own_and_not_shown(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret-word")
    open_store(answers.uri)
    assert {f"Basic {base64.b64encode(b'me:s3cret-word').decode()}"} == set(answers.credentials)
    answers.search = [401]
    assert "s3cret" not in refusal(answers.uri)
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    answers.search, answers.credentials = [200], []
    open_store(answers.uri)
    assert {"Bearer t0ken"} == set(answers.credentials)


def test_a_refusal_later_is_one_line_too(answers: Answers) -> None:
    client = open_store(answers.uri)
    answers.search, answers.body = [403], json.dumps({"error_code": "PERMISSION_DENIED", "message": "no"})
    with pytest.raises(StoreError, match=r"does not let this user do so \(it answers 403\)"):
        client.search_experiments()


# While it is away


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and patience for a second."""
    monkeypatch.setattr(store_client, "PAUSE_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(store_client, "AWAY_SECONDS", 1.0)


@pytest.mark.usefixtures("quick")
def test_one_line_says_that_it_is_waited_for_and_one_that_it_answers_again(
    answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    client = open_store(answers.uri)
    answers.credentials, answers.search = [], [503, 503, 503, 200]
    client.search_experiments()
    place = f"fedbench: tracking server {answers.uri}"
    first, last = capsys.readouterr().err.splitlines()
    assert f"{place} does not answer: waiting for it; Ctrl-C ends, and the same command resumes later" == first
    assert f"{place} answers again, after 0 s" == last


def test_a_first_retry_is_immediate_and_silent(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    client = open_store(answers.uri)
    answers.credentials, answers.search = [], [503, 200]
    client.search_experiments()
    assert (2, "") == (len(answers.credentials), capsys.readouterr().err)


@pytest.mark.usefixtures("quick")
def test_after_all_attempts_it_is_given_up_and_not_asked_again(answers: Answers) -> None:
    client = open_store(answers.uri)
    answers.credentials, answers.search = [], [503]
    with pytest.raises(StoreError, match=r"has not answered for 1 s: start it, then the same command resumes"):
        client.search_experiments()
    attempts = len(answers.credentials)
    assert attempts > 4
    with pytest.raises(StoreError, match="did not answer: start it, then the same command resumes"):
        client.search_experiments()
    assert attempts == len(answers.credentials)


def test_ctrl_c_ends_the_waiting_at_once_and_it_is_not_asked_again(answers: Answers) -> None:
    """The pauses are fedbench's own: some seconds each."""
    client = open_store(answers.uri)
    answers.credentials, answers.search = [], [503]
    answers.asked = lambda times: (
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start() if times == 2 else None
    )
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.search_experiments()
    assert time.monotonic() - began < 2
    with pytest.raises(StoreError, match="did not answer"):
        client.search_experiments()
    assert 2 == len(answers.credentials)


def test_a_command_that_ends_asks_once(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # put back afterwards
    client = open_store(answers.uri)
    answers.credentials, answers.search = [], [503]
    client.hurry()
    with pytest.raises(StoreError, match="has not answered"):
        client.search_experiments()
    assert 1 == len(answers.credentials)


def test_other_errors_are_not_retried(answers: Answers) -> None:
    client = open_store(answers.uri)
    answers.credentials, answers.search = [], [400]
    answers.body = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"})
    with pytest.raises(StoreError, match="INVALID_PARAMETER_VALUE"):
        client.search_experiments()
    assert 1 == len(answers.credentials)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("", None, psycopg_error("connection refused", None)), True),
        (OperationalError("", None, psycopg_error("the database system is starting up", "57P03")), True),
        (OperationalError("", None, psycopg_error("no space left on device", "53100")), False),
        (OperationalError("", None, sqlite3.OperationalError("database is locked")), False),
        (DBAPIError("", None, Exception(), connection_invalidated=True), True),
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), False),
        (requests.ConnectionError(), True),
        (requests.ReadTimeout(), True),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_which_errors_say_that_a_store_is_away(error: Exception, expected: bool) -> None:
    wrapped = MlflowException("API request failed")
    wrapped.__cause__ = error
    assert (expected, expected) == (is_away(error), is_away(wrapped))
