"""What the comparison of cells gives: pairs, settings, and an answer for each axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from fedbench.reports.answers.text import ranking, sentence
from fedbench.reports.measure import Measure
from fedbench.stats import TIED


@dataclass(frozen=True)
class Pair:
    """Two values of an axis, compared seed by seed.

    Attributes
    ----------
    seeds
        Those that all compared cells have; `are_all` says whether none has others.
    difference, interval
        Second − first, in the measure's own unit; the 95 % interval, None for one seed, or if all seeds' are equal.
    p_value, num_tests
        Adjusted by Holm's method for so many tests.
    shown
        Whether a difference is shown: by the p-value at 5 %, and by the interval where there is one.
    detectable
        The minimum detectable effect.
    seeds_needed
        How many seeds would show the observed difference, with a probability of 80 % like `detectable`.
    num_settings, higher_in, lower_in
        Over how many settings it is averaged, and in how many of them the second has the higher, the lower mean.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    are_all: bool = True
    num_settings: int = 1
    higher_in: int = 0
    lower_in: int = 0
    interval: tuple[float, float] | None = None
    p_value: float = 1.0
    num_tests: int = 1
    shown: bool = False
    detectable: float | None = None
    seeds_needed: int | None = None

    @property
    def difference(self) -> float:
        """The mean over seeds."""
        return fmean(self.differences)

    @property
    def is_zero(self) -> bool:
        """Whether both have the same value in every seed, but for rounding."""
        return max(map(abs, self.differences)) < TIED


@dataclass(frozen=True)
class Setting:
    """The cells along an axis that are equal in all else, or their average over several such settings.

    Attributes
    ----------
    fixed
        The values of the other axes; empty for the average.
    means
        The mean of each value, over the seeds and settings that all values have; empty if there are none.
    ranks
        The first and the last rank that each compared value may have, the best mean first: 1 plus the number of values
        that are shown to be better, and all minus those that are shown to be worse (Mogstad et al. 2024, Inference for
        Ranks, Review of Economic Studies 91).
    labels
        The label of each value's cell; empty for the average.
    """

    fixed: Mapping[str, str]
    means: Mapping[str, float]
    pairs: tuple[Pair, ...]
    ranks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def pair(self, one: str, other: str) -> Pair | None:
        """The comparison of two values, whichever comes first."""
        return next((each for each in self.pairs if {each.first, each.second} == {one, other}), None)


@dataclass(frozen=True)
class Answer:
    """What the seeds show along one axis of one scenario.

    Attributes
    ----------
    scenario
        Empty if scenarios are compared with each other.
    settings
        One for each combination of the other axes.
    overall
        The average over them; the one setting itself where there is one.
    left_out
        The cells that are named instead of compared: label and reason.
    failed
        The cells that are compared without the seeds that failed: label, and how many seeds these are.
    num_values
        Of an axis that has too many to be compared unless the suite says so; else 0.
    num_scenarios
        How many scenarios there are answers for.
    """

    scenario: str
    axis: str
    measure: Measure
    settings: tuple[Setting, ...]
    overall: Setting
    left_out: Mapping[str, str]
    failed: Mapping[str, str] = field(default_factory=dict)
    num_values: int = 0
    num_scenarios: int = 1

    @property
    def sentence(self) -> str:
        """What a person would write."""
        return sentence(self)

    @property
    def ranking(self) -> str:
        """``1 400 (91.7), 2 to 3 100 (70.8), 2 to 3 25 (48.5)``, of three values or more; else empty."""
        return ranking(self)
