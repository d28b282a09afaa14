"""What the gate found: of each cell and of each benchmark, and of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.stats import Spread
    from fedbench.suites.schema import Cell


class Judgement(StrEnum):
    """What can be said of a cell or a benchmark as against before."""

    SAME = "same"  # bit for bit; of accuracy alone
    EQUIVALENT = "equivalent"  # shown to differ by less than the margin
    NOT_WORSE = "not worse"  # shown to be worse by less than the margin, if at all; of speed: not slower
    BETTER = "better"
    WORSE = "worse"
    CANNOT_TELL = "can't tell"


MEANINGS = {
    Judgement.SAME: "every bit of every round is the baseline's",
    Judgement.EQUIVALENT: "shown to differ by less than the margin",
    Judgement.NOT_WORSE: "shown not to be worse by the margin or more",
    Judgement.BETTER: "shown to be better, and not shown to be so by less than the margin",
    Judgement.WORSE: "shown to be worse, and not shown to be so by less than the margin",
    Judgement.CANNOT_TELL: "none of these can be shown",
}


@dataclass(frozen=True)
class CellCheck:
    """A cell against its baseline.

    Attributes
    ----------
    baseline, now
        The metric over the seeds that are compared.
    difference
        Now − baseline.
    interval
        Its 95 % confidence interval, this cell taken by itself; None with a single seed.
    is_paired
        Whether both are of the same seeds.
    changed
        Where the first bit differs, in words; None if none does, or if bits are not compared.
    judgement, reason
        `reason` is None where the numbers say it all.
    least_effect
        The least true drop that would be found `worse` with a probability of `POWER`, in all cells at once; None if the
        scatter is not known.
    seeds_needed
        How many seeds that the baseline has would show, with a probability of `POWER`, that an unchanged cell is
        equivalent; None if the scatter of their differences is not known.
    fresh_seeds_needed
        The same for seeds that the baseline does not have.
    """

    cell: Cell
    baseline: Spread
    now: Spread
    difference: float
    interval: tuple[float, float] | None
    is_paired: bool
    judgement: Judgement
    changed: str | None = None
    reason: str | None = None
    least_effect: float | None = None
    seeds_needed: int | None = None
    fresh_seeds_needed: int | None = None


@dataclass(frozen=True)
class AccuracyCheck:
    """A suite against its baseline.

    Attributes
    ----------
    metric, margin
        A metric's name, and the difference of it that does not matter; both are fractions.
    baseline_commit
        The commit that the baseline is of; empty if it is not known.
    other_environment
        What is not as it was for the baseline, in words.
    compares_bits
        Whether any difference of a bit is a change: in the baseline's environment, unless that was not wanted.
    seconds
        How long the runs took.
    """

    suite: str
    metric: str
    margin: float
    baseline_commit: str
    other_environment: tuple[str, ...]
    compares_bits: bool
    cells: tuple[CellCheck, ...]
    seconds: float


@dataclass(frozen=True)
class BenchmarkCheck:
    """A timing benchmark against what it was.

    Attributes
    ----------
    ratio
        The time now over the time before: 1.1 is 10 % slower.
    interval
        Its interval, over all benchmarks at once; None where there is none.
    before, now
        Median seconds a call; against a stored file, times the yardstick's time.
    samples
        How many pairs of timings, or repeats, the ratio is from.
    """

    name: str
    group: str
    ratio: float
    interval: tuple[float, float] | None
    before: float
    now: float
    samples: int
    judgement: Judgement
    reason: str | None = None


@dataclass(frozen=True)
class SpeedCheck:
    """The timing benchmarks against a revision or a stored file.

    Attributes
    ----------
    against
        The revision as it was given, or the file.
    against_commit
        Its commit.
    threshold
        The ratio above which a benchmark is slower.
    unit
        Of `BenchmarkCheck.before` and `now`: ``seconds`` or ``yardstick``.
    machine
        The processor's name and how many cores could be used.
    """

    against: str
    against_commit: str
    threshold: float
    unit: str
    machine: str
    benchmarks: tuple[BenchmarkCheck, ...]
    seconds: float


@dataclass(frozen=True)
class Gate:
    """All that one check found. At least one of `accuracy` and `speed` is there.

    Attributes
    ----------
    is_strict
        Whether only what is shown to be in order passes.
    """

    accuracy: AccuracyCheck | None
    speed: SpeedCheck | None
    is_strict: bool = False

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """The labels of the cells and the names of the benchmarks that fail the check, each with why."""
        cells = self.accuracy.cells if self.accuracy else ()
        benchmarks = self.speed.benchmarks if self.speed else ()
        return (
            *((each.cell.label, why) for each in cells if (why := cell_failure(each, self.is_strict))),
            *((each.name, why) for each in benchmarks if (why := benchmark_failure(each, self.is_strict))),
        )

    @property
    def failures(self) -> tuple[str, ...]:
        """The same as a line each; empty if the check has passed."""
        return tuple(f"{name}: {why}" for name, why in self.failed)

    @property
    def has_passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failed


STRICT = (Judgement.CANNOT_TELL, Judgement.BETTER)  # what fails a strict check beside what fails every check


def cell_failure(check: CellCheck, is_strict: bool) -> str | None:
    """Why a cell fails, by how much and how sure that is, in words; None if it passes."""
    parts = []
    if check.judgement is Judgement.WORSE or (is_strict and check.judgement in STRICT):
        parts.append(check.reason or f"{check.judgement}: {_points(check)}")
    if check.changed:
        parts.append(f"changed: {check.changed}")
    return "; ".join(parts) or None


def _points(check: CellCheck) -> str:
    difference = f"{100 * check.difference:+.1f} points"
    if check.interval is None:
        return difference
    low, high = (f"{100 * bound:+.1f}" for bound in check.interval)
    return f"{difference} (95 % interval {low} to {high})"


def benchmark_failure(check: BenchmarkCheck, is_strict: bool) -> str | None:
    """Why a benchmark fails, in words; None if it passes."""
    if check.judgement is Judgement.WORSE:
        return check.reason or f"slower: {check.ratio:.2f} times as long"
    if is_strict and check.judgement is Judgement.CANNOT_TELL:
        return check.reason or "can't tell whether it is slower"
    return None
