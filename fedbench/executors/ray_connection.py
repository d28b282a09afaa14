"""A Ray cluster: reached in a way that ends in one line where it cannot be, and asked what it has room for."""

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
from typing import Any

from fedbench.executors.needs import Needs
from fedbench.util.errors import ClusterError, one_line

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a benchmark reports to nobody
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do by itself, and warns of until then
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # standard output is for results; what dies is told by fedbench

import ray

ANSWER_SECONDS = 15  # for a cluster to answer
LOOK_SECONDS = 2.0  # how often the cluster is asked what nodes it has
ROOM_SECONDS = 600.0  # how long a suite waits for a node that has room for a run

logger = logging.getLogger("fedbench")


@contextmanager
def connected(address: str | None, num_cpus: int | None) -> Iterator[None]:
    """Be connected to the cluster at `address`; without one, to a Ray of this machine with so many processors.

    Raises
    ------
    ClusterError
        If nothing answers there, or it is no cluster, or one of another Ray or Python.
    """
    if address and address != "auto":
        _require_answer(address)
    own = {"address": "local", "num_cpus": num_cpus, "include_dashboard": False}  # not what somebody left here
    options: dict[str, Any] = {"address": address} if address else own
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds: other versions, no disk, nobody at "auto"
        place = f"the Ray cluster at {address}" if address else "Ray on this machine"
        raise ClusterError(f"{place} cannot be used ({one_line(error)})") from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray puts its own in place
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Ask a cluster whether it is there, in a process of its own: Ray asks for minutes and then ends its process."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ClusterError(
            f"{address!r} is no address of a Ray cluster: give HOST:PORT of its head, such as 10.0.0.5:6379"
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
        raise ClusterError(f"what answers at {address} is no Ray cluster: {remedy}") from error


class Room:
    """How many runs the cluster has room for, asked now and then.

    Raises
    ------
    ClusterError
        If for `ROOM_SECONDS` no node can compute a run.
    """

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self._runs = 0
        self._asked = -LOOK_SECONDS
        self._none_since: float | None = None

    def runs(self) -> int:
        """How many runs fit on the nodes that are alive."""
        now = time.monotonic()
        if now - self._asked >= LOOK_SECONDS:
            self._asked = now
            nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
            self._runs = sum(self.needs.fitting(node["Resources"]) for node in nodes if node["Alive"])
            self._watch(now)
        return self._runs

    def _watch(self, now: float) -> None:
        if self._runs:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
            logger.warning(
                "fedbench: no node of the cluster has room for a run (%s): waiting %d minutes for one; Ctrl-C ends",
                self.needs,
                ROOM_SECONDS // 60,
            )
        elif now - self._none_since > ROOM_SECONDS:
            raise ClusterError(
                f"no node of the cluster has room for a run ({self.needs}): add one, or lower what a run takes with "
                "--cpus-per-run, --gpus-per-run and --memory-per-run; then the same command goes on from here"
            )
