"""A connection to a Ray cluster: an error of one line where there is none, and how many jobs it has room for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from fedbench.executors.needs import Needs
from fedbench.util.errors import ClusterError, one_line

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a benchmark reports to nobody
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default, of which it warns until then
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # standard output is for results; fedbench reports deaths

import ray

ANSWER_SECONDS = 15  # for a cluster to answer
LOOK_SECONDS = 2.0  # how often the cluster is asked what nodes it has
ROOM_SECONDS = 600.0  # how long a command waits for a node that has room for a job
OWN_ROOM_SECONDS = 10.0  # the same with Ray on this machine alone, which no node joins

logger = logging.getLogger("fedbench")


@contextmanager
def connected(address: str | None, num_cpus: int | None) -> Iterator[None]:
    """Connect to the cluster at `address`; without one, start Ray on this machine with so many processors.

    Raises `ClusterError` if nothing answers there, or what does is not a cluster, or has another version of Ray or
    Python.
    """
    if address and address != "auto":
        _require_answer(address)
    own = {"address": "local", "num_cpus": num_cpus, "include_dashboard": False}  # not one that somebody left running
    options: dict[str, Any] = {"address": address} if address else own
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds: other versions, no disk, nobody at "auto"
        place = f"the Ray cluster at {address}" if address else "Ray on this machine"
        remedy = "" if address else ": correct that, or set RAY_TMPDIR to a folder with a short path and room"
        raise ClusterError(f"{place} cannot be used ({one_line(error)}){remedy}") from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray installs its own
    try:
        if not address and not ip_address(ray.util.get_node_ip_address()).is_loopback:  # type: ignore[no-untyped-call]
            logger.warning("fedbench: Ray's ports on this machine are open to its network: close them by a firewall")
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Ask a cluster whether it is there, in a separate process: Ray tries for minutes and then ends its process."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ClusterError(
            f"{address!r} is not the address of a Ray cluster: give HOST:PORT of its head, such as 10.0.0.5:6379"
        )
    remedy = "start it (ray start --head), or correct --address or RAY_ADDRESS"
    question = "import sys, ray._raylet; ray._raylet.GcsClient(address=sys.argv[1])"
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        subprocess.run(  # noqa: S603 - this Python
            [sys.executable, "-c", question, address], capture_output=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster answers at {address} ({error}): {remedy}") from error
    except subprocess.SubprocessError as error:
        raise ClusterError(f"what answers at {address} is not a Ray cluster: {remedy}") from error


class Room:
    """How many jobs the cluster has room for, asked every `LOOK_SECONDS`.

    Raises `ClusterError` if for `ROOM_SECONDS` no node can compute a job, or for `OWN_ROOM_SECONDS` the machine alone.
    """

    def __init__(self, needs: Needs, is_own: bool) -> None:
        self.needs = needs
        self.patience = OWN_ROOM_SECONDS if is_own else ROOM_SECONDS
        self._jobs = 0
        self._asked = -LOOK_SECONDS
        self._none_since: float | None = None

    def jobs(self) -> int:
        """How many jobs fit on the nodes that are alive."""
        now = time.monotonic()
        if now - self._asked >= LOOK_SECONDS:
            self._asked = now
            nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
            self._jobs = sum(self.needs.fitting(node["Resources"]) for node in nodes if node["Alive"])
            self._watch(now)
        return self._jobs

    def _watch(self, now: float) -> None:
        if self._jobs:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
            logger.warning(
                "fedbench: no node of the cluster has room for a run (%s): waiting %d seconds for one; Ctrl-C stops",
                self.needs,
                self.patience,
            )
        elif now - self._none_since > self.patience:
            raise ClusterError(
                f"no node of the cluster has room for a run ({self.needs}): add one, or lower what a run needs with "
                "--cpus-per-run, --gpus-per-run and --memory-per-run; then the same command resumes"
            )
