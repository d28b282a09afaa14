"""What a run needs of a node, and the errors of a cluster that cannot be used."""

from __future__ import annotations

import pickle
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from jobs import WORK, make_jobs
from needed import needs as needing
from ray_nodes import why_no_ray

from fedbench import executors
from fedbench.executors import cluster_executor
from fedbench.executors.needs import GIB, Needs
from fedbench.runs.computing import GRADIENTS, PYTORCH
from fedbench.util.environment import KERNELS
from fedbench.util.errors import ClusterError

with_ray = needing(why_no_ray())


def test_a_run_takes_one_core_and_one_gib_and_a_gpu_only_where_it_uses_one() -> None:
    assert Needs("cpu", 1, 0, GIB) == Needs.of("cpu", None, None, None) == Needs.of("auto", None, None, None)
    assert Needs("cuda", 1, 1, GIB) == Needs.of("cuda", None, None, None)
    assert Needs("cuda", 4, 0.25, GIB // 2) == Needs.of("auto", 4, 0.25, 0.5)


@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [
        ("cpu", 1.0, "--device cpu and --gpus-per-run 1 do not go together"),
        ("cuda", 0.0, "--device cuda and --gpus-per-run 0 do not go together"),
        ("cuda", 2.0, "a run uses at most one GPU"),
        ("mps", None, "--device mps: the nodes of a cluster have cpu and cuda"),
        ("tpu", None, "--device tpu: "),
    ],
)
def test_options_that_contradict_each_other_are_refused(device: str, gpus: float | None, words: str) -> None:
    with pytest.raises(ClusterError, match=words):
        Needs.of(device, None, gpus, None)


def test_what_is_scarcest_on_a_node_says_how_many_runs_it_has_room_for() -> None:
    node = {"CPU": 16.0, "memory": 8.5 * GIB, "GPU": 1.0, "node:10.0.0.7": 1.0}
    assert [8, 4, 3] == [Needs.of(*each).fitting(node) for each in (
        ("cpu", 1, None, 1), ("cpu", 4, None, 1), ("cuda", 1, 0.3, 1)
    )]  # fmt: skip
    assert 0 == Needs.of("cuda", None, None, None).fitting({"CPU": 16.0, "memory": 64.0 * GIB})


def test_without_ray_one_line_says_how_to_come_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "find_spec", lambda _: None)
    with pytest.raises(ClusterError, match=r'needs Ray: pip install "fedbench-mlflow\[ray\]"'):
        cluster_executor(None, Needs())


@with_ray
@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:port", ":6379", ""])
def test_what_is_no_address_is_refused_before_a_run_is_begun(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "also nonsense")
    with pytest.raises(ClusterError, match="not the address of a Ray cluster: give HOST:PORT"):
        list(cluster_executor(address, Needs())(iter(()), WORK))


@with_ray
def test_an_address_where_nobody_answers_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClusterError, match=rf"no Ray cluster answers at 127.0.0.1:{port} .*: start it"):
        list(cluster_executor(f"127.0.0.1:{port}", Needs())(iter(()), WORK))


@with_ray
def test_a_server_that_is_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedbench.executors import ray_connection

    monkeypatch.setattr(ray_connection, "ANSWER_SECONDS", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"what answers at {address} is not a Ray cluster"):
            list(cluster_executor(address, Needs())(iter(()), WORK))


@with_ray
def test_this_machine_alone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedbench.executors import ray_connection

    monkeypatch.setattr(ray_connection.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2}}])
    monkeypatch.setattr(ray_connection, "LOOK_SECONDS", 0)
    monkeypatch.setattr(ray_connection, "OWN_ROOM_SECONDS", 0)
    room = ray_connection.Room(Needs(cpus=4), is_own=True)
    with pytest.raises(ClusterError, match=r"no node of the cluster has room for a run \(4 CPU, 1 GiB\)"):
        assert [0, 0] == [room.jobs(), room.jobs()]


def test_only_a_machine_that_shares_the_folder_keeps_checkpoints(tmp_path: Path) -> None:
    (job,) = make_jobs(1, tmp_path / "kept")
    assert job.checkpoint is not None
    with WORK.portable() as portable:
        name, compute = portable(job)
        elsewhere = pickle.loads(pickle.dumps(replace(compute, probe=tmp_path / "absent")))  # type: ignore[type-var]  # noqa: S301
        assert 3 == len(list(elsewhere(job, lambda: 1)))
        assert not job.checkpoint.exists()
        assert 3 == len(list(compute(job, lambda: 1)))
        assert job.checkpoint.exists()
    assert f"{WORK.data.dataset(job.run.spec).digest} standardised" == name  # what is sent once
    assert [job.checkpoint] == list((tmp_path / "kept").iterdir())


@with_ray
def test_a_node_with_other_packages_refuses_and_names_what_differs() -> None:
    from fedbench.executors import ray_task

    other = dict(ray_task.software()) | {"numpy": "1.0"}
    with pytest.raises(ray_task.UnlikeNodeError, match=r"node .* has numpy 2\S* instead of 1.0$"):
        list(ray_task.compute(ray_task.Order(None, [], "", 1, other)))


@pytest.mark.parametrize(("computed_with", "asked"), [(KERNELS, False), (GRADIENTS, True), (PYTORCH, True), ("", True)])
def test_a_node_may_have_another_processor_if_the_kernels_alone_compute(computed_with: str, asked: bool) -> None:
    (job,) = make_jobs(1)
    assert asked == WORK.depends_on_processor(replace(job, computed_with=computed_with))
