"""A plugin of pytest for the timed benchmarks: yardsticks, rates, a selection, and events for `fedbench bench`.

``tests/benchmarks/pytest.ini`` loads it, so that it is there for a timed run and not for the tests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import pytest

from fedbench.bench.yardsticks import Yardsticks, measure
from fedbench.util.environment import version_tags

PREFIX = "test_"  # what pytest knows a benchmark by, and nobody else need


def pytest_addoption(parser: pytest.Parser) -> None:
    """See pytest."""
    group = parser.getgroup("fedbench")
    group.addoption("--select", metavar="TEXT", help="Run the benchmarks whose name or group has TEXT in it.")
    group.addoption("--events", type=int, metavar="FD", help="Tell what happens, as lines of JSON, on this file.")


def pytest_configure(config: pytest.Config) -> None:
    """See pytest."""
    config.pluginmanager.register(_Plugin(config), "fedbench-benchmarks")


class _Plugin:
    """The hooks of one session."""

    def __init__(self, config: pytest.Config) -> None:
        self.select: str = config.getoption("select") or ""
        self.events: int | None = config.getoption("events")
        self.failed: set[str] = set()
        self.yardsticks: list[Yardsticks] = []

    def _tell(self, event: str, **more: object) -> None:
        if self.events is not None:  # if nobody listens any more, the error ends the session
            os.write(self.events, json.dumps({"event": event, **more}).encode() + b"\n")

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep what was selected."""
        text = self.select.lower()
        every = [item for item in items if "benchmark" in getattr(item, "fixturenames", ())]
        kept = [item for item in every if text in item.name.removeprefix(PREFIX).lower() or text in _group(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
        if every and not kept:
            self._tell("nothing", names=[item.name.removeprefix(PREFIX) for item in every])
        else:
            self._tell("collected", number=len(kept))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported has failed."""
        if report.failed:
            self._fail(report.nodeid, report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Measure the yardsticks before and after the benchmarks."""
        if not session.items or session.config.option.collectonly:
            return (yield)
        self._take_yardsticks()
        result = yield
        self._take_yardsticks()
        return result

    def _take_yardsticks(self) -> None:
        self.yardsticks.append(measure())
        self._tell("done", name="yardsticks")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say what has become of a benchmark."""
        if report.failed:
            self._fail(report.nodeid, report)
        if report.when == "teardown":
            self._tell("done", name=_name(report.nodeid))

    def _fail(self, nodeid: str, report: pytest.TestReport | pytest.CollectReport) -> None:
        if nodeid not in self.failed:
            self.failed.add(nodeid)
            self._tell("failed", name=_name(nodeid), reason=_reason(report))

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Put the yardsticks and what was measured into the report."""
        machine_info["fedbench"] = version_tags()
        if self.yardsticks:
            start, end = self.yardsticks[0], self.yardsticks[-1]
            machine_info["yardsticks"] = {"start": asdict(start), "end": asdict(end)}

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Leave out what failed, if only after it was timed, and give every other benchmark its rates."""
        kept = [each for each in output_json["benchmarks"] if each["fullname"] not in self.failed]
        output_json["benchmarks"] = kept
        if self.yardsticks:
            mean = self.yardsticks[0].mean(self.yardsticks[-1])
            for each in kept:
                each["extra_info"] |= rates(each["stats"]["median"], each["extra_info"], mean)


def rates(median: float, extra_info: dict[str, Any], yardsticks: Yardsticks) -> dict[str, float]:
    """What follows from a benchmark's median time in seconds and the ``flops`` or ``bytes`` of one call.

    ``gflops_per_second``, ``gbytes_per_second``, and ``yardstick_multiple``: the time over that which the yardstick
    takes for as many FLOPs or bytes on one thread.
    """
    flops, num_bytes = extra_info.get("flops", 0), extra_info.get("bytes", 0)
    multiple = yardsticks.multiple(median, flops, num_bytes)
    return {
        **({"gflops_per_second": flops / median / 1e9} if flops else {}),
        **({"gbytes_per_second": num_bytes / median / 1e9} if num_bytes else {}),
        **({"yardstick_multiple": multiple} if multiple is not None else {}),
    }


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("benchmark")
    return str(marker.kwargs.get("group", "")) if marker else ""


def _name(nodeid: str) -> str:
    file, _, name = nodeid.rpartition("::")
    return name.removeprefix(PREFIX) if file else nodeid  # a file that cannot be imported has no more than its own


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr).strip().rpartition("\n")[2]
    return " ".join(text.removeprefix("E ").split())[:300]
