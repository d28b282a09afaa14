"""One trial computed: a configuration trained from several seeds side by side, round by round, and validated."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import torch
from optuna.exceptions import OptunaError, UpdateFinishedTrialError

from fedbench.core import Evaluation, RoundResult, evaluate
from fedbench.datasets.validation import load_held_out
from fedbench.executors import Work
from fedbench.measures import Verdict, judge, judge_cell
from fedbench.runs.clients import clients_of
from fedbench.runs.data import CHANGED
from fedbench.runs.simulation import fedavg_rounds
from fedbench.suites.schema import CellSpec, RunSpec
from fedbench.suites.tune import Objective
from fedbench.tuning.objective import objective_value, trial_value
from fedbench.tuning.plan import Params, Plan
from fedbench.tuning.storage import open_storage, open_study, storage_errors, trial_id
from fedbench.util.errors import DataError, one_line

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.datasets import Dataset

MEASURED = ("accuracy", "balanced_accuracy", "loss", "train_loss")  # of each round
TENTHS = 10  # of the rounds or the budget, after which trials are compared where their rounds differ


@dataclass(frozen=True)
class TrialJob:
    """A trial to be computed, by Optuna's number of it."""

    number: int
    params: Params = field(hash=False)


@dataclass(frozen=True)
class TrialDone:
    """A trial that has ended: its result as JSON holds it, or None.

    `reason` is how its process died, if it did.
    """

    number: int
    result: dict[str, Any] | None
    reason: str = ""


def held_out_of(plan: Plan, folder: Path | None) -> Dataset:
    """The training data of a plan's dataset, divided for validation: its test examples are the validation split."""
    spec = plan.spec
    divided = load_held_out(spec.dataset, spec.split, plan.validation, folder, spec.part("dataset"))
    return divided.scaled(spec.pixels)


