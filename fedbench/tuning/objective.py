"""What seeds and trials are worth, and which trials can be the answer. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from fedbench.measures import Verdict, rounds_to_target
from fedbench.suites.tune import Objective

if TYPE_CHECKING:
    from fedbench.tuning.plan import Plan
    from fedbench.tuning.results import TrialResult


def objective_value(plan: Plan, rounds: Sequence[Mapping[str, float]]) -> float:
    """The objective of a seed after these rounds, each with its metrics: that of the last round.

    `rounds_to_target` counts rounds until the accuracy reaches the target, interpolated. Where it is not reached, that
    is one more than the most rounds that any trial may have, plus what the best accuracy lacks: it exceeds every number
    of rounds that reached the target, and what came nearer ranks before. A seed that diverged before is infinite.
    """
    if plan.objective is not Objective.ROUNDS_TO_TARGET:
        return rounds[-1][plan.objective]
    assert plan.target is not None  # noqa: S101 - the plan has seen to it
    accuracies = [metrics["accuracy"] for metrics in rounds]
    if (reached := rounds_to_target(accuracies, plan.target)) is not None:
        return reached
    if not math.isfinite(rounds[-1]["loss"]):
        return math.inf
    return plan.most_rounds + 1 + plan.target - max(accuracies)


def trial_value(objective: Objective, values: Sequence[float], has_diverged: bool) -> float:
    """The mean of the seeds' objectives; infinitely bad if a seed diverged, so that it ranks after all others."""
    if has_diverged:
        return math.inf if objective.is_minimised else -math.inf
    return fmean(values)


def can_be_best(objective: Objective, trial: TrialResult) -> bool:
    """Whether a trial is an answer: complete, and neither collapsed nor diverged.

    One below the majority rate is an answer for the balanced accuracy alone.
    """
    accepted = {Verdict.OK}
    if objective is Objective.BALANCED_ACCURACY:
        accepted.add(Verdict.BELOW_MAJORITY)
    return trial.state == "complete" and trial.verdict in accepted
