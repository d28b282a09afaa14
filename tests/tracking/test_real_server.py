"""Real MLflow servers, on PostgreSQL and with S3: all commands work as on SQLite, and an absence costs time alone."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from command import Done, fedbench_here
from mlflow import MlflowClient
from mlflow_server import MlflowServer, mlflow_server
from needed import needs
from postgresql import PASSWORD, Server, server, why_no_postgresql
from recorded import Recorded, recorded, violations

from fedbench.tracking.mlflow import client
from fedbench.tracking.mlflow.registry import register_model
from fedbench.tracking.mlflow.store import open_store

PACKAGE = Path(__file__).parents[2]
SUITE = """
name: {name}
question: Does it work past one machine?
seeds: [0, 1]
defaults: {{examples_per_client: 50, rounds: 3, local_epochs: 1, learning_rate: 0.1}}
scenarios:
  - {{name: pair}}
  - {{name: three, num_clients: 3}}
contrast: {{axes: [scenario]}}
"""

OPENING = ("/version", "/experiments/search")  # what a server is asked once before it is used

pytestmark = [pytest.mark.slow, needs(why_no_postgresql())]


def begin(*arguments: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command in a folder of its own, for a store that the environment or the arguments name."""
    hidden = ("MLFLOW_", "AWS_", "FEDBENCH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.Popen(
        [sys.executable, "-m", "fedbench", *arguments],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(PACKAGE), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def suite_in(folder: Path, name: str) -> str:
    """Write the suite under a name of its own; gives the file's."""
    (folder / f"{name}.yaml").write_text(SUITE.format(name=name))
    return f"{name}.yaml"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(scope="module")
def service(postgresql: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server on PostgreSQL, which keeps the artifacts."""
    with mlflow_server(tmp_path_factory.mktemp("service"), postgresql.create("service")) as running:
        yield running


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """What SQLite has of the suite."""
    folder = tmp_path_factory.mktemp("expected")
    done = fedbench_here("run", suite_in(folder, "tiny"), "--workers", "1", folder=folder)
    assert 0 == done.code, done.err
    return recorded(f"sqlite:///{folder}/mlruns/mlflow.db", "tiny")


def finished_runs(uri: str, name: str) -> int:
    store = MlflowClient(uri)
    experiment = store.get_experiment_by_name(name)
    if experiment is None:
        return 0
    wanted = "tags.`fedbench.kind` = 'run' and attributes.status = 'FINISHED'"
    return len(store.search_runs([experiment.experiment_id], wanted))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_command_works_as_on_sqlite(service: MlflowServer, expected: Recorded, tmp_path: Path) -> None:
    suite = suite_in(tmp_path, "tiny")

    def fedbench(*arguments: str) -> Done:
        done = fedbench_here(*arguments, "--tracking-uri", service.uri, folder=tmp_path)
        assert (0, "") == (done.code, done.err.partition("error: ")[2])
        return done

    results = [json.loads(fedbench("run", suite, "--workers", "1", "--json").out) for _ in range(2)]
    assert [(4, 0), (0, 4)] == [(each["executed"], each["skipped"]) for each in results]
    assert [] == list(violations(recorded(service.uri, "tiny"), expected))
    (answer,) = json.loads(fedbench("answer", "tiny", "--json").out)["answers"]
    assert [answer] == results[0]["answers"] == results[1]["answers"]
    assert answer["sentence"].startswith("three is not shown to differ from pair: accuracy ")
    experiment = MlflowClient(service.uri).get_experiment_by_name("tiny")
    assert experiment is not None
    assert f"**{answer['sentence']}**" in experiment.tags["mlflow.note.content"]
    fedbench("report", "tiny", "--out", "page", "--log")
    assert "pair" in (tmp_path / "page" / "report.html").read_text()
    fedbench("export", "tiny", "--out", "runs.csv")
    assert 1 + 4 * 3 == len((tmp_path / "runs.csv").read_text().splitlines())
    assert "finished" in fedbench("runs", "list", "tiny").out
    run_id = json.loads(fedbench("runs", "list", "tiny", "--json").out)["runs"][0]["run_id"]
    assert "accuracy" in fedbench("runs", "show", run_id).out
    made = fedbench_here("baseline", suite, "--workers", "1", "--allow-collapsed", folder=tmp_path)
    assert 0 == made.code, made.err
    assert "PASS" in fedbench("check", suite, "--workers", "1", "--baselines", "baselines").out.upper()
    fedbench("history", "tiny", "--out", "history")
    options = ("--trials", "2", "--workers", "1", "--set", "rounds=1", "--json", "--register", "best-of-tiny")
    assert 2 == json.loads(fedbench("tune", suite, *options).out)["trials"]
    assert service.uri in fedbench("ui", "tiny").out
    assert "can be written" in " ".join(fedbench("doctor").out.split())
    assert [] == list(tmp_path.rglob("mlflow.db"))
    assert PASSWORD not in service.log


# While it is away


@pytest.mark.parametrize("way", [pytest.param("killed", marks=pytest.mark.nightly), "hanging"])
def test_an_absence_pauses_a_suite_and_loses_nothing(
    service: MlflowServer, expected: Recorded, tmp_path: Path, way: str
) -> None:
    environment = {"MLFLOW_TRACKING_URI": service.uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
    process = begin("run", suite_in(tmp_path, way), "--workers", "1", folder=tmp_path, **environment)
    wait_for(lambda: finished_runs(service.uri, way) > 0, process)
    ways = {"killed": (service.kill, service.start), "hanging": (service.pause, service.resume)}
    leave, come_back = ways[way]
    leave()
    time.sleep(8 if way == "hanging" else 5)  # of a hanging server the second time-out is told
    come_back()
    out, err = process.communicate(timeout=300)
    assert 0 == process.returncode, err
    assert "4 runs executed" in out
    assert "does not answer: waiting for it; Ctrl-C ends, and the same command resumes later" in err
    assert f"fedbench: tracking server {service.uri} answers again, after" in err
    assert [] == list(violations(recorded(service.uri, way), expected))


@pytest.mark.nightly
def test_while_it_is_away_an_interruption_ends_the_command_and_the_same_one_resumes(
    service: MlflowServer, expected: Recorded, tmp_path: Path
) -> None:
    name = "interrupted"
    suite = suite_in(tmp_path, name)
    process = begin("run", suite, "--workers", "1", folder=tmp_path, MLFLOW_TRACKING_URI=service.uri)
    wait_for(lambda: finished_runs(service.uri, name) > 0, process)
    service.kill()
    time.sleep(4)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    _, err = process.communicate(timeout=60)
    seconds = time.monotonic() - begun
    service.start()
    assert 130 == process.returncode, err
    assert seconds < 10
    assert err.endswith("of 4 runs are finished; the same command resumes\n")
    done = fedbench_here("run", suite, "--workers", "1", "--tracking-uri", service.uri, folder=tmp_path)
    assert 0 == done.code, done.err
    assert [] == list(violations(recorded(service.uri, name), expected))


def test_a_server_that_stays_away_is_given_up_in_one_line_and_the_same_command_resumes(
    service: MlflowServer, expected: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_in(tmp_path, "away")
    here = ("run", suite, "--workers", "1", "--tracking-uri", service.uri)

    def kill_after_a_run() -> None:
        while finished_runs(service.uri, "away") == 0:
            time.sleep(0.02)
        service.kill()

    killer = threading.Thread(target=kill_after_a_run)
    killer.start()
    with monkeypatch.context() as patch:
        patch.setattr(client, "AWAY_SECONDS", 3.0)
        patch.setattr(client, "PAUSE_SECONDS", (0.2, 0.5))
        done = fedbench_here(*here, folder=tmp_path)
    killer.join()
    service.start()
    assert 2 == done.code, done.err
    last = done.err.splitlines()[-1]
    assert f"error: tracking server {service.uri} has not answered for" in last
    assert last.endswith("start it, then the same command resumes")
    done = fedbench_here(*here, folder=tmp_path)
    assert 0 == done.code, done.err
    assert [] == list(violations(recorded(service.uri, "away"), expected))


@contextmanager
def losing(uri: str, share: float) -> Iterator[str]:
    """A proxy to a server; gives its address.

    It loses the first answer to each kind of request that the server has carried out, and of the others such a share.
    """
    host, lock, stream = uri.removeprefix("http://"), threading.Lock(), random.Random(0)  # noqa: S311 - no secret
    kinds = set()

    class Proxy(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with closing(HTTPConnection(host, timeout=60)) as behind:
                behind.request(self.command, self.path, body, dict(self.headers.items()))
                answer = behind.getresponse()
                content = answer.read()
            path = self.path.partition("?")[0]
            kind = self.command, re.sub(r"[0-9a-f]{32}|m-[0-9a-f]+|/[0-9]+/", "*", path)
            with lock:
                is_lost = not path.endswith(OPENING) and (stream.random() < share or kind not in kinds)
                kinds.add(kind)
            self.close_connection = True
            if is_lost:
                return
            self.send_response(answer.status)
            for name in ("Content-Type",):
                self.send_header(name, answer.headers.get(name, "text/plain"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

        def handle(self) -> None:
            with suppress(HTTPException, OSError):
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()


def test_a_request_that_was_carried_out_and_repeated_doubles_nothing(
    service: MlflowServer, expected: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "repeated"
    monkeypatch.setattr(client, "PAUSE_SECONDS", (0.05, 0.1))
    with losing(service.uri, 0.3) as uri:
        done = fedbench_here("run", suite_in(tmp_path, name), "--workers", "1", "--tracking-uri", uri, folder=tmp_path)
        assert 0 == done.code, done.err
        store = open_store(uri)
        (run, *_) = store.search_runs(
            [store.get_experiment_by_name(name).experiment_id], "tags.`fedbench.kind` = 'run'"
        )
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        assert "is version 1" in register_model(store, "once", run.info.run_id, {})
    assert 1 == len(MlflowClient(service.uri).search_model_versions("name = 'once'"))
    found = recorded(service.uri, name)
    assert [] == list(violations(found, expected))
    assert {"run": 4, "cell": 2} == found.kinds


# The database, and S3


@pytest.mark.nightly
def test_a_database_that_starts_again_is_waited_for(postgresql: Server, expected: Recorded, tmp_path: Path) -> None:
    uri, suite = postgresql.create("direct"), suite_in(tmp_path, "direct")
    process = begin("run", suite, "--workers", "1", folder=tmp_path, MLFLOW_TRACKING_URI=uri)
    wait_for(lambda: finished_runs(uri, "direct") > 0, process)
    postgresql.restart(4)
    out, err = process.communicate(timeout=300)
    assert PASSWORD not in out + err
    assert 0 == process.returncode, err
    assert [] == list(violations(recorded(uri, "direct"), expected))


@pytest.mark.parametrize("by", ["database", "server"])
def test_a_database_that_can_only_be_read_is_one_line(
    postgresql: Server, service: MlflowServer, tmp_path: Path, by: str
) -> None:
    suite = suite_in(tmp_path, f"read-only-{by}")
    if by == "database":
        uri = postgresql.read_only("service")
        done = fedbench_here("run", suite, "--workers", "1", "--tracking-uri", uri, folder=tmp_path)
    else:
        uri = service.uri
        anew = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'service'"
        postgresql.execute("ALTER DATABASE service SET default_transaction_read_only = on", anew)
        try:
            done = fedbench_here("run", suite, "--workers", "1", "--tracking-uri", uri, folder=tmp_path)
        finally:
            postgresql.execute("ALTER DATABASE service RESET default_transaction_read_only", anew)
    assert 2 == done.code, done.err
    assert "can only be read" in done.err.splitlines()[-1]
    assert PASSWORD not in done.err


def test_a_wrong_password_is_one_line(postgresql: Server, service: MlflowServer, tmp_path: Path) -> None:
    del service  # which has made the database
    uri = postgresql.url("service", "wr0ng-s3cret-word")
    done = fedbench_here("run", suite_in(tmp_path, "wrong"), "--tracking-uri", uri, folder=tmp_path)
    shown = postgresql.url("service", "***")
    assert (2, 1) == (done.code, len(done.err.splitlines()))
    assert done.err.startswith(f"fedbench: error: tracking store {shown} refuses the user or the password: correct")


@pytest.mark.nightly
def test_real_credentials_are_mlflows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with MLflow's own login: a stranger, a guest who may read, and the administrator."""
    (tmp_path / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/auth.db\n"
        "admin_username = admin\nadmin_password = adm1n-s3cret-word\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "any",
    }
    suite = suite_in(tmp_path, "mine")
    with mlflow_server(tmp_path / "server", options=("--app-name", "basic-auth"), environment=environment) as running:

        def fedbench(user: str, password: str, seeds: str) -> Done:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            options = ("--only", "three", "--seeds", seeds, "--workers", "1", "--tracking-uri", running.uri)
            return fedbench_here("run", suite, *options, folder=tmp_path)

        stranger = fedbench("admin", "wr0ng-s3cret-word", "0")
        assert (2, 1) == (stranger.code, len(stranger.err.splitlines())), stranger.err
        assert "refuses the credentials (it answers 401): set MLFLOW_TRACKING_USERNAME" in stranger.err
        done = fedbench("admin", "adm1n-s3cret-word", "0")
        assert 0 == done.code, done.err
        add_user(running.uri, "guest", "gu3st-s3cret-word")
        guest = fedbench("guest", "gu3st-s3cret-word", "1")
        assert (2, 1) == (guest.code, len(guest.err.splitlines())), guest.err
        assert "does not let this user do so (it answers 403): ask for the permission" in guest.err
        assert "s3cret" not in stranger.err + done.err + done.out + guest.err + running.log


def add_user(uri: str, name: str, password: str) -> None:
    """As the administrator, whom the environment names."""
    from mlflow.server import get_app_client

    get_app_client("basic-auth", tracking_uri=uri).create_user(name, password)  # type: ignore[no-untyped-call]


def test_artifacts_may_be_in_s3_without_passing_through_the_server(expected: Recorded, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    with s3_store() as address, pytest.MonkeyPatch.context() as patch:
        environment = {"MLFLOW_S3_ENDPOINT_URL": address, **keys}
        for name, value in environment.items():
            patch.setenv(name, value)
        options = ("--no-serve-artifacts", "--default-artifact-root", "s3://results/mlflow")
        with mlflow_server(tmp_path / "server", options=options, environment=environment) as running:
            here = ("--tracking-uri", running.uri)
            done = fedbench_here("run", suite_in(tmp_path, "s3"), "--workers", "1", *here, folder=tmp_path)
            assert 0 == done.code, done.err
            assert [] == list(violations(recorded(running.uri, "s3"), expected))
            assert 0 == fedbench_here("report", "s3", "--out", "page", *here, folder=tmp_path).code


@contextmanager
def s3_store() -> Iterator[str]:
    """An S3-compatible store with the bucket ``results``; gives its address."""
    import boto3
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    store.start()
    try:
        host, port = store.get_host_and_port()
        address = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="results")
        yield address
    finally:
        store.stop()
