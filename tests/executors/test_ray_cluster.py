"""Runs on a real Ray cluster of two nodes have the bits of this process, whatever dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import WORK, assert_equal_ends, ends, make_jobs, make_runs, untimed
from needed import needs as needing
from ray_nodes import Nodes, computing, ray_nodes, why_no_ray
from tiny_store import write_suite

from fedbench.executors import in_process
from fedbench.executors.needs import GIB, Needs
from fedbench.measures import Verdict
from fedbench.runs.computing import PYTORCH, computed_with
from fedbench.runs.data import DataSource
from fedbench.runs.events import Event, Job, RoundDone, RunDone
from fedbench.runs.suite_run import run_suite
from fedbench.runs.work import RunWork
from fedbench.tracking.memory import MemoryTracker
from fedbench.util.errors import ClusterError

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, needing(why_no_ray())]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with ray_nodes(2) as nodes:
        yield nodes


@pytest.fixture
def execute(cluster: Nodes) -> Any:
    from fedbench.executors import ray_cluster

    return partial(ray_cluster.execute, address=cluster.address, needs=Needs(), num_workers=None)


def test_a_cluster_gives_the_bits_of_this_process(execute: Any) -> None:
    jobs = make_jobs(5, init="independent", batch_size=7)
    events = list(execute(jobs, WORK))
    expected, there = ends(in_process.execute(jobs, WORK)), ends(events)
    assert set(expected) == set(there)
    for seed, done in expected.items():
        assert_equal_ends(done, there[seed])
        rounds = [event for event in events if event.run.seed == seed]
        assert [RoundDone, RoundDone, RunDone] == [type(event) for event in rounds]


OWN = """
name: own
question: Do the nodes get the files?
seeds: [0, 1]
scenarios: [{name: a, dataset: ./d.npz, model: './own.py:net', partition: './own.py:deal', examples_per_client: 20,
    rounds: 1, local_epochs: 1}]
"""
PARTS = """
from torch import nn
def net(): return nn.Linear(2, 2)
def deal(table, k, n, rng): return rng.permutation(k * n).reshape(k, n)
"""


def test_nodes_get_the_users_files_with_the_runs(execute: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(PARTS)
    x, y = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32), np.arange(60) % 2
    np.savez(tmp_path / "d.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    jobs = [Job(run) for run in write_suite(tmp_path, OWN).runs]
    expected = ends(in_process.execute(jobs, WORK))
    for name in ("own.py", "d.npz"):
        (tmp_path / name).unlink()
    there = ends(execute(jobs, WORK))
    for seed, done in expected.items():
        assert_equal_ends(done, there[seed])


def test_a_job_is_asked_for_only_when_it_can_soon_be_computed(execute: Any) -> None:
    """Two nodes have room for one run each, and two runs are handed out ahead."""
    asked, ended = 0, 0

    def jobs() -> Iterator[Job]:
        nonlocal asked
        for job in make_jobs(8):
            asked += 1
            yield job

    for event in execute(jobs(), WORK):
        assert asked <= ended + 4
        ended += isinstance(event, RunDone)
    assert (8, 8) == (asked, ended)
    asked, ended = 0, 0
    for event in execute(jobs(), WORK, num_workers=1):
        assert asked <= ended + 1
        ended += isinstance(event, RunDone)
    assert (8, 8) == (asked, ended)


def killing(kill: Callable[[], object], execute: Any, emitted: list[Event]) -> Any:
    """An executor that does so once two runs have ended their second round."""

    def executor(jobs: Any, work: RunWork) -> Iterator[Event]:
        second = set()
        for event in execute(jobs, work):
            emitted.append(event)
            yield event
            if isinstance(event, RoundDone) and event.round == 2 and len(second) < 2:
                second.add(event.run.seed)
                if len(second) == 2:
                    kill()

    return executor


@pytest.mark.parametrize(
    ("what", "kept"),
    [pytest.param("worker", False, marks=pytest.mark.nightly), ("node", True)],
    ids=["worker", "node, checkpoints"],
)
def test_a_run_whose_worker_or_node_is_killed_ends_with_the_same_bits_in_the_same_record(
    execute: Any, cluster: Nodes, tmp_path: Path, what: str, kept: bool
) -> None:
    def kill_node_and_add_another() -> None:
        cluster.kill_node()
        cluster.add_node()

    tracker = MemoryTracker(checkpoints=tmp_path / "kept" if kept else None)
    runs = make_runs(3, rounds=75)
    expected = ends(list(in_process.execute([Job(run) for run in runs], WORK)))
    emitted: list[Event] = []
    kill = cluster.kill_worker if what == "worker" else kill_node_and_add_another
    outcomes = list(run_suite(runs, DataSource(), tracker, killing(kill, execute, emitted)))
    assert {seed: done.result for seed, done in expected.items()} == {each.run.seed: each.result for each in outcomes}
    assert [75, 75, 75] == [len(run.rounds) for run in tracker.runs]
    for tracked in tracker.runs:
        final = expected[tracked.run.seed].final
        assert final is not None
        assert list(map(untimed, final.history)) == list(map(untimed, tracked.rounds))
    rounds = [event for event in emitted if isinstance(event, RoundDone)]
    times_emitted = Counter((event.run.seed, event.round) for event in rounds)
    assert 2 == max(times_emitted.values())  # those before its death, once more
    again = next(run for (run, _), times in times_emitted.items() if times == 2)
    first = [event.metrics for event in rounds if event.run.seed == again and event.round == 1]
    assert kept == (first[0] == first[1])  # from the checkpoint even the times are those of before
    assert [] == list(tmp_path.glob("kept/*")) + list(tmp_path.glob("kept/.*"))


def test_a_run_whose_worker_dies_each_time_has_failed_and_the_others_finish(execute: Any, cluster: Nodes) -> None:
    long, short = make_jobs(1, rounds=5000)[0], make_jobs(2)[1]  # too long to end before it is killed
    done, lives = {}, False
    for event in execute([long, short], WORK):
        if isinstance(event, RunDone):
            done[event.run.seed] = event.result
        elif event.run.seed == 0:
            lives = lives or event.round == 1
            if lives and 1 in done:  # so that it is the other's worker
                assert cluster.kill_worker()
                lives = False
    assert [True, False] == [done[seed].verdict is Verdict.FAILED for seed in (0, 1)]
    assert "its worker process died 2 times" in str(done[0].reason)


def test_a_node_with_other_packages_ends_the_suite_in_one_line(execute: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedbench.executors import ray_cluster

    other = dict(ray_cluster.software()) | {"torch": "1.0"}
    monkeypatch.setattr(ray_cluster, "software", lambda: other)
    with pytest.raises(ClusterError, match=r"^node \S+ has torch 2\.\S+ instead of 1\.0: .* install the same on every"):
        list(execute(make_jobs(2), WORK))


def test_a_node_with_another_processor_computes_what_the_kernels_compute(
    execute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedbench.executors import ray_cluster

    other = dict(ray_cluster.software()) | {"processor": "VAX"}
    monkeypatch.setattr(ray_cluster, "software", lambda: other)
    (job,) = make_jobs(1)
    assert {0} == ends(execute([replace(job, computed_with=computed_with(job.run.spec, "cpu"))], WORK)).keys()
    with pytest.raises(ClusterError, match=r"^node \S+ has processor \S+ instead of VAX: bits may differ"):
        list(execute([replace(job, computed_with=PYTORCH)], WORK))


def test_a_run_that_no_node_has_room_for_is_waited_for_and_then_one_line(
    execute: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fedbench.executors import ray_connection

    monkeypatch.setattr(ray_connection, "ROOM_SECONDS", 3.0)
    with pytest.raises(ClusterError, match=r"no node of the cluster has room for a run \(64 CPU, 1 GiB\): add one"):
        list(execute(make_jobs(1), WORK, needs=Needs("cpu", 64, 0, GIB)))
    assert "no node of the cluster has room for a run (64 CPU, 1 GiB): waiting" in caplog.text


def test_a_consumer_that_stops_ends_the_tasks_and_removes_its_probe(execute: Any, tmp_path: Path) -> None:
    events = execute(make_jobs(2, tmp_path, rounds=5000), WORK)
    next(events)
    assert 1 == len(list(tmp_path.glob(".shared-*")))
    assert computing()
    events.close()
    assert [] == list(tmp_path.glob(".shared-*"))
    deadline = time.monotonic() + 10  # Ray ends them in its own time
    while computing() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [] == computing()


OWN_RAY = """
import os, subprocess, sys
import psutil
from jobs import WORK, make_jobs
from fedbench.executors import cluster_executor
from fedbench.executors.needs import Needs

