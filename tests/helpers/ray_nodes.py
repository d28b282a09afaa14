"""A Ray cluster of several nodes on this machine, by Ray's own cluster utility; its workers and nodes can be killed.

with ray_nodes(2) as cluster:
    execute(jobs, data, cluster.address, Needs(), None)
    cluster.kill_worker()
    cluster.kill_node()
    cluster.add_node()
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil


def why_no_ray() -> str | None:
    """What is missing; None if nothing is. To be given to `needed.needs`."""
    return None if importlib.util.find_spec("ray") else 'Ray is not installed: pip install "fedbench-mlflow[ray]"'


def computing() -> list[psutil.Process]:
    """The processes that compute a run, of any cluster."""
    commands = [(process, process.info["cmdline"] or [""]) for process in psutil.process_iter(["cmdline"])]
    return [process for process, command in commands if command[0].startswith("ray::compute")]


class Nodes:
    """A head without processors, and nodes with one each."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        import fedbench.executors.ray_connection  # noqa: F401 - it sets Ray up, before anything of Ray is started

        quick = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = []
        for _ in range(count):
            self.add_node()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_node(self) -> None:
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def kill_node(self) -> None:
        """Kill the oldest node with all its processes, and wait until the cluster knows."""
        self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)

    def kill_worker(self) -> bool:
        """Kill a process that computes a run, if there is one within ten seconds."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for process in computing():
                process.kill()
                return True
            time.sleep(0.02)
        return False

    def shutdown(self) -> None:
        self._cluster.shutdown()


@contextmanager
def ray_nodes(count: int) -> Iterator[Nodes]:
    """A cluster, ended afterwards."""
    before = os.environ.get("RAY_ADDRESS")
    nodes = Nodes(count)
    try:
        yield nodes
    finally:
        nodes.shutdown()
        if before is None:
            os.environ.pop("RAY_ADDRESS", None)
