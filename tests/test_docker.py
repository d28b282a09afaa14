"""docker/: what the files say, and every script run as a container would run it, without Docker.

Real here: PostgreSQL, MLflow, Ray and fedbench. In place of VersityGW, whose program comes in its image alone, stands
moto's S3 server. The nodes have loopback addresses of their own, as containers have addresses of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml
from needed import needs
from postgresql import PASSWORD, USER, Server, server, why_no_postgresql
from ray_nodes import why_no_ray

import fedbench

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENTRY_POINT = (DOCKER / "entrypoint.sh").read_text()
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
IN_THE_IMAGE = "/opt/fedbench/"
BY_SERVICE = pytest.mark.parametrize("name", SERVICES)

# What the files say


@BY_SERVICE
def test_every_published_port_is_on_the_loopback_address(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@BY_SERVICE
def test_every_service_is_kept_from_what_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert (True, ["ALL"]) == (service["read_only"], service["cap_drop"])
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "devices"}
    assert "mem_limit" in service


@BY_SERVICE
def test_every_service_says_whether_it_works(name: str) -> None:
    expected = name == "fedbench"  # a command, which ends
    assert expected == ("test" not in SERVICES[name]["healthcheck"])


@BY_SERVICE
def test_no_secret_is_in_the_environment(name: str) -> None:
    secret = re.compile("PASSWORD|SECRET|KEY|TOKEN")
    names = {key for key in SERVICES[name].get("environment", {}) if secret.search(key)}
    assert all(key.endswith("_FILE") for key in names)


@BY_SERVICE
def test_the_scripts_that_a_service_names_are_there(name: str) -> None:
    service = SERVICES[name]
    words = [*service.get("entrypoint", []), *service["healthcheck"].get("test", [])]
    scripts = [word.removeprefix(IN_THE_IMAGE) for word in words if word.startswith(IN_THE_IMAGE)]
    if service["image"].startswith("fedbench:"):
        role = [*service.get("entrypoint", [])[1:], *service["command"]][0]
        assert f" {role} " in next(line for line in ENTRY_POINT.splitlines() if " | " in line).replace(")", " ")
        scripts.append(f"{role}.sh")
    scripts += [each.split(":")[0] for each in service.get("volumes", []) if each.startswith("./")]
    assert name == "postgres" or scripts
    assert [] == [script for script in scripts if not os.access(DOCKER / script, os.X_OK)]


@BY_SERVICE
def test_every_service_waits_for_what_it_needs_and_uses_what_is_declared(name: str) -> None:
    service = SERVICES[name]
    assert service.get("depends_on", {}).keys() <= SERVICES.keys()
    assert all({"condition": "service_healthy"} == how for how in service.get("depends_on", {}).values())
    for kind in ("networks", "secrets"):
        assert set(service.get(kind, [])) <= COMPOSE[kind].keys()
    volumes = {each.split(":")[0] for each in service.get("volumes", []) if each[0] not in "./$"}
    assert volumes <= COMPOSE["volumes"].keys()


def test_nothing_but_mlflow_reaches_the_database_and_the_store() -> None:
    assert COMPOSE["networks"]["storage"]["internal"]
    on = {kind: {name for name in SERVICES if kind in SERVICES[name]["networks"]} for kind in COMPOSE["networks"]}
    assert {"postgres", "store", "mlflow"} == on["storage"]
    assert {"mlflow", "ray-head", "ray-worker", "fedbench"} == on["cluster"]


def test_the_example_of_settings_has_each_with_its_default() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (DOCKER / "compose.yaml").read_text()))
    lines = (DOCKER / ".env.example").read_text().splitlines()
    assert used == dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_git_ignores_secrets_and_settings() -> None:
    files = [DOCKER / each["file"] for each in COMPOSE["secrets"].values()] + [DOCKER / ".env"]
    git = ["git", "-C", str(ROOT)]
    done = subprocess.run([*git, "check-ignore", *files], capture_output=True, text=True, check=False)
    assert len(files) == len(done.stdout.splitlines())
    tracked = subprocess.run([*git, "ls-files", "docker"], capture_output=True, text=True, check=True).stdout.split()
    assert set() == set(tracked) & {str(path.relative_to(ROOT)) for path in files}


def test_the_build_sees_no_secret_and_no_data() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert "*" == patterns[0]
    seen = {line[1:] for line in patterns if line.startswith("!")}
    assert seen == set(copied())


def copied() -> list[str]:
    """What the Dockerfile takes from the repository."""
    lines = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.*) \S+$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()]


def test_every_image_has_a_whole_version() -> None:
    others = {service["image"] for service in SERVICES.values() if "build" not in service}
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert 1 == len(set(bases)), "Ray needs the same Python on every node"
    assert all(re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)*$", image) for image in {*others, *bases})


def test_the_images_versions_are_those_that_were_tested() -> None:
    python = re.search(r"python:(\d+\.\d+)\.", DOCKERFILE)
    assert python
    assert f"on Python {python[1]}." in (ROOT / "constraints.txt").read_text()
    assert f'version="{fedbench.__version__}"' in DOCKERFILE
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    large = re.search(r"pip install torch (.*)", DOCKERFILE)
    assert large
    assert {re.sub(r'"|\[.*\]', "", name) for name in large[1].split()} <= pinned
    extras = re.search(r"\.whl\)\[([\w,]+)\]", DOCKERFILE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras
    assert set(extras[1].split(",")) <= project["optional-dependencies"].keys()


def test_the_image_runs_as_an_ordinary_user() -> None:
    assert [*re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)] == ["10001:10001"]


@pytest.mark.slow
@pytest.mark.nightly
def test_what_the_image_is_built_from_makes_the_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).is_file() and "/" not in name:
            shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    assert 1 == len(list(tmp_path.glob(f"fedbench_mlflow-{fedbench.__version__}-py3-none-*.whl")))


# The scripts


def ended(script: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """A script's exit code and standard error."""
    words = [str(DOCKER / script), *arguments]
    done = subprocess.run(words, env=environ(environment), capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stderr


def environ(more: Mapping[str, str]) -> dict[str, str]:
    """This Python's programs first, as in the image, and no settings of whoever runs the tests."""
    hidden = ("MLFLOW_", "RAY_", "AWS_", "PG", "FEDBENCH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


def secrets_in(folder: Path) -> Path:
    subprocess.run([DOCKER / "make-secrets.sh", folder / "secrets"], check=True, capture_output=True)
    return folder / "secrets"


def test_secrets_are_random_made_once_and_closed_to_others(tmp_path: Path) -> None:
    first, second = (secrets_in(tmp_path / name) for name in "ab")
    names = {Path(each["file"]).name for each in COMPOSE["secrets"].values()}
    assert names == {path.name for path in first.iterdir()}
    values = [path.read_text() for folder in (first, second) for path in folder.iterdir()]
    assert 2 * len(names) == len(set(values))
    assert all(re.fullmatch("[0-9a-f]{40}", value) for value in values)
    assert 0o700 == stat.S_IMODE(first.stat().st_mode)
    before = {path: path.read_text() for path in first.iterdir()}
    (first / "s3-access-key").unlink()
    secrets_in(tmp_path / "a")
    assert len(names) - 1 == sum(path.read_text() == value for path, value in before.items())


@pytest.mark.parametrize(("content", "reason"), [(None, "is missing"), ("\n", "is empty")])
@pytest.mark.parametrize("script", ["mlflow.sh", "store.sh"])
def test_a_secret_that_is_not_there_is_one_line(tmp_path: Path, script: str, content: str | None, reason: str) -> None:
    folder = secrets_in(tmp_path)
    (folder / "s3-secret-key").unlink()
    if content is not None:
        (folder / "s3-secret-key").write_text(content)
    code, error = ended(script, SECRETS_DIR=str(folder))
    assert (2, 1) == (code, error.count("\n"))
    assert f"error: the secret {folder}/s3-secret-key {reason}" in error


@pytest.mark.parametrize(
    ("script", "arguments", "environment", "message"),
    [
        ("entrypoint.sh", (), {}, "'' is no role of this image: use fedbench, mlflow, ray-head or ray-worker"),
        ("entrypoint.sh", ("bash", "-i"), {}, "'bash' is no role of this image"),
        ("healthcheck.sh", ("bash",), {}, "'bash' has no health check"),
        ("ray-worker.sh", (), {}, "RAY_ADDRESS is not set: give HOST:PORT of the head"),
        (
            "ray-worker.sh",
            (),
            {"RAY_ADDRESS": "a:1", "WORKER_CPUS": "1; ls"},
            "WORKER_CPUS is '1; ls': give the number",
        ),
    ],
)
def test_wrong_input_is_one_line(
    script: str, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    code, error = ended(script, *arguments, **environment)
    assert (2, 1) == (code, error.count("\n"))
    assert f"error: {message}" in error


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    settings = {"RAY_ADDRESS": f"127.0.0.1:{free_port()}", "SECRETS_DIR": str(secrets_in(tmp_path))}
    code, error = ended("entrypoint.sh", "fedbench", "run", "quickstart", "--executor=ray", **settings)
    assert (2, 1) == (code, error.count("\n")), error
    assert f"error: no Ray cluster answers at {settings['RAY_ADDRESS']}: check that ray-head is running" in error


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Containers:
    """What runs in place of containers. A mark in their environments tells their processes, wherever they went."""

    folder: Path
    environment: dict[str, str]
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *words: str, **environment: str) -> None:
        """Start a script, as Compose would in a container."""
        name = words[-1]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [DOCKER / words[0], *words[1:]], cwd=self.folder, env=self._with(environment), stdout=log, stderr=log
            )

    def _with(self, more: Mapping[str, str]) -> dict[str, str]:
        return environ(self.environment | {"CONTAINERS": self.mark} | more)

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        words = [DOCKER / script, *arguments]
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self._with(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def wait_until_healthy(self, role: str) -> None:
        deadline = time.monotonic() + 120
        while self.run("healthcheck.sh", role).returncode:
            assert self.processes[role].poll() is None, self.log(role)
            assert time.monotonic() < deadline, self.log(role)
            time.sleep(0.2)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def own(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("CONTAINERS") == self.mark:
                    found.append(process)
        return found

    def end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            mine = self.own()
            for process in mine:
                with suppress(psutil.Error):
                    process.send_signal(number)
            psutil.wait_procs(mine, timeout=2)
        for process in self.processes.values():
            process.wait()


@contextmanager
def containers(folder: Path, **environment: str) -> Iterator[Containers]:
    running = Containers(folder, environment)
    try:
        yield running
    finally:
        running.end()


HEAD, WORKER, COMMAND = "127.0.0.2", "127.0.0.3", "127.0.0.4"

# In place of VersityGW: it takes the same arguments and environment.
VERSITYGW = """#!/usr/bin/env bash
set -euo pipefail
echo "$* access=$ROOT_ACCESS_KEY_ID secret=$ROOT_SECRET_ACCESS_KEY health=$VGW_HEALTH"
[ "$1" = --port ] && [ "$3" = posix ]
exec moto_server -H "${2%:*}" -p "${2#*:}"
"""

TINY = """
name: tiny
question: Does it work?
seeds: [0, 1]
defaults: {dataset: mnist-5k, model: simple-cnn, batch_size: 50, learning_rate: 0.05, rounds: 1}
scenarios: [{name: pair, num_clients: 2, examples_per_client: 50}]
"""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(scope="module")
def stack(postgresql: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """All services, each started by its script, until its health check passes."""
    folder = tmp_path_factory.mktemp("containers")
    secrets = secrets_in(folder)
    (secrets / "postgres-password").write_text(PASSWORD)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "versitygw").write_text(VERSITYGW)
    (programs / "versitygw").chmod(0o755)
    (folder / "tiny.yaml").write_text(TINY)
    postgresql.create("mlflow")
    store, mlflow, head = free_port(), free_port(), free_port()
    settings = {
        "SECRETS_DIR": str(secrets),
        "STORE_LISTEN": f"127.0.0.1:{store}",
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{store}",
        "MLFLOW_DATABASE": f"postgresql+psycopg://{USER}@127.0.0.1:{postgresql.port}/mlflow",
        "MLFLOW_LISTEN": "127.0.0.1",
        "MLFLOW_PORT": str(mlflow),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
        "NODE_ADDRESS": HEAD,
        "RAY_PORT": str(head),
        "RAY_ADDRESS": f"{HEAD}:{head}",
        "RAY_OBJECT_STORE_BYTES": "100000000",
        "WORKER_CPUS": "1",
        "FEDBENCH_CHECKPOINT_DIR": str(folder / "checkpoints"),
    }
    with containers(folder, **settings) as running:
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        running.start("store.sh", PATH=path)
        running.start("entrypoint.sh", "ray-head")
        running.start("entrypoint.sh", "mlflow")
        running.wait_until_healthy("ray-head")
        running.start("entrypoint.sh", "ray-worker", NODE_ADDRESS=WORKER)
        running.wait_until_healthy("ray-worker")
        running.wait_until_healthy("mlflow")
        yield running


@pytest.mark.slow
@needs(why_no_postgresql())
@needs(why_no_ray())
class TestStack:
    """The services together; see `stack`."""

    def test_a_suite_is_computed_by_the_cluster_and_kept_by_the_servers(self, stack: Containers) -> None:
        import boto3

        command = ("fedbench", "run", "tiny.yaml", "--executor", "ray", "--json")
        done = stack.run("entrypoint.sh", *command, NODE_ADDRESS=COMMAND)
        assert 0 == done.returncode, done.stderr
        results = json.loads(done.stdout)
        assert (2, 0) == (results["executed"], results["failed"])
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=stack.environment["MLFLOW_S3_ENDPOINT_URL"], **keys)
        assert client.list_objects_v2(Bucket="mlflow")["KeyCount"] > 0

    def test_the_cluster_answers_those_who_have_its_token_only(self, stack: Containers, tmp_path: Path) -> None:
        assert 0 == stack.run("healthcheck.sh", "ray-head").returncode
        other = stack.run("healthcheck.sh", "ray-head", SECRETS_DIR=str(secrets_in(tmp_path)))
        assert 1 == other.returncode
        assert "Authentication" in other.stderr

    def test_mlflow_answers_by_the_names_that_it_goes_by_only(self, stack: Containers) -> None:
        address = f"{stack.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search"
        names = {"mlflow:5000": 200, "localhost:5000": 200, "127.0.0.1:1234": 200, "evil.example": 403}
        for name, expected in names.items():
            asked = requests.post(address, json={"max_results": 1}, headers={"Host": name}, timeout=30)
            assert (name, expected) == (name, asked.status_code)

    def test_the_store_gets_its_keys_and_its_folder(self, stack: Containers) -> None:
        access, secret = ((stack.folder / "secrets" / name).read_text() for name in ("s3-access-key", "s3-secret-key"))
        listen = stack.environment["STORE_LISTEN"]
        expected = f"--port {listen} posix /data access={access} secret={secret} health=/_health"
        assert expected == stack.log("store.sh").splitlines()[0]

    def test_no_secret_is_in_a_command_line_or_a_log(self, stack: Containers) -> None:
        secrets = [path.read_text() for path in (stack.folder / "secrets").iterdir()]
        lines = [" ".join(process.cmdline()) for process in stack.own() if process.is_running()]
        assert any("mlflow" in line for line in lines)
        logs = [stack.log(name) for name in ("mlflow", "ray-head", "ray-worker")]
        assert [] == [secret for secret in secrets if any(secret in text for text in lines + logs)]

    def test_mlflow_starts_again_on_what_it_had(self, stack: Containers) -> None:
        address = f"{stack.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search"
        before = requests.post(address, json={"max_results": 10}, timeout=30).json()
        process = stack.processes["mlflow"]
        process.terminate()
        process.wait(30)
        assert 1 == stack.run("healthcheck.sh", "mlflow").returncode
        stack.start("entrypoint.sh", "mlflow")
        stack.wait_until_healthy("mlflow")
        assert before == requests.post(address, json={"max_results": 10}, timeout=30).json()

    def test_a_wrong_password_and_a_store_that_is_away_are_one_line(self, stack: Containers, tmp_path: Path) -> None:
        wrong = secrets_in(tmp_path)
        code, error = ended("mlflow.sh", **stack.environment | {"SECRETS_DIR": str(wrong)})
        assert (1, 1) == (code, error.count("\n")), error
        assert 'password authentication failed for user "me"): check it and its password' in error
        assert (wrong / "postgres-password").read_text() not in error
        away = f"http://127.0.0.1:{free_port()}"
        code, error = ended("mlflow.sh", **stack.environment | {"MLFLOW_S3_ENDPOINT_URL": away})
        assert (1, 1) == (code, error.count("\n")), error
        assert f"error: the bucket mlflow at {away} cannot be used" in error
