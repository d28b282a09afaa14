"""Studies in a PostgreSQL database: several commands, one that dies, and a password that nobody sees."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import optuna
import psutil
import pytest
from mlflow import MlflowClient
from needed import needs
from optuna.trial import TrialState
from postgresql import PASSWORD, Server, server, why_no_postgresql
from processes import wait_for
from tiny_study import SUITE, computed, storage_in, tiny_plan

from fedbench.tuning.slots import slots
from fedbench.tuning.storage import open_storage

PACKAGE = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    needs(why_no_postgresql()),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Optuna leaves its connections to the garbage collector
]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with server() as running:
        yield running
        gc.collect()  # closes what Optuna has left open


def start(*arguments: str, folder: Path, suite: str = SUITE) -> subprocess.Popen[str]:
    """Begin `fedbench tune` in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(suite)
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, "-m", "fedbench", "tune", "tiny.yaml", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(PACKAGE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def trial_runs(tracking_uri: str) -> list[str]:
    """The numbers of the trials in MLflow."""
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("tiny.tuning")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`fedbench.kind` = 'trial'")
    return sorted(run.data.tags["fedbench.trial"] for run in runs)


def study_in(url: str) -> optuna.Study:
    storage = open_storage(url)
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def test_a_study_has_the_same_trials_as_in_sqlite(postgresql: Server, tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, trials=14)
    sqlite, here = (computed(plan, url) for url in (storage_in(tmp_path), postgresql.create("same")))
    untimed = [[replace(trial, seconds=0.0, ended=0.0) for trial in trials] for trials in (sqlite, here)]
    assert untimed[0] == untimed[1]


def test_the_tables_are_made_once_however_many_begin(postgresql: Server) -> None:
    for attempt in range(5):
        url, together = postgresql.create(f"tables_{attempt}"), Barrier(6)

        def opened(_: int, url: str = url, together: Barrier = together) -> str:
            together.wait()
            return open_storage(url).get_current_version()

        with ThreadPoolExecutor(6) as pool:
            assert 1 == len(set(pool.map(opened, range(6))))


@pytest.mark.nightly
def test_two_commands_share_the_trials_and_give_one_answer(postgresql: Server, tmp_path: Path) -> None:
    url, tracking = postgresql.create("shared"), f"sqlite:///{tmp_path}/mlflow.db"
    options = ("--storage", url, "--tracking-uri", tracking, "--trials", "6", "--json")
    processes = [start(*options, folder=tmp_path / name) for name in ("a", "b")]
    ended = [process.communicate(timeout=300) for process in processes]
    assert [0, 0] == [process.returncode for process in processes], ended
    first, second = (json.loads(out) for out, _ in ended)
    assert (6, first["best"], first["gain"]) == (second["trials"], second["best"], second["gain"])
    found = slots(study_in(url).trials)
    assert (6, 6) == (len(found), sum(slot.ended is not None for slot in found))
    assert 6 == len({str(slot.trials[0].params) for slot in found})
    assert [*"012345"] == trial_runs(tracking)


@pytest.mark.nightly
def test_a_killed_worker_costs_its_trial_only_and_the_password_is_nowhere(postgresql: Server, tmp_path: Path) -> None:
    url = postgresql.create("killed")
    suite = SUITE.replace("examples_per_client: 20, rounds: 3", "examples_per_client: 100, rounds: 4")
    options = ("--storage", url, "--workers", "2", "--trials", "3")
    process = start(*options, "--json", folder=tmp_path / "a", suite=suite)
    wait_for_second_trial(url)
    wait_for(lambda: len(workers_of(process)) == 2)
    psutil.Process(workers_of(process)[0]).kill()
    out, err = process.communicate(timeout=300)
    assert 0 == process.returncode, err
    assert 3 == json.loads(out)["trials"]
    assert 3 == len(slots(study_in(url).trials))
    assert [*"012"] == trial_runs(f"sqlite:///{tmp_path}/a/mlruns/mlflow.db")
    people = start(*options, folder=tmp_path / "a", suite=suite).communicate(timeout=300)
    assert "3 trials: " in people[0]
    assert PASSWORD not in out + err + "".join(people)
    assert_no_password_in(tmp_path / "a")


def wait_for_second_trial(url: str) -> None:
    storage = open_storage(url)  # once: each has connections of its own
    for _ in range(600):
        time.sleep(0.1)
        for name in optuna.get_all_study_names(storage):
            running = optuna.load_study(study_name=name, storage=storage).get_trials(states=(TrialState.RUNNING,))
            if any(trial.number > 0 and trial.params for trial in running):
                return
    pytest.fail("no trial was begun")


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = psutil.Process(process.pid).children()
    servers = [child for child in children if "forkserver" in " ".join(child.cmdline())]
    return [worker.pid for server in servers for worker in server.children()]


def assert_no_password_in(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert [] == [path for path in files if PASSWORD.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "way", ["password", *(pytest.param(way, marks=pytest.mark.nightly) for way in ("query", "database", "later"))]
)
def test_what_fails_is_one_line_without_the_password(postgresql: Server, tmp_path: Path, way: str) -> None:
    urls = {
        "password": postgresql.url("postgres", "wr0ng-s3cret-word"),
        "query": f"postgresql://127.0.0.1:{postgresql.port}/none?user=me&password={PASSWORD}",
        "database": postgresql.url("none"),
        "later": postgresql.create("later") if way == "later" else "",
    }
    process = start("--storage", urls[way], "--trials", "500", folder=tmp_path / "a")
    if way == "later":
        wait_for_second_trial(urls[way])
        postgresql.execute(
            "ALTER DATABASE later ALLOW_CONNECTIONS false",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'later'",
        )
    out, err = process.communicate(timeout=300)
    assert (2, "", 1) == (process.returncode, out, len(err.splitlines())), err
    assert PASSWORD not in err
    assert "failed" in err
    assert_no_password_in(tmp_path / "a")
