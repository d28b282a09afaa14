"""What a check finds: for each cell and each benchmark, and as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.stats import Spread
    from fedbench.suites.schema import Cell


class Judgement(StrEnum):
    """How a cell or a benchmark compares with what it was."""

    SAME = "same"  # bit for bit; of accuracy only
    EQUIVALENT = "equivalent"
    NOT_WORSE = "not worse"
    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


MEANINGS = {
    Judgement.SAME: "every bit of every round is the baseline's",
    Judgement.EQUIVALENT: "shown to differ by less than the margin",
    Judgement.NOT_WORSE: "shown not to be worse by the margin or more",
    Judgement.BETTER: "shown to be better by more than the margin",
    Judgement.WORSE: "shown to be worse by more than the margin",
    Judgement.INCONCLUSIVE: "none of these can be shown",
}
STRICT = (Judgement.INCONCLUSIVE, Judgement.BETTER)  # fail a strict check in addition to what fails every check


@dataclass(frozen=True)
class CellCheck:
    """A cell compared with its baseline.

    Attributes
    ----------
    baseline, now
        The metric over the seeds that are compared.
    difference
        Now − baseline.
    interval
        Its 95 % confidence interval, for this cell alone; None with a single seed.
    is_paired
        Whether both sides have the same seeds.
    changed
        Where the first bit differs, as text; None if none does, or if bits are not compared.
    judgement, reason
        `reason` is None where the numbers say it all.
    detectable_effect
        The minimum detectable effect: the true drop that is found `worse` with probability `power.POWER`, by all seeds
        of the baseline where a check may look again; None if the scatter is not known.
    seeds_needed
        How many of the baseline's seeds would show with that probability that an unchanged cell is equivalent; None if
        the scatter of their differences is not known.
    fresh_seeds_needed
        The same for seeds that the baseline does not have; None, too, if no number of them is enough.
    baseline_seeds_needed
        Then how many seeds the baseline must have, with as many new ones.
    first_seeds
        How many seeds suggested a change, so that all of the baseline's were compared; None if there was one look.
    lost
        How many of the models are dead now; see `fedbench.measures.without_skill`.
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
    detectable_effect: float | None = None
    seeds_needed: int | None = None
    fresh_seeds_needed: int | None = None
    baseline_seeds_needed: int | None = None
    first_seeds: int | None = None
    lost: str | None = None

    def suggests_change(self, margin: float) -> bool:
        """Whether the numbers differ by more than the margin, shown or not, and no run is broken."""
        return abs(self.difference) > margin and not (self.judgement is Judgement.WORSE and self.reason)

    def failure(self, is_strict: bool) -> str | None:
        """Why the cell fails the check, with the size of the effect; None if it passes."""
        parts = []
        if self.judgement is Judgement.WORSE or (is_strict and self.judgement in STRICT):
            parts.append(self.reason or f"{self.judgement}: {self._points()}")
        if self.changed:
            parts.append(f"changed: {self.changed}")
        return "; ".join(parts) or None

    def _points(self) -> str:
        points = f"{100 * self.difference:+.1f} points"
        if self.interval is None:
            return points
        low, high = (f"{100 * bound:+.1f}" for bound in self.interval)
        return f"{points} (95 % interval {low} to {high})"


@dataclass(frozen=True)
class AccuracyCheck:
    """A suite compared with its baseline, by a metric and its equivalence margin, a fraction; the runs took `seconds`.

    `baseline_commit` is empty if it is not known. `other_environment` is what differs from the environment of the
    baseline, as text. `compares_bits` says whether any differing bit counts as a change: on a CPU in the baseline's
    environment, unless the user said otherwise.
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
    """A timing benchmark compared with what it was.

    `ratio` is the time now over the time before, 1.1 is 10 % slower; `interval` is its interval for all benchmarks
    together. `before` and `now` are median seconds per call, `samples` is the number of pairs of timings.
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

    def failure(self, is_strict: bool) -> str | None:
        """Why the benchmark fails the check; None if it passes."""
        if self.judgement is Judgement.WORSE:
            return self.reason or f"slower: {self.ratio:.2f} times as long"
        if is_strict and self.judgement is Judgement.INCONCLUSIVE:
            return self.reason or "inconclusive: it may be slower"
        return None


@dataclass(frozen=True)
class SpeedCheck:
    """The timing benchmarks compared with a revision: `against` as the user named it, `against_commit` its commit.

    A benchmark is slower if its ratio is above `threshold`; `machine` is the processor's name and the number of cores.
    """

    against: str
    against_commit: str
    threshold: float
    machine: str
    benchmarks: tuple[BenchmarkCheck, ...]
    seconds: float


@dataclass(frozen=True)
class Gate:
    """A whole check: of accuracy, of speed, or of both. `is_strict`: whether what is inconclusive or better fails."""

    accuracy: AccuracyCheck | None
    speed: SpeedCheck | None
    is_strict: bool = False

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """The labels of the cells and the names of the benchmarks that fail the check, each with the reason."""
        cells = self.accuracy.cells if self.accuracy else ()
        benchmarks = self.speed.benchmarks if self.speed else ()
        return (
            *((each.cell.label, why) for each in cells if (why := each.failure(self.is_strict))),
            *((each.name, why) for each in benchmarks if (why := each.failure(self.is_strict))),
        )

    @property
    def failures(self) -> tuple[str, ...]:
        """The same, one line each; empty if the check has passed."""
        return tuple(f"{name}: {why}" for name, why in self.failed)

    @property
    def has_passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failed
