"""A stored file of timings as multiples of the machine's yardsticks, and the check against it.

Yardsticks make the times of several machines comparable to some ten percent, so this finds only large slowdowns;
`fedbench.gate.speed` finds the small ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

from pydantic import Field

from fedbench.bench.run import Measured, checkout, run_benchmarks
from fedbench.gate.checks import BenchmarkCheck, Judgement, SpeedCheck
from fedbench.gate.files import Update, read_stored, require_reason, update, write_stored
from fedbench.util.commits import commit_of
from fedbench.util.errors import BaselineError, BenchmarkError
from fedbench.util.frozen import Frozen

FILE_THRESHOLD = 1.25  # a benchmark whose multiple of the yardstick is this many times the stored one is slower
REPEATS = 3  # how often is measured what is stored, and what looks slower
FEW = 4  # up to so many benchmarks are measured again one by one, more all together

MAKE = "fedbench baseline --speed"
RECREATE = f"recreate it with: {MAKE} --reason TEXT"


class StoredBenchmark(Frozen):
    """A benchmark: its group, and its median time as a multiple of the yardstick's."""

    group: str
    yardstick_multiple: Annotated[float, Field(gt=0)]


class SpeedBaseline(Frozen):
    """The content of the file. `history` is oldest first."""

    format: Literal[1] = 1
    machine: str
    versions: dict[str, str]
    history: Annotated[tuple[Update, ...], Field(min_length=1)]
    benchmarks: Annotated[dict[str, StoredBenchmark], Field(min_length=1)]


def write_speed_baseline(path: Path, reason: str | None = None) -> SpeedBaseline:
    """Measure all benchmarks `REPEATS` times and store the median multiple of each whose work is counted.

    Parameters
    ----------
    reason
        Why the file changes; kept in it. An existing file needs one.

    Raises
    ------
    BaselineError
        If the file exists and there is no reason, or it cannot be read; before anything is measured.
    BenchmarkError
        If the benchmarks cannot be run, or one fails.
    DataError
        If the file cannot be written.
    InterruptedSuiteError
        After Ctrl-C. The file is unchanged.
    """
    require_reason(path, reason)
    before = read_speed_baseline(path) if path.exists() else None
    runs = [run_benchmarks() for _ in range(REPEATS)]
    for run in runs:
        for name, why in run.failed.items():
            raise BenchmarkError(f"{name} fails: {why}: nothing was written")
    groups = {each.name: each.group for each in runs[0].results}
    found = [_multiples(run) for run in runs]
    baseline = SpeedBaseline(
        machine=runs[0].machine,
        versions=dict(runs[0].versions),
        history=(*(before.history if before else ()), update(commit_of(checkout()).name, reason)),
        benchmarks={
            name: StoredBenchmark(group=groups[name], yardstick_multiple=median(each[name] for each in found))
            for name in found[0]
        },
    )
    write_stored(path, baseline)
    return baseline


def read_speed_baseline(path: Path) -> SpeedBaseline:
    """Read the file.

    Raises
    ------
    BaselineError
        If it is missing, unreadable, of another kind or format, or was changed by hand.
    """
    return read_stored(path, SpeedBaseline, MAKE)


def check_against_file(path: Path) -> SpeedCheck:
    """Measure all benchmarks and compare their multiples of the yardstick with the stored ones.

    What looks slower than `FILE_THRESHOLD` is measured `REPEATS` times in all, and is ``worse`` if it was slower every
    time. Of a benchmark with several measurements, ``ratio`` and ``now`` are the smallest and the interval is the
    range of its ratios. A benchmark that fails is ``worse``, with the reason; ``ratio`` and ``now`` are NaN.

    Raises
    ------
    BaselineError
        If the file cannot be read, or has other benchmarks than there are.
    BenchmarkError
        If the benchmarks cannot be run.
    InterruptedSuiteError
        After Ctrl-C.
    """
    baseline, start = read_speed_baseline(path), time.monotonic()
    measured = run_benchmarks()
    found = {name: [multiple] for name, multiple in _multiples(measured).items()}
    failed = dict(measured.failed)
    _require_equal(baseline, found, failed, path)
    for _ in range(REPEATS - 1):
        slower = [
            name
            for name, multiples in found.items()
            if min(multiples) > FILE_THRESHOLD * baseline.benchmarks[name].yardstick_multiple and name not in failed
        ]
        for select in slower if len(slower) <= FEW else [None]:
            again = run_benchmarks(select)
            failed |= again.failed
            for name, multiple in _multiples(again).items():
                if name in slower and select in (None, name):  # the selection may match others too
                    found[name].append(multiple)
    checks = [_check(name, baseline.benchmarks[name], found[name]) for name in found if name not in failed]
    checks += [_failure(name, why, baseline) for name, why in failed.items()]
    return SpeedCheck(
        str(path),
        baseline.history[-1].commit,
        FILE_THRESHOLD,
        "yardstick",
        measured.machine,
        tuple(checks),
        seconds=time.monotonic() - start,
    )


def _multiples(measured: Measured) -> dict[str, float]:
    found = {each.name: each.yardstick_multiple for each in measured.results}
    return {name: multiple for name, multiple in found.items() if multiple is not None}


def _require_equal(baseline: SpeedBaseline, found: Mapping[str, object], failed: Mapping[str, str], path: Path) -> None:
    """Refuse a file of other benchmarks."""
    if new := sorted(found.keys() - baseline.benchmarks.keys()):
        raise BaselineError(f"{path} lacks benchmark {', '.join(new)}: {RECREATE}")
    if gone := sorted(baseline.benchmarks.keys() - found.keys() - failed.keys()):
        raise BaselineError(f"{path} has benchmark {', '.join(gone)}, which no longer exists: {RECREATE}")


def _check(name: str, stored: StoredBenchmark, multiples: list[float]) -> BenchmarkCheck:
    before = stored.yardstick_multiple
    ratios = sorted(multiple / before for multiple in multiples)
    judgement = Judgement.NOT_WORSE
    if ratios[0] > FILE_THRESHOLD:
        judgement = Judgement.WORSE
    elif ratios[0] < 1 / FILE_THRESHOLD:
        judgement = Judgement.BETTER
    return BenchmarkCheck(
        name=name,
        group=stored.group,
        ratio=ratios[0],
        interval=(ratios[0], ratios[-1]) if len(multiples) > 1 else None,
        before=before,
        now=ratios[0] * before,
        samples=len(multiples),
        judgement=judgement,
    )


def _failure(name: str, why: str, baseline: SpeedBaseline) -> BenchmarkCheck:
    stored = baseline.benchmarks.get(name)
    group, before = (stored.group, stored.yardstick_multiple) if stored else ("", math.nan)
    return BenchmarkCheck(name, group, math.nan, None, before, math.nan, 0, Judgement.WORSE, f"fails: {why}")
