"""What a run's numbers mean: the verdict on a run and on the seeds of a cell. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedbench.core import Evaluation

CHANCE_LEVEL = 0.05  # significance level of each of the two tests behind a verdict
SHUFFLES = 4_999  # of the permutation test
CLIENT_ACCURACY = "client_accuracy/"  # a metric's name; the client's number follows
ROUNDS_TO_TARGET = "rounds_to_target"  # a metric's name
BARRIER = "barrier"  # a metric's name
BARRIERS = (BARRIER, f"plain_{BARRIER}", f"repaired_{BARRIER}")  # of which line
AVERAGING_GAIN = "averaging_gain"  # a metric's name: of the average over the clients' own models
PLAIN_ACCURACY = "plain_accuracy"  # a metric's name: of the weighted mean, where models are aligned before it
PLAIN_GAIN = "plain_gain"  # a metric's name: as the averaging gain, of that mean
RECOVERED = "recovered"  # a metric's name
GAP_ERRORS = 2  # standard errors above which a run's gap is meaningful
BYTES_TO_TARGET = "bytes_to_target"  # a metric's name: what the clients send in so many rounds
LABEL_SKEW = "label_skew"  # a metric's name; it describes the partition, not a round
TIMES = ("training_seconds", "evaluation_seconds", "tracking_seconds")  # metrics that no seed determines
MAX_CLIENTS_MEASURED = 20  # with more clients a round, their own models are not measured
NOT_RESULTS = (*TIMES, LABEL_SKEW)  # metrics that are no part of a run's result

Line = tuple[tuple[float, float, float], ...]  # (θ, loss, accuracy) of models on the line between two


class Verdict(StrEnum):
    """How a run ended, from best to worst."""

    OK = "ok"
    BELOW_MAJORITY = "below majority"
    COLLAPSED = "collapsed"
    DIVERGED = "diverged"
    FAILED = "failed"
    SKIPPED = "skipped"


DEAD = (Verdict.COLLAPSED, Verdict.DIVERGED)  # of a model that has learned nothing, or is lost
MEANINGS = {
    Verdict.BELOW_MAJORITY: "the model tells classes apart (its balanced accuracy is above chance), but is not shown "
    "to be right more often than always predicting the largest class",
    Verdict.COLLAPSED: "the model predicts one class for every image, or its balanced accuracy is not shown to be "
    "above chance: its accuracy is the class balance of the test set, not skill",
    Verdict.DIVERGED: "the loss is no longer a finite number: the learning rate is too high",
    Verdict.FAILED: "a run ended with an error or missed what its scenario requires",
    Verdict.SKIPPED: "the cell asks for more training examples than the dataset has",
}


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes
    ----------
    verdict, reason
        `reason` is None for `ok`.
    metrics
        The final values of the per-round metrics, by name, without those of time; empty for a run that failed before
        its first round.
    client_accuracy
        By client, the accuracy of its own model before the last average; empty if that was not measured.
    computed_by
        The tags that say what computed it; empty if that is not known.
    """

    verdict: Verdict
    reason: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    client_accuracy: Mapping[int, float] = field(default_factory=dict)
    computed_by: Mapping[str, str] = field(default_factory=dict, compare=False)


def run_result(verdict: Verdict, reason: str | None, metrics: Mapping[str, float]) -> RunResult:
    """A run's result from all metrics of its last round."""
    clients = sorted(int(key.removeprefix(CLIENT_ACCURACY)) for key in metrics if key.startswith(CLIENT_ACCURACY))
    others = {key for key in metrics if key in NOT_RESULTS or key.startswith(CLIENT_ACCURACY)}
    kept = {key: value for key, value in metrics.items() if key not in others}
    return RunResult(verdict, reason, kept, {client: metrics[f"{CLIENT_ACCURACY}{client}"] for client in clients})


def judge(evaluation: Evaluation) -> tuple[Verdict, str | None]:
    """The verdict on a model by its evaluation on the test set, and the reason where it is not `ok`.

    A model is ``ok`` if it beats always predicting the largest class: of the examples that exactly one of the two gets
    right, the model has the larger share by a one-sided exact sign test (McNemar's test; both are scored on the same
    examples). Else it is ``below majority`` if it `is_above_chance`, and has ``collapsed`` if not. An accuracy above
    the majority rate implies a balanced accuracy above chance, so what passes the first test needs no second one.
    """
    from scipy.special import bdtrc  # scipy.stats has the test by name, but takes half a second to import

    if not math.isfinite(evaluation.loss):
        return Verdict.DIVERGED, "the loss is not finite"
    if len(classes := evaluation.predicted_classes) == 1:
        return Verdict.COLLAPSED, f"predicts class {classes[0]} for every image"
    confusion = evaluation.confusion
    majority = int(confusion.sum(axis=1).argmax())
    gained = evaluation.num_correct - int(confusion[majority, majority])
    lost = int(confusion[majority].sum() - confusion[majority, majority])
    p_value = bdtrc(gained - 1, gained + lost, 0.5) if gained > 0 else 1.0  # of `gained` or more heads
    if p_value <= CHANCE_LEVEL:
        return Verdict.OK, None
    if is_above_chance(confusion):
        return Verdict.BELOW_MAJORITY, (
            f"accuracy {evaluation.accuracy:.1%} does not beat the majority rate {evaluation.majority_rate:.1%} "
            "by more than chance"
        )
    return Verdict.COLLAPSED, (
        f"balanced accuracy {evaluation.balanced_accuracy:.1%} is not shown to be above chance "
        f"({1 / np.count_nonzero(confusion.sum(axis=1)):.1%})"
    )


