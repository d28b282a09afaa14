"""The timing benchmarks: run them in a process of their own, under pytest, and read what it measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from fedbench.bench.yardsticks import Yardsticks
from fedbench.util.errors import BenchmarkError, InterruptedSuiteError
from fedbench.util.progress import progress

PACKAGE = Path(__file__).parent.parent
NEEDED = ("pytest", "pytest_benchmark")
FAILED = (1, 2, 5)  # pytest's exit codes where every benchmark failed, or every file could not be imported
NUM_YARDSTICKS = 2  # they are measured at the start and at the end


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured of one benchmark.

    Attributes
    ----------
    name, group
        Its own name, with its parameters in brackets, and the group that it is of.
    params
        Its parameters and what one call does: ``flops`` or ``bytes``.
    median, iqr, min, stddev
        Of the timing rounds, in seconds a call.
    timing_rounds
        pytest-benchmark's rounds.
    gflops_per_second, gbytes_per_second
        What one call does over the median; None where it is not counted.
    yardstick_multiple
        The median over the time that one thread's yardstick takes for the same; None where nothing is counted.
    """

    name: str
    group: str
    params: Mapping[str, object]
    median: float
    iqr: float
    min: float
    stddev: float
    timing_rounds: int
    gflops_per_second: float | None
    gbytes_per_second: float | None
    yardstick_multiple: float | None


@dataclass(frozen=True)
class Measured:
    """What a run of the benchmarks has come to.

    Attributes
    ----------
    text
        pytest-benchmark's own JSON; empty if every benchmark failed.
    failed
        For each benchmark that failed, why.
    machine
        The processor's name and how many cores could be used.
    versions
        Tags that say what was measured: of fedbench, Python and PyTorch.
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
    """The folder of the checkout that this fedbench is of; None if it is installed from a wheel."""
    root = PACKAGE.parent
    return root if not (PACKAGE / "_benchmarks").is_dir() and (root / "tests" / "benchmarks").is_dir() else None


def shipped_benchmarks() -> Path:
    """The folder of the benchmarks: in the package if installed, in the tests of a checkout."""
    root = checkout()
    return root / "tests" / "benchmarks" if root else PACKAGE / "_benchmarks"


def require_pytest() -> None:
    """Refuse to go on without pytest and pytest-benchmark.

    Raises
    ------
    BenchmarkError
        One line that says what to install.
    """
    missing = [name.replace("_", "-") for name in NEEDED if find_spec(name) is None]
    if missing:
        raise BenchmarkError(f'{" and ".join(missing)} not installed: pip install "fedbench-mlflow[bench]"')


def run_benchmarks(select: str | None = None, folder: Path | None = None) -> Measured:
    """Run the benchmarks whose name or group has `select` in it, and show how far they are.

    Parameters
    ----------
    select
        None: all.
    folder
        Where the benchmarks are, if not in `shipped_benchmarks`.

    Raises
    ------
    BenchmarkError
        If none is selected, pytest is missing, or pytest ends before it ran one.
    InterruptedSuiteError
        After Ctrl-C. The process has ended then, and nothing is left of it.
    """
    require_pytest()
    with tempfile.TemporaryDirectory(prefix="fedbench-bench-") as temporary:
        try:
            return _run(folder or shipped_benchmarks(), select, Path(temporary))
        except KeyboardInterrupt:
            raise InterruptedSuiteError("nothing was recorded; the same command measures anew") from None


def _run(benchmarks: Path, select: str | None, temporary: Path) -> Measured:
    report, log = temporary / "benchmarks.json", temporary / "log"
    with _started(benchmarks, select, report, log) as (process, events):
        failed = _follow(events, select)
        code = process.wait()
    text = report.read_text() if report.exists() else ""
    if not text and not (failed and code in FAILED):
        last = (log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise BenchmarkError(f"pytest ended with exit code {code} and has reported nothing: {last}")
    return read_report(text, failed)


@contextmanager
def _started(
    benchmarks: Path, select: str | None, report: Path, log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    """Start pytest in a session of its own, so that Ctrl-C is ours alone; it has ended at the end."""
    reading, writing = os.pipe()
    ini, scratch = benchmarks / "pytest.ini", report.parent
    options = [f"--rootdir={benchmarks}", "-p", "pytest_benchmark.plugin", f"--basetemp={scratch / 'pytest'}"]
    options += ["--benchmark-only", f"--benchmark-json={report}", f"--benchmark-storage=file://{scratch / 'storage'}"]
    options += [f"--events={writing}", *([f"--select={select}"] if select else [])]
    # -P: a folder named fedbench in the working directory is not what is to be measured. -B: write nothing there.
    command = [sys.executable, "-P", "-B", "-m", "pytest", "-c", str(ini), *options, str(benchmarks)]
    with open(reading) as events, log.open("wb") as output:  # noqa: PTH123 - a file descriptor
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                pass_fds=[writing],
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            yield process, events
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # all that it has written is in our temporary folder
                process.wait()


def _environment() -> dict[str, str]:
    """The environment without what would change pytest: options and plugins, and tests that we may be part of."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MLFLOW_TRACKING_"))}
    if root := checkout():
        kept["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [kept.get("PYTHONPATH")])])
    return kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _follow(events: IO[str], select: str | None) -> dict[str, str]:
    """Show what the process says that it does until it ends; the benchmarks that failed, each with its reason."""
    failed: dict[str, str] = {}
    lines = map(json.loads, events)
    number = 0
    for event in lines:
        if event["event"] == "nothing":
            raise BenchmarkError(f"--select {select}: no such benchmark; there are {', '.join(event['names'])}")
        if event["event"] == "failed":
            failed[event["name"]] = event["reason"]
        if event["event"] == "collected":
            number = event["number"]
            break
    with progress("measuring", number + NUM_YARDSTICKS, "benchmarks") as advance:
        for event in lines:
            if event["event"] == "failed":
                failed[event["name"]] = event["reason"]
            else:
                advance(1, event["name"])
    return failed


def read_report(text: str, failed: Mapping[str, str]) -> Measured:
    """Read the JSON that pytest-benchmark wrote in a run with fedbench's plugin."""
    if not text:
        return Measured(text, (), failed)
    report = json.loads(text)
    machine = report["machine_info"]
    start, end = (Yardsticks(**machine["yardsticks"][when]) for when in ("start", "end"))
    processor = machine.get("cpu", {}).get("brand_raw") or machine["machine"]
    return Measured(
        text,
        tuple(map(_result, report["benchmarks"])),
        failed,
        f"{processor}, {start.num_cores} cores",
        machine["fedbench"],
        (start, end),
    )


def _result(entry: Mapping[str, Any]) -> BenchmarkResult:
    stats, extra = entry["stats"], entry["extra_info"]
    work = {key: extra[key] for key in ("flops", "bytes") if key in extra}
    params = {key: value for key, value in (entry["params"] or {}).items() if isinstance(value, str | int | float)}
    return BenchmarkResult(
        name=entry["name"].removeprefix("test_"),
        group=entry["group"] or "",
        params=params | work,
        median=stats["median"],
        iqr=stats["iqr"],
        min=stats["min"],
        stddev=stats["stddev"],
        timing_rounds=stats["rounds"],
        gflops_per_second=extra.get("gflops_per_second"),
        gbytes_per_second=extra.get("gbytes_per_second"),
        yardstick_multiple=extra.get("yardstick_multiple"),
    )