events = cluster_executor(None, Needs(), 1)(make_jobs(1), WORK)
next(events)
processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
ports = [each.laddr for one in processes for each in one.net_connections("inet") if each.status == "LISTEN"]
print({port.ip.removeprefix("::ffff:") for port in ports})

import ray

question = f"import ray; ray.init('{ray.get_runtime_context().gcs_address}', logging_level='ERROR')"
stranger = os.environ | {"RAY_AUTH_TOKEN": "0" * 64}
done = subprocess.run([sys.executable, "-c", question], env=stranger, capture_output=True, text=True)
print(done.stderr.splitlines()[-1])
list(events)
"""


def own_ray(**variables: str) -> subprocess.CompletedProcess[str]:
    """Compute on a Ray of this machine, in a process of its own, since Ray reads variables when it is imported."""
    folders = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "tests/helpers"))
    environment = os.environ | {"PYTHONPATH": folders, "HOME": "/proc/none"} | variables
    return subprocess.run(
        [sys.executable, "-c", OWN_RAY], env=environment, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.nightly
def test_a_ray_of_ones_own_listens_on_loopback_asks_for_a_token_and_needs_no_home() -> None:
    done = own_ray()
    hosts, stranger = done.stdout.splitlines()
    assert "{'127.0.0.1'}" == hosts
    assert stranger.startswith("ConnectionError: Failed to connect to Ray cluster at 127.0.0.1:")
    assert "" == done.stderr


@pytest.mark.nightly
def test_a_ray_of_ones_own_that_is_open_says_so() -> None:
    done = own_ray(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1")
    assert "fedbench: Ray's ports on this machine are open to its network: close them by a firewall\n" == done.stderr


@pytest.mark.nightly
def test_a_long_tmpdir_is_one_line_that_says_what_to_set(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    last = own_ray(TMPDIR=str(folder)).stderr.splitlines()[-1]
    assert "ClusterError: Ray on this machine cannot be used (" in last
    assert last.endswith(": correct that, or set RAY_TMPDIR to a folder with a short path and room")
