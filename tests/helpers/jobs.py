"""Small runs as jobs, and how their ends are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from fedbench.measures import TIMES
from fedbench.runs.data import DataSource
from fedbench.runs.events import Event, Job, RunDone
from fedbench.runs.work import RunWork
from fedbench.suites.schema import CellSpec, RunSpec

TINY: dict[str, Any] = {"num_clients": 2, "examples_per_client": 20, "rounds": 2, "local_epochs": 1}
WORK = RunWork(DataSource())


def make_runs(count: int, **fields: Any) -> list[RunSpec]:
    return [RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**(TINY | fields)), seed=i) for i in range(count)]


def make_jobs(count: int, folder: Path | None = None, **fields: Any) -> list[Job]:
    """Jobs of such runs, with their checkpoints in `folder`."""
    paths = [folder / f"{i}.ckpt" if folder else None for i in range(count)]
    return [Job(run, f"f{run.seed}", "c", path) for run, path in zip(make_runs(count, **fields), paths, strict=True)]


def untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMES}


def ends(events: Iterable[Event]) -> dict[int, RunDone]:
    """The end of each run, by its seed."""
    return {event.run.seed: event for event in events if isinstance(event, RunDone)}


def assert_equal_ends(one: RunDone, other: RunDone) -> None:
    """Equal to the last bit in everything but the times."""
    assert one.result == other.result
    assert one.final is not None
    assert other.final is not None
    assert list(map(untimed, one.final.history)) == list(map(untimed, other.final.history))
    assert torch.equal(one.final.server.model.vector, other.final.server.model.vector)
