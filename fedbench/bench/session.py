"""The process that measures for `fedbench bench`: pytest-benchmark on the workloads, and the machine's yardsticks.

    python -m fedbench.bench.session WORKLOADS REPORT SELECT

It writes pytest-benchmark's JSON to the file REPORT, and lines of JSON to its standard output: what was ``selected``,
what is ``done`` and what ``failed``, and at last ``ended``.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fedbench.bench.workloads import Workload
from fedbench.bench.yardsticks import Yardsticks, measure
from fedbench.util.environment import version_tags

TIMED = Path(__file__).with_name("timed.py")


def main() -> None:
    """Measure what the arguments say."""
    workloads, report, select = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].lower()
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what is printed belongs in the log
        session = _Session(answers.write)
        found = runpy.run_path(str(workloads))
        chosen = [each for each in found["WORKLOADS"] if select in f"{each.name} {each.group}".lower()]
        session.workloads = {each.name: each for each in chosen}
        session.tell("selected", number=len(chosen), names=[each.name for each in found["WORKLOADS"]])
        if chosen:
            found["set_up"]()
            pytest.main(_options(report), plugins=[session])
        session.tell("ended")


def _options(report: Path) -> list[str]:
    folder = report.parent
    files = [
        f"--rootdir={folder}",
        f"--basetemp={folder / 'pytest'}",
        f"--benchmark-storage=file://{folder / 'storage'}",
    ]
    timing = ["--benchmark-only", f"--benchmark-json={report}", "--benchmark-disable-gc", "--benchmark-warmup=off"]
    plugins = ["-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider"]
    return ["-c", os.devnull, *plugins, *files, *timing, str(TIMED)]


class _Session:
    """The hooks of pytest and pytest-benchmark."""

    def __init__(self, write: Any) -> None:
        self.write = write
        self.workloads: dict[str, Workload] = {}
        self.failed: set[str] = set()
        self.yardsticks: list[Yardsticks] = []

    def tell(self, event: str, **more: object) -> None:
        """Write an event."""
        self.write(json.dumps({"event": event, **more}) + "\n")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each workload."""
        metafunc.parametrize(
            "workload",
            [
                pytest.param(each, id=name, marks=pytest.mark.benchmark(group=each.group))
                for name, each in self.workloads.items()
            ],
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Measure the yardsticks before and after the workloads."""
        self._take_yardsticks()
        result = yield
        self._take_yardsticks()
        return result

    def _take_yardsticks(self) -> None:
        self.yardsticks.append(measure())
        self.tell("done", name="yardsticks")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say how a workload ended."""
        name = report.nodeid.partition("[")[2].removesuffix("]")
        if report.failed and name not in self.failed:
            self.failed.add(name)
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = crash.message if crash else str(report.longrepr)
            self.tell("failed", name=name, reason=" ".join(reason.removeprefix("Failed: ").split())[:300])
        if report.when == "teardown":
            self.tell("done", name=name)

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Add the versions and the yardsticks to the report."""
        machine_info["fedbench"] = version_tags()
        start, end = self.yardsticks[0], self.yardsticks[-1]
        machine_info["yardsticks"] = {"start": asdict(start), "end": asdict(end)}

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Leave out the workloads that failed; give the others their names, parameters and rates."""
        mean = self.yardsticks[0].mean(self.yardsticks[-1])
        kept = [each for each in output_json["benchmarks"] if each["param"] not in self.failed]
        for each in kept:
            workload = self.workloads[each["param"]]
            each["name"], each["params"] = workload.name, dict(workload.params)
            each["extra_info"] |= rates(each["stats"]["median"], each["extra_info"], mean)
        output_json["benchmarks"] = kept


def rates(median: float, extra_info: dict[str, Any], yardsticks: Yardsticks) -> dict[str, float]:
    """What follows from a median time in seconds and the ``flops`` or ``bytes`` of one call.

    ``gflops_per_second`` or ``gbytes_per_second``, and ``yardstick_multiple``: the time over the yardstick's time for
    the same work on one thread.
    """
    flops, num_bytes = extra_info.get("flops", 0), extra_info.get("bytes", 0)
    multiple = yardsticks.multiple(median, flops, num_bytes)
    return {
        **({"gflops_per_second": flops / median / 1e9} if flops else {}),
        **({"gbytes_per_second": num_bytes / median / 1e9} if num_bytes else {}),
        **({"yardstick_multiple": multiple} if multiple is not None else {}),
    }


if __name__ == "__main__":
    main()