def is_above_chance(confusion: NDArray[np.int64]) -> bool:
    """Whether a balanced accuracy is above that of predictions that do not depend on the images, by more than chance.

    A one-sided permutation test at `CHANCE_LEVEL` (Ojala and Garriga 2010, JMLR 11, p. 1833): how often the balanced
    accuracy is as high if the same predictions are dealt to the examples at random. That keeps how large each class is
    and how often the model names it, so it holds for few examples, for rare classes and for a model that names two
    classes of seven. The p-value counts the observed table as one of ``SHUFFLES + 1`` (Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585); the seed is fixed.

    Parameters
    ----------
    confusion
        (C, C): ``confusion[i, j]`` examples of class i were predicted as class j. Chance is 1 / the number of classes
        that have examples; a prediction of another class counts as a guess among these.
    """
    sizes, named = confusion.sum(axis=1), confusion.sum(axis=0)
    weights = np.divide(1.0, sizes, where=sizes > 0, out=np.zeros(len(sizes)))
    recalls = float(confusion.diagonal() @ weights)  # the sum over classes; 1 at chance
    if recalls <= 1:
        return False
    classes = np.arange(len(sizes))
    labels, predictions = np.repeat(classes, sizes), np.repeat(classes, named)
    as_high = (recalls - named[sizes == 0].sum() / len(labels)) * (1 - 1e-9)  # equal sums may differ in the last bits
    generator = np.random.default_rng(0)
    reached = 1
    for _ in range(SHUFFLES):
        hits = labels[labels == generator.permutation(predictions)]
        reached += bool(np.bincount(hits, minlength=len(sizes)) @ weights >= as_high)
        if reached > CHANCE_LEVEL * (SHUFFLES + 1):
            return False
    return True


def judge_cell(verdicts: Sequence[Verdict], reasons: Sequence[str | None]) -> tuple[Verdict, str | None]:
    """The worst verdict among a cell's seeds; the reason says how many seeds share it and gives the first one's."""
    order = list(Verdict)
    worst = max(verdicts, key=order.index)
    if worst is Verdict.OK:
        return worst, None
    reason = next(reason for verdict, reason in zip(verdicts, reasons, strict=True) if verdict is worst)
    return worst, f"{verdicts.count(worst)} of {len(verdicts)} seeds: {reason}"


def without_skill(verdicts: Sequence[Verdict]) -> str | None:
    """``collapsed in 3 of 5 seeds``: how many of a cell's models are dead; None if none is."""
    counts = [f"{each} in {count}" for each in DEAD if (count := verdicts.count(each))]
    return f"{', '.join(counts)} of {len(verdicts)} seeds" if counts else None


def rounds_to_target(accuracies: Sequence[float], target: float) -> float | None:
    """The number of rounds after which the accuracy reaches `target`; None if it does not.

    As in the paper (McMahan et al., 2017, section 3): each round's accuracy is replaced by the best so far, and
    between two rounds it is interpolated linearly. `accuracies` are fractions, from round 1 on; a target reached in
    round 1 is reached after 1 round.
    """
    best = 0.0
    for t, accuracy in enumerate(accuracies, start=1):
        if accuracy >= target:
            return t - 1 + (target - best) / (accuracy - best) if t > 1 else 1.0
        best = max(best, accuracy)
    return None


def barrier(line: Line) -> float | None:
    """The loss barrier between two models: how far the line between them rises above the line between their losses.

    The largest excess of the loss at θ over θ·L(1) + (1 − θ)·L(0), for θ in [0, 1]; it is 0 at the two models, so never
    below 0 (Frankle et al. 2020, arXiv:1912.05671, section 2; Entezari et al. 2022, arXiv:2110.06296, equation 1).

    Parameters
    ----------
    line
        (θ, loss, accuracy) of models between and beyond two models, which are among them: θ = 0 and θ = 1.

    Returns
    -------
    float or None
        In the unit of the loss. Infinite if a loss between the models is not finite; None if one of the two's is not.
    """
    losses = {theta: loss for theta, loss, _ in line if 0 <= theta <= 1}
    first, last = losses[0.0], losses[1.0]
    if not (math.isfinite(first) and math.isfinite(last)):
        return None
    if not all(map(math.isfinite, losses.values())):
        return math.inf
    return max(0.0, *(loss - (theta * last + (1 - theta) * first) for theta, loss in losses.items()))


def recovered(gain: float, plain_gain: float, plain_accuracy: float, num_examples: int) -> float | None:
    """What an average of aligned models recovers of the gap between the plain average and the clients' own models.

    That is (average − plain) / (clients' mean − plain). None if the gap is not meaningful: not above `GAP_ERRORS`
    standard errors, as if the two accuracies were of test sets of their own, which is more than of the same one.

    Parameters
    ----------
    gain, plain_gain
        How much higher the accuracy of the average, and of the plain one, is than the mean of the clients' own.
    num_examples
        Of the test set.
    """
    gap = -plain_gain
    rates = (plain_accuracy, plain_accuracy + gap)
    error = math.sqrt(sum(rate * (1 - rate) for rate in rates) / num_examples)
    return (gain + gap) / gap if gap > GAP_ERRORS * error else None
