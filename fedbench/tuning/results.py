"""The results of a study as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from fedbench.measures import Verdict
from fedbench.stats import Spread
from fedbench.suites.schema import CellSpec
from fedbench.tuning.plan import Params, Plan

SUFFIX = ".tuning"  # after a suite's name: the experiment of its studies
TrialState = Literal["complete", "pruned", "failed"]


class Answer(StrEnum):
    """What a study's verification says of the best compared with the default."""

    BETTER = "better"
    UNCLEAR = "no clear difference"
    WORSE = "worse"
    SAME = "the default is best"
    NONE = "no answer"


@dataclass(frozen=True)
class TrialResult:
    """One trial that has ended.

    Attributes
    ----------
    number
        Counted from 0, the default configuration's.
    rounds
        For each round that was computed, the means over seeds on the validation split, by the metrics' names:
        `accuracy`, `balanced_accuracy`, `loss`, `train_loss`. A loss that is not finite is infinite.
    values
        Each seed's objective after the last of these rounds; empty for a trial that failed.
    value
        Their mean, infinitely bad if a seed diverged (see `fedbench.tuning.objective`); None for a trial that failed.
    verdict
        The worst of the seeds' verdicts on the validation split; `failed` with the error as the reason.
    local_steps
        SGD steps of all clients and seeds that it took.
    ended
        When it ended, in seconds since 1970.
    """

    number: int
    state: TrialState
    params: Params
    rounds: tuple[Mapping[str, float], ...]
    values: tuple[float, ...]
    value: float | None
    verdict: Verdict
    reason: str | None
    local_steps: int
    seconds: float
    ended: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """A configuration that was retrained on all training data and tested.

    Attributes
    ----------
    validation
        The objective over the trial's seeds.
    test
        The objective over the fresh seeds, on the test set; None if it could not be tested.
    verdict, reason
        Of the fresh seeds' runs (see `fedbench.measures.judge_cell`).
    local_steps
        SGD steps of all clients of one run.
    run_ids
        MLflow's ids of the fresh seeds' runs, in the order of the seeds.
    """

    trial: int
    params: Params
    spec: CellSpec
    validation: Spread
    test: Spread | None
    verdict: Verdict
    reason: str | None
    local_steps: int
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class TuningResult:
    """A whole study.

    Attributes
    ----------
    best
        None where no trial gave an answer.
    default
        None if its trial failed.
    gain
        How much better the best is than the default on the test set, in the objective's unit, above zero if better, and
        its 95 % interval, paired by seed; None where one is missing, or both are the same.
    fresh_seeds
        On which best and default were tested; empty if there is no best.
    answers
        How often the test set has answered for this study, this answer included.
    fresh_seeds_reused
        Whether another answer was tested on some of the same seeds.
    """

    plan: Plan
    trials: tuple[TrialResult, ...]
    best: Candidate | None
    default: Candidate | None
    gain: tuple[float, tuple[float, float]] | None
    answer: Answer
    reason: str
    seconds: float
    fresh_seeds: tuple[int, ...] = ()
    answers: int = 0
    fresh_seeds_reused: bool = False

    def count(self, state: TrialState) -> int:
        """How many trials ended in this state."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def local_steps(self) -> int:
        """SGD steps of all trials together."""
        return sum(trial.local_steps for trial in self.trials)
