"""Timings for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from fedbench.reports.fitted import Column, Fitted
from fedbench.util.text import duration

if TYPE_CHECKING:
    from fedbench.bench.run import BenchmarkResult, Measured
    from fedbench.bench.yardsticks import Yardsticks

NOTEWORTHY_DRIFT = 0.1  # of a yardstick, from the start to the end


def speed_table(measured: Measured) -> RenderableType:
    """One line per benchmark, and the yardsticks below."""
    found = measured.results
    table = Fitted(
        Column("benchmark", [each.name for each in found], is_text=True),
        Column("median", [duration(each.median) for each in found]),
        Column("IQR", [duration(each.iqr) for each in found], drop=1),
        Column("timing rounds", [str(each.timing_rounds) for each in found], drop=3),
        Column("rate", [_rate(each) for each in found], drop=2),
        Column(
            "of the yardstick",
            [f"{each.rates['yardstick_multiple']:.2f}x" if each.rates else "" for each in found],
        ),
    )
    return Group(table, "", *_yardsticks(measured))


def _yardsticks(measured: Measured) -> list[str]:
    if measured.yardsticks is None:
        return []
    start, end = measured.yardsticks
    drift = start.drift(end)
    lines = [measured.machine, _mean(start.mean(end))]
    if abs(drift) > NOTEWORTHY_DRIFT:
        lines.append(f"A yardstick changed by {drift:+.0%} from start to end: measure again when nothing else runs.")
    return lines


def _mean(mean: Yardsticks) -> str:
    flops = f"{mean.flop_rate / 1e9:.0f} GFLOP/s on one thread, {mean.flop_rate_all_cores / 1e9:.0f} on all cores"
    copy = f"{mean.bandwidth / 1e9:.1f} GB/s, {mean.bandwidth_all_cores / 1e9:.1f} on all cores"
    return f"Yardsticks: matrix product {flops}; copy {copy}."


def _rate(result: BenchmarkResult) -> str:
    if (flops := result.rates.get("gflops_per_second")) is not None:
        return f"{flops:.1f} GFLOP/s"
    return f"{result.rates['gbytes_per_second']:.2f} GB/s" if result.rates else ""
