"""Measure the timing benchmarks in a process of their own and read the result."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedbench.bench.process import Child, child
from fedbench.bench.yardsticks import Yardsticks
from fedbench.util.environment import machine_name
from fedbench.util.errors import BenchmarkError, InterruptedSuiteError
from fedbench.util.progress import progress

PACKAGE = Path(__file__).parent.parent
WORKLOADS = Path(__file__).with_name("workloads.py")
NEEDED = ("pytest", "pytest_benchmark")
NUM_YARDSTICKS = 2  # measured at the start and at the end


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured of one benchmark, in seconds per call over pytest-benchmark's rounds.

    Attributes
    ----------
    params
        Its parameters and what one call does: ``flops`` or ``bytes``.
    rates
        See `fedbench.bench.session.rates`; empty where nothing is counted.
    """

    name: str
    group: str
    params: Mapping[str, object]
    median: float
    iqr: float
    min: float
    stddev: float
    timing_rounds: int
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """A run of the benchmarks.

    Attributes
    ----------
    text
        pytest-benchmark's own JSON; empty if every benchmark failed.
    machine
        The processor's name and the number of usable cores.
    versions
        The tags of fedbench's, Python's and PyTorch's versions.
    yardsticks
        At the start and at the end; None if every benchmark failed.
    """

    text: str
    results: tuple[BenchmarkResult, ...]
    failed: Mapping[str, str]
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    yardsticks: tuple[Yardsticks, Yardsticks] | None = None


def checkout() -> Path | None:
    """The checkout that this fedbench runs from; None if it is installed from a wheel."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def require_pytest() -> None:
    """Require pytest and pytest-benchmark."""
    missing = [name.replace("_", "-") for name in NEEDED if find_spec(name) is None]
    if missing:
        raise BenchmarkError(f'{" and ".join(missing)} not installed: pip install "fedbench-mlflow[bench]"')


def run_benchmarks(select: str | None = None, workloads: Path = WORKLOADS) -> Measured:
    """Measure benchmarks in a process of their own; nothing is recorded.

    Parameters
    ----------
    select
        Only those whose name or group contains this text, in upper or lower case. None: all.
    workloads
        A file of workloads; see `fedbench.bench.workloads`.

    Raises
    ------
    BenchmarkError
        If none is selected, pytest is missing, or the process ends before it has measured.
    InterruptedSuiteError
        After Ctrl-C. The process has ended and its files are removed.
    """
    require_pytest()
    with tempfile.TemporaryDirectory(prefix="fedbench-bench-") as temporary:
        report = Path(temporary) / "benchmarks.json"
        arguments = ["-m", "fedbench.bench.session", str(workloads), str(report), select or ""]
        try:
            with child(arguments, report.with_name("log"), path=[PACKAGE.parent]) as process:
                failed = _followed(process, select)
        except KeyboardInterrupt:
            raise InterruptedSuiteError("nothing was recorded; the same command starts over") from None
        return read_report(report.read_text() if report.exists() else "", failed)


def _followed(process: Child, select: str | None) -> dict[str, str]:
    """Show the progress of the process until it has measured; the benchmarks that failed, with the reasons."""
    failed: dict[str, str] = {}
    selected = process.answer()
    if selected and not selected["number"]:
        raise BenchmarkError(f"--select {select}: no such benchmark; there are {', '.join(selected['names'])}")
    number = selected["number"] if selected else 0
    with progress("measuring", number + NUM_YARDSTICKS, "benchmarks") as advance:
        while (event := process.answer()) and event["event"] != "ended":
            if event["event"] == "failed":
                failed[event["name"]] = event["reason"]
            else:
                advance(1, event["name"])
    if event is None:
        raise BenchmarkError(f"the benchmarks have ended with {process.last_words()}")
    return failed


def read_report(text: str, failed: Mapping[str, str]) -> Measured:
    """Read the JSON of `fedbench.bench.session`."""
    if not text:
        return Measured(text, (), failed)
    report = json.loads(text)
    machine = report["machine_info"]
    start, end = (Yardsticks(**machine["yardsticks"][when]) for when in ("start", "end"))
    results = tuple(map(_result, report["benchmarks"]))
    return Measured(text, results, failed, machine_name(), machine["fedbench"], (start, end))


def _result(entry: Mapping[str, Any]) -> BenchmarkResult:
    stats, extra = entry["stats"], entry["extra_info"]
    work = {key: extra[key] for key in ("flops", "bytes") if key in extra}
    return BenchmarkResult(
        name=entry["name"],
        group=entry["group"] or "",
        params=entry["params"] | work,
        median=stats["median"],
        iqr=stats["iqr"],
        min=stats["min"],
        stddev=stats["stddev"],
        timing_rounds=stats["rounds"],
        rates={key: value for key, value in extra.items() if key not in work},
    )
