"""A suite measured for the gate: every run computed anew, nothing skipped and nothing recorded in a store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

from fedbench.gate.baseline import CellRecord, RoundRecord, SeedRecord
from fedbench.measures import CLIENT_ACCURACY, TIMES, Verdict
from fedbench.runs.events import Job, RoundDone
from fedbench.runs.work import RunWork
from fedbench.suites.schema import RunSpec, Suite
from fedbench.util.errors import SuiteError

if TYPE_CHECKING:
    from fedbench.runs.data import DataSource
    from fedbench.runs.events import RunDone
    from fedbench.runs.suite_run import Executor

OF_PARTS = (CLIENT_ACCURACY, "client_drift/", "recall/")  # metrics of single clients and classes


def measure_suite(
    suite: Suite, data: DataSource, execute: Executor
) -> Generator[tuple[RunSpec, SeedRecord], None, None]:
    """Compute every run of `suite`; yield each as it ends.

    Raises
    ------
    SuiteError
        If a cell asks for more data than there is.
    DataError
        If a dataset is missing or damaged.
    """
    for cell in suite.cells:
        if shortfall := cell.spec.shortfall():
            raise SuiteError(f"{suite.path}: cell {cell.label} cannot be checked: {shortfall}")
    data.load(cell.spec for cell in suite.cells)
    rounds: dict[RunSpec, dict[int, RoundRecord]] = {run: {} for run in suite.runs}
    for event in execute((Job(run, digests=True) for run in suite.runs), RunWork(data)):
        if isinstance(event, RoundDone):
            rounds[event.run][event.round] = _round_record(event)  # a worker that died tells a round again
        else:
            yield event.run, _seed_record(event, rounds.pop(event.run))


def cell_records(suite: Suite, data: DataSource, runs: Mapping[RunSpec, SeedRecord]) -> tuple[CellRecord, ...]:
    """What was measured, cell by cell in the order of the suite, seeds ascending."""
    return tuple(
        CellRecord(
            label=cell.label,
            spec=cell.spec,
            data=data.digest(cell.spec),
            seeds=tuple(sorted((runs[run] for run in cell.runs()), key=lambda record: record.seed)),
        )
        for cell in suite.cells
    )


def _round_record(event: RoundDone) -> RoundRecord:
    digests = event.digests
    if digests is None:
        raise ValueError("the job asked for digests")
    named = {key: value for key, value in event.metrics.items() if key not in TIMES}
    whole = {key: value for key, value in named.items() if not key.startswith(OF_PARTS)}
    return RoundRecord(
        metrics={key: value if math.isfinite(value) else None for key, value in sorted(whole.items())},
        others=_digest({key: value for key, value in named.items() if key not in whole}),
        model=digests.model,
        clients={str(client): value for client, value in digests.clients.items()},
    )


def _seed_record(done: RunDone, rounds: Mapping[int, RoundRecord]) -> SeedRecord:
    line = done.final.interpolation if done.final else ()
    return SeedRecord(
        seed=done.run.seed,
        verdict=done.result.verdict,
        reason=done.result.reason if done.result.verdict is Verdict.FAILED else None,  # else words that may be reworded
        rounds=tuple(rounds[number] for number in sorted(rounds)),
        interpolation=_digest(line) if line else None,
    )


def _digest(numbers: Mapping[str, float] | Sequence[Sequence[float]]) -> str:
    """64 bits of SHA-256 over numbers, each with all its digits."""
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]
