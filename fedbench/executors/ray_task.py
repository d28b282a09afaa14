"""What a node of a Ray cluster does: one run computed in a Ray task, with data that the node holds once."""

from __future__ import annotations

import hashlib
import platform
import socket
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch

import fedbench
from fedbench.datasets import Dataset
from fedbench.executors import in_process
from fedbench.runs.checkpoints import environment
from fedbench.runs.events import Event, Job

if TYPE_CHECKING:
    from ray import ObjectRef

_unpacked: dict[str, Dataset] = {}  # by digest; a process serves one run after the other


class UnlikeNodeError(Exception):
    """A node has other packages, other code or another kind of processor than the machine of the command."""


@dataclass(frozen=True)
class Order:
    """A job for a node.

    Attributes
    ----------
    data
        The packed dataset, in a list, so that Ray brings it to the node only if the process asks for it.
    digest
        The dataset's.
    num_threads
        How many of the round's clients are trained at once.
    software
        What the node has to have; see `software`.
    probe
        A file beside the checkpoints: a node that does not see it does not share their folder and keeps none.
    """

    job: Job
    data: list[ObjectRef[Mapping[str, Any]]]
    digest: str
    device: str
    num_threads: int
    software: Mapping[str, str]
    probe: Path | None


def compute(order: Order) -> Iterator[Event]:
    """Compute one run; see `fedbench.executors`.

    Raises
    ------
    UnlikeNodeError
        If this node would give other bits.
    """
    _require_likeness(order.software)
    job = order.job
    if order.probe is None or not order.probe.exists():
        job = replace(job, checkpoint=None)
    if order.digest not in _unpacked:
        _unpacked[order.digest] = unpack(ray.get(order.data[0]))
    dataset = _unpacked[order.digest]
    yield from in_process.compute(job, dataset, order.device, lambda: order.num_threads)


@cache
def software() -> Mapping[str, str]:
    """What the bits of a run depend on beside the run: versions, the code itself, and the kind of processor."""
    pytorch, _, processor = environment().rpartition(" ")
    code = hashlib.sha256()
    for path in sorted(Path(fedbench.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "Python": platform.python_version(),
        "fedbench": f"{fedbench.__version__} ({code.hexdigest()[:8]})",
        "torch": pytorch,
        "numpy": np.__version__,
        "processor": processor,
    }


def _require_likeness(wanted: Mapping[str, str]) -> None:
    here = software()
    unlike = [f"{name} {here[name]} instead of {each}" for name, each in wanted.items() if here[name] != each]
    if unlike:
        raise UnlikeNodeError(f"node {socket.gethostname()} has {', '.join(unlike)}")


def pack(dataset: Dataset) -> dict[str, Any]:
    """A dataset as Ray keeps it: its arrays are in the node's shared memory, once for all its processes."""
    content = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in content.items()}


def unpack(content: Mapping[str, Any]) -> Dataset:
    """The dataset again; its tensors are views of that memory, which nobody may write to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        arrays = {name: torch.from_numpy(value) for name, value in content.items() if isinstance(value, np.ndarray)}
    return Dataset(**{**content, **arrays})