@dataclass(eq=False)
class TrialWork(Work[TrialJob, TrialDone]):
    """Computes the trials of a study.

    Attributes
    ----------
    identity, storage
        Of the study (see `fedbench.tuning.plan.identity`), and the address of Optuna's storage.
    data_dir, device
        See `fedbench.runs.data.DataSource`.
    loaded
        The training data, if it is loaded; its test examples are the validation split.
    digest
        What its digest is, if it is loaded here.
    """

    plan: Plan
    identity: str
    storage: str
    data_dir: Path | None
    device: str
    loaded: Dataset | None = None
    digest: str = ""

    @cached_property
    def held_out(self) -> Dataset:
        """See `held_out_of`."""
        loaded = self.loaded or held_out_of(self.plan, self.data_dir)
        if self.digest and loaded.digest != self.digest:
            raise DataError(f"dataset {self.plan.spec.dataset} is not what the command loaded; {CHANGED}")
        return loaded

    @cached_property
    def examples(self) -> tuple[Tensor, Tensor]:
        """The validation split: inputs (N, C, H, W) and labels (N,) on the device."""
        inputs = self.held_out.normalise(self.held_out.test_images)
        return inputs.to(self.device), self.held_out.test_labels.to(self.device)

    @cached_property
    def _study(self) -> tuple[optuna.storages.RDBStorage, optuna.Study]:
        storage = open_storage(self.storage)
        return storage, open_study(storage, self.plan, self.identity)

    def compute(self, job: TrialJob, num_threads: Callable[[], int]) -> Iterator[TrialDone]:
        """Yield the trial's end. An error of the configuration's is its result; one of the storage's is raised."""
        storage, study = self._study
        with storage_errors(self.storage):
            trial = optuna.Trial(study, trial_id(storage, study, job.number))
            try:
                result = self._result(trial, job.params, num_threads)
            except UpdateFinishedTrialError:  # this process was asleep, and another one took the trial up
                result = None
        yield TrialDone(job.number, result)

    def is_last(self, event: TrialDone) -> bool:
        """It is the only event."""
        del event
        return True

    def failed(self, job: TrialJob, reason: str) -> TrialDone:
        """A trial without a result."""
        return TrialDone(job.number, None, reason)

    def _result(self, trial: optuna.Trial, params: Params, num_threads: Callable[[], int]) -> dict[str, Any]:
        plan = self.plan
        spec = plan.searched_spec(params, len(self.held_out.train_labels))
        began = time.perf_counter()
        progress: Sequence[SeedProgress] = ()
        state, values = "complete", list[float]()
        verdict, reason = Verdict.FAILED, None
        try:
            for progress in train_and_validate(spec, plan.seeds, self, num_threads):
                values = [objective_value(plan, seed.rounds) for seed in progress]
                if _should_prune(trial, plan, spec.rounds, progress, values) and params != plan.default:
                    state = "pruned"
                    break
            verdict, reason = verdict_of(progress)
        except OptunaError:
            raise
        except Exception as error:  # whatever a configuration causes costs its trial, not the study
            state, reason, values = "failed", one_line(error), []
        return {
            "state": state,
            "rounds": [{name: _finite(value) for name, value in each.items()} for each in mean_rounds(progress)],
            "values": [_finite(value) for value in values],
            "verdict": str(verdict),
            "reason": reason,
            "local_steps": sum(spec.local_steps(len(seed.rounds)) for seed in progress),
            "seconds": time.perf_counter() - began,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        digest = self.loaded.digest if self.loaded else self.digest
        given = (self.plan, self.identity, self.storage, self.data_dir, self.device)
        return TrialWork, (*given, None, digest)  # each loads for itself


def _finite(value: float) -> float | None:
    """A number as JSON holds it; a loss may be infinite."""
    return value if math.isfinite(value) else None


def _should_prune(
    trial: optuna.Trial, plan: Plan, rounds: int, progress: Sequence[SeedProgress], values: Sequence[float]
) -> bool:
    """Report the round that has ended to the pruner, unless it is the last of `rounds`, and ask it."""
    done = max(len(seed.rounds) for seed in progress)
    value = trial_value(plan.objective, values, any(seed.has_diverged for seed in progress))
    counts_rounds = plan.objective is Objective.ROUNDS_TO_TARGET
    is_over = done == rounds or all(seed.is_over(plan.target) for seed in progress)
    # Where rounds count, a trial that has ended keeps its value, with which longer ones are compared.
    last = plan.most_rounds - 1 if counts_rounds and is_over else min(done, rounds - 1)
    steps = {_step(plan, rounds, each) for each in range(done, last + 1)} - {_step(plan, rounds, done - 1)}
    for step in sorted(steps):
        trial.report(value, step)
    return bool(steps) and not (counts_rounds and is_over) and trial.should_prune()


def _step(plan: Plan, rounds: int, done: int) -> int:
    """The step at which the pruner compares a trial after `done` of its `rounds`: at equal rounds or local steps."""
    if plan.objective is Objective.ROUNDS_TO_TARGET:
        return TENTHS * done // plan.most_rounds
    return TENTHS * done // rounds if plan.budget == "steps" else done


@dataclass
class SeedProgress:
    """One seed of a trial so far: its rounds' metrics, by name, and its model's last evaluation."""

    rounds: list[dict[str, float]]
    evaluation: Evaluation | None = None

    @property
    def has_diverged(self) -> bool:
        """Whether its loss is no longer finite."""
        return bool(self.rounds) and not math.isfinite(self.rounds[-1]["loss"])

    def is_over(self, target: float | None) -> bool:
        """Whether further rounds change nothing: it diverged, or reached the target if there is one."""
        return self.has_diverged or bool(target and self.rounds and self.rounds[-1]["accuracy"] >= target)

    def add(self, result: RoundResult, evaluation: Evaluation) -> None:
        """Add a round."""
        self.evaluation = evaluation
        self.rounds.append(
            {
                "accuracy": evaluation.accuracy,
                "balanced_accuracy": evaluation.balanced_accuracy,
                "loss": evaluation.loss if math.isfinite(evaluation.loss) else math.inf,
                "train_loss": result.train_loss if math.isfinite(result.train_loss) else math.inf,
            }
        )


def train_and_validate(
    spec: CellSpec, seeds: Sequence[int], work: TrialWork, num_threads: Callable[[], int] = lambda: 1
) -> Iterator[list[SeedProgress]]:
    """Train `spec` from each seed and yield all seeds' progress after each round.

    A seed that diverged or reached the plan's target stays as it is; once all have, that is the last round. On a CPU,
    `num_threads()` clients train and as many batches are evaluated at once.
    """
    device = torch.device(work.device)
    threads = num_threads if device.type == "cpu" else lambda: 1
    runs = [RunSpec(suite="", scenario="", cell="", spec=spec, seed=seed) for seed in seeds]
    under_way = [
        fedavg_rounds(spec, run.seed, clients_of(run, work.held_out, device), num_threads=threads) for run in runs
    ]
    progress = [SeedProgress([]) for _ in seeds]
    for _ in range(spec.rounds):
        for seed, rounds in zip(progress, under_way, strict=True):
            if not seed.is_over(work.plan.target):
                result = next(rounds)
                seed.add(result, evaluate(result.model, *work.examples, threads()))
        yield progress
        if all(seed.is_over(work.plan.target) for seed in progress):
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
