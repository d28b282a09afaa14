"""Measure a suite for the gate: every run is computed, nothing is skipped and nothing is recorded in a store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from fedbench.gate.baseline import CellRecord, RoundRecord, SeedRecord
from fedbench.measures import CLIENT_ACCURACY, TIMES, Verdict
from fedbench.runs.events import Job, RoundDone
from fedbench.runs.pace import Pace
from fedbench.runs.work import RunWork
from fedbench.suites.schema import RunSpec, Suite
from fedbench.util.errors import InterruptedSuiteError, SuiteError
from fedbench.util.progress import phase, progress

if TYPE_CHECKING:
    from fedbench.executors import Executor
    from fedbench.runs.data import DataSource
    from fedbench.runs.events import RunDone

OF_PARTS = (CLIENT_ACCURACY, "client_drift/", "recall/")  # metrics of single clients and classes


def measure_suite(suite: Suite, data: DataSource, execute: Executor) -> tuple[CellRecord, ...]:
    """Compute every run of a suite; the cells in the order of the suite, seeds ascending.

    Raises `SuiteError` if a cell asks for more data than there is, `DataError` if a dataset is missing or damaged.
    """
    for cell in suite.cells:
        if shortfall := cell.spec.shortfall():
            raise SuiteError(f"{suite.path}: cell {cell.label} cannot be checked: {shortfall}")
    with progress(suite.name, len(suite.runs), "runs") as advance:
        phase("reading data")
        data.require(cell.spec for cell in suite.cells)
        data.load(cell.spec for cell in suite.cells)
        try:
            runs = _runs(suite, data, execute, advance)
        except KeyboardInterrupt:
            raise InterruptedSuiteError("nothing was written; the same command starts over") from None
    return tuple(
        CellRecord(
            label=cell.label,
            spec=cell.spec.values,
            data=data.digest(cell.spec),
            seeds=tuple(sorted((runs[run] for run in cell.runs()), key=lambda record: record.seed)),
        )
        for cell in suite.cells
    )


def _runs(suite: Suite, data: DataSource, execute: Executor, advance: Callable[..., None]) -> dict[RunSpec, SeedRecord]:
    rounds: dict[RunSpec, dict[int, RoundRecord]] = {run: {} for run in suite.runs}
    found: dict[RunSpec, SeedRecord] = {}
    pace = Pace(suite.runs)

    def begun() -> Iterator[Job]:
        for run in suite.runs:
            pace.begin(run)
            yield Job(run, digests=True)

    phase("starting workers")
    events = execute(begun(), RunWork(data))
    with closing(events):  # type: ignore[type-var]
        for event in events:
            if isinstance(event, RoundDone):
                pace.add_round(event.run, event.round, event.metrics)
                rounds[event.run][event.round] = _round_record(event)  # re-emitted if a worker died
            else:
                with pace.recorded(event.run):
                    found[event.run] = _seed_record(event, rounds.pop(event.run))
                advance(1, event.run.cell)
    return found


def _round_record(event: RoundDone) -> RoundRecord:
    assert event.digests is not None  # noqa: S101 - the job asked for them
    named = {key: value for key, value in event.metrics.items() if key not in TIMES}
    whole = {key: value for key, value in named.items() if not key.startswith(OF_PARTS)}
    return RoundRecord(
        metrics={key: value if math.isfinite(value) else None for key, value in sorted(whole.items())},
        others=_digest({key: value for key, value in named.items() if key not in whole}),
        model=event.digests.model,
        clients={str(client): value for client, value in event.digests.clients.items()},
    )


def _seed_record(done: RunDone, rounds: Mapping[int, RoundRecord]) -> SeedRecord:
    line = done.final.interpolation if done.final else ()
    return SeedRecord(
        seed=done.run.seed,
        verdict=done.result.verdict,
        reason=done.result.reason if done.result.verdict is Verdict.FAILED else None,  # other reasons may be reworded
        rounds=tuple(rounds[number] for number in sorted(rounds)),
        interpolation=_digest(line) if line else None,
    )


def _digest(numbers: Mapping[str, float] | Sequence[Sequence[float]]) -> str:
    """64 bits of SHA-256 over numbers with all their digits."""
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]
