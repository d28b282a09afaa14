"""What a node of a Ray cluster does: it computes one job in a Ray task, with data that the node holds once."""

from __future__ import annotations

import hashlib
import platform
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch

import fedbench
from fedbench.executors import Compute
from fedbench.executors.processes import prepare_to_compute

if TYPE_CHECKING:
    from ray import ObjectRef

PROCESSOR = "processor"  # only if PyTorch computes; the kernels give the same bits on every one

_fetched: dict[str, Compute[Any, Any]] = {}  # by the data's name; a process serves one job after the other


class UnlikeNodeError(Exception):
    """A node has other packages, other code or another kind of processor than the command's machine."""


@dataclass(frozen=True)
class Order:
    """A job for a node that has this `software`.

    `work` computes it, in a list, so that Ray sends it to the node only if the process asks for it; `name` is that of
    its data, see `fedbench.executors.PortableWork`.
    """

    job: Any
    work: list[ObjectRef[Compute[Any, Any]]]
    name: str
    num_threads: int
    software: Mapping[str, str]


def compute(order: Order) -> Iterator[Any]:
    """Compute one job and yield its events.

    Raises `UnlikeNodeError` if this node would give different bits.
    """
    _require_likeness(order.software)
    prepare_to_compute()
    if order.name not in _fetched:
        _fetched[order.name] = ray.get(order.work[0])
    yield from _fetched[order.name](order.job, lambda: order.num_threads)


@cache
def software() -> Mapping[str, str]:
    """What a job's bits depend on apart from the job: versions, the code itself, and the kind of processor."""
    code = hashlib.sha256()
    package = Path(fedbench.__file__).parent
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.c")]):
        code.update(path.read_bytes())
    return {
        "Python": platform.python_version(),
        "fedbench": f"{fedbench.__version__} ({code.hexdigest()[:8]})",
        "torch": torch.__version__,
        "numpy": np.__version__,
        PROCESSOR: torch.backends.cpu.get_cpu_capability(),
    }


def _require_likeness(wanted: Mapping[str, str]) -> None:
    here = software()
    unlike = [f"{name} {here[name]} instead of {each}" for name, each in wanted.items() if here[name] != each]
    if unlike:
        raise UnlikeNodeError(f"node {socket.gethostname()} has {', '.join(unlike)}")
