"""One trial computed: a configuration trained from several seeds side by side, round by round, and validated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from fedbench.core import Evaluation, RoundResult, evaluate
from fedbench.measures import Verdict, judge, judge_cell, rounds_to_target
from fedbench.runs.clients import clients_of
from fedbench.runs.simulation import fedavg_rounds
from fedbench.suites.schema import CellSpec, RunSpec
from fedbench.suites.tune import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.datasets import Dataset

MEASURED = ("accuracy", "balanced_accuracy", "loss", "train_loss")  # of each round


@dataclass(frozen=True)
class Validation:
    """Where trials are computed and what they are measured on.

    Attributes
    ----------
    dataset
        Its test examples are the validation split (see `fedbench.datasets.validation`).
    num_threads
        How many clients train, and how many batches are evaluated, at once on a CPU.
    """

    dataset: Dataset
    device: torch.device
    num_threads: int = 1

    @cached_property
    def examples(self) -> tuple[Tensor, Tensor]:
        """Inputs (N, C, H, W) and labels (N,) on the device."""
        inputs = self.dataset.normalise(self.dataset.test_images)
        return inputs.to(self.device), self.dataset.test_labels.to(self.device)


@dataclass
class SeedProgress:
    """One seed of a trial so far: its rounds' metrics, by name, and its model's last evaluation."""

    rounds: list[dict[str, float]]
    evaluation: Evaluation | None = None

    @property
    def has_diverged(self) -> bool:
        """Whether its loss is no longer finite."""
        return bool(self.rounds) and not math.isfinite(self.rounds[-1]["loss"])

    def add(self, result: RoundResult, evaluation: Evaluation) -> None:
        """Take up what a round came to."""
        self.evaluation = evaluation
        self.rounds.append(
            {
                "accuracy": evaluation.accuracy,
                "balanced_accuracy": evaluation.balanced_accuracy,
                "loss": evaluation.loss if math.isfinite(evaluation.loss) else math.inf,
                "train_loss": result.train_loss if math.isfinite(result.train_loss) else math.inf,
            }
        )


def train_and_validate(spec: CellSpec, seeds: Sequence[int], validation: Validation) -> Iterator[list[SeedProgress]]:
    """Train `spec` from each seed and yield all seeds' progress after each round.

    A seed that diverged stays as it is; when all have, that is the last round.
    """
    num_threads = validation.num_threads if validation.device.type == "cpu" else 1
    runs = [RunSpec(suite="", scenario="", cell="", spec=spec, seed=seed) for seed in seeds]
    under_way = [
        fedavg_rounds(
            spec,
            run.seed,
            clients_of(run, validation.dataset, validation.device),
            num_threads=lambda: num_threads,
        )
        for run in runs
    ]
    progress = [SeedProgress([]) for _ in seeds]
    for _ in range(spec.rounds):
        for seed, rounds in zip(progress, under_way, strict=True):
            if not seed.has_diverged:
                result = next(rounds)
                seed.add(result, evaluate(result.model, *validation.examples, num_threads))
        yield progress
        if all(seed.has_diverged for seed in progress):
            return


def mean_rounds(progress: Sequence[SeedProgress]) -> tuple[dict[str, float], ...]:
    """The means over seeds of each round's metrics; a seed that ended early counts with its last round."""
    count = max((len(seed.rounds) for seed in progress), default=0)
    return tuple(
        {
            name: math.fsum(seed.rounds[min(t, len(seed.rounds) - 1)][name] for seed in progress) / len(progress)
            for name in MEASURED
        }
        for t in range(count)
    )


def verdict_of(progress: Sequence[SeedProgress]) -> tuple[Verdict, str | None]:
    """The worst verdict of the seeds' models on the validation split."""
    judged = [judge(seed.evaluation) for seed in progress if seed.evaluation is not None]
    return judge_cell([verdict for verdict, _ in judged], [reason for _, reason in judged])


def objective_value(objective: Objective, target: float | None, rounds: Sequence[dict[str, float]]) -> float:
    """What a seed's rounds are worth; `target` is for `rounds_to_target`.

    Where that is not reached, it is one more than the rounds plus what the accuracy lacks, so that what came nearer
    ranks before.
    """
    if objective is not Objective.ROUNDS_TO_TARGET:
        return rounds[-1][objective]
    assert target is not None  # noqa: S101 - the plan has seen to it
    accuracies = [metrics["accuracy"] for metrics in rounds]
    reached = rounds_to_target(accuracies, target)
    return len(rounds) + 1 + target - max(accuracies) if reached is None else reached
