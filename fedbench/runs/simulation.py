"""One run: a spec, a seed and a dataset in, its rounds and its result out. Writes its checkpoint only."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fedbench.core import (
    Accumulator,
    Architecture,
    ClientData,
    ClientUpdate,
    Evaluation,
    RoundResult,
    accumulator_of,
    evaluate,
    fedavg,
)
from fedbench.core.trainer import initial_model
from fedbench.measures import MAX_CLIENTS_MEASURED, Line, RunResult, Verdict, judge, run_result
from fedbench.runs.alignment import Correlations, barriers, lines_for_comparison, plain_metrics, unit_correlations
from fedbench.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from fedbench.runs.clients import Clients, clients_of, warn_of_idle
from fedbench.runs.computing import bits_depend_on, computed_with
from fedbench.runs.events import Event, Job, RoundDone, RunDone
from fedbench.runs.metrics import (
    THETAS,
    ClientModels,
    client_metrics,
    digests_of,
    interpolation,
    round_metrics,
    target_metrics,
    unmet_requirement,
)
from fedbench.util.environment import version_tags
from fedbench.util.errors import RunError, one_line

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.suites.schema import CellSpec, RunSpec

Threads = Callable[[], int]

HOW_TO_AGREE = "FEDBENCH_KERNELS=torch for the command and its workers makes PyTorch compute everywhere"
FREE_SAVING = 0.02  # seconds; a checkpoint that is saved as quickly is saved after each round
SHARE_OF_SAVING = 0.05  # of a run's time, otherwise


def simulate(job: Job, dataset: Dataset, device: str = "cpu", num_threads: Threads = lambda: 1) -> Iterator[Event]:
    """Run Federated Averaging for one spec and one seed, resuming from its checkpoint if there is one.

    `num_threads`, asked each round, is how many clients train and how many test batches are evaluated at once on a CPU.
    Rounds that the checkpoint holds are re-emitted. An error ends the run in a `RunDone` with the verdict `failed` and
    the error as its reason.
    """
    try:
        yield from _rounds(job, dataset, torch.device(device), num_threads if device == "cpu" else lambda: 1)
    except Exception as error:
        yield RunDone(job.run, RunResult(Verdict.FAILED, one_line(error) + _own_place(error, job.run.spec)))


def _own_place(error: Exception, spec: CellSpec) -> str:
    """Where in a file of the user's an error was raised, if it came through one."""
    files = {str(part.file) for part in spec.parts if part.file}
    places = [each for each in traceback.extract_tb(error.__traceback__) if each.filename in files]
    return f" ({Path(places[-1].filename).name}, line {places[-1].lineno})" if places else ""


def _rounds(job: Job, dataset: Dataset, device: torch.device, num_threads: Threads) -> Iterator[Event]:
    run, spec = job.run, job.run.spec
    computed = computed_with(spec, device.type)
    if job.computed_with not in ("", computed):
        raise RunError(f"the command computes with {job.computed_with}, this worker with {computed}; {HOW_TO_AGREE}")
    latest = load_checkpoint(job.checkpoint, job.fingerprint, bits_depend_on(computed)) if job.checkpoint else None
    history = list(latest.history) if latest else []
    for t, metrics in enumerate(history, start=1):
        yield RoundDone(run, t, metrics)
    if latest and _is_over(spec, history[-1]):
        yield run_done(run, latest, device.type)
        return
    with record_function("fedbench/data"):
        clients = clients_of(run, dataset, device)
        warn_of_idle(run, clients)
        if spec.interpolation and len(clients.participants) < 2:
            raise RunError("interpolation: it is between two models, and one of the two clients has no examples")
        test_set = ClientData(dataset.normalise(dataset.test_images).to(device), dataset.test_labels.to(device))
    measure = partial(_measure, test_set, num_threads)
    own, saving = ClientModels(), _Saving(job, bits_depend_on(computed))
    observe = own.updates.append if spec.clients_per_round <= MAX_CLIENTS_MEASURED else None
    started = time.perf_counter()
    for result in fedavg_rounds(spec, run.seed, clients, latest, num_threads, observe):
        trained = time.perf_counter()
        evaluation = measure(result.model)
        metrics = round_metrics(result, evaluation, own, dataset.class_names)
        lines: dict[str, Line] = {}
        units: Correlations = {}
        is_last = result.round == spec.rounds or _is_over(spec, metrics)
        if is_last:
            metrics |= client_metrics(result, own, measure, metrics["accuracy"])
            if result.aligned and own.updates:
                weights = [len(clients[k]) if spec.weights == "examples" else 1 for k in result.selected_clients]
                metrics |= plain_metrics(result, own, weights, spec.average_frozen, measure, metrics)
            metrics |= target_metrics(spec, [*history, metrics], result)
            if spec.interpolation:
                examples = test_set if spec.interpolation_set == "test" else _training_set(dataset, device)
                on_the_line = partial(_measure, examples, num_threads)
                lines[""] = interpolation(result, own, on_the_line, THETAS[spec.interpolation_set])
                if result.aligned:
                    architecture = Architecture(result.model, test_set.inputs)  # once, since finding it takes long
                    repairs_with = _inputs_of_repair(spec, clients)
                    lines |= lines_for_comparison(result, own, on_the_line, architecture, repairs_with)
                    units = unit_correlations(result, own, architecture, test_set.inputs)
                metrics |= barriers(lines)
        times = {"training_seconds": trained - started, "evaluation_seconds": time.perf_counter() - trained}
        history.append(metrics | times)
        if is_last or saving.is_due():
            server = result.server.to(torch.device("cpu"))
            confusion, line = torch.from_numpy(evaluation.confusion), lines.pop("", ())
            latest = Checkpoint(server, tuple(history), confusion, line, lines, units)
            saving.save(latest)
        yield RoundDone(run, result.round, history[-1], digests_of(result, own) if job.digests else None)
        if is_last:
            break
        own.updates.clear()
        started = time.perf_counter()
    assert latest is not None  # noqa: S101 - there is at least one round
    yield run_done(run, latest, device.type)


@dataclass
class _Saving:
    """Saves a run's checkpoint after a round, but not so often that it takes much of the run's time."""

    job: Job
    made_by: str
    next_time: float = 0.0

    def is_due(self) -> bool:
        return self.job.checkpoint is not None and time.monotonic() >= self.next_time

    def save(self, checkpoint: Checkpoint) -> None:
        if self.job.checkpoint is None:
            return
        began = time.monotonic()
        save_checkpoint(self.job.checkpoint, self.job.fingerprint, checkpoint, self.made_by)
        ended = time.monotonic()
        if ended - began > FREE_SAVING:
            self.next_time = ended + (ended - began) / SHARE_OF_SAVING


def _measure(examples: ClientData, num_threads: Threads, model: nn.Module) -> Evaluation:
    with record_function("fedbench/evaluation"):
        return evaluate(model, examples.inputs, examples.labels, num_threads())


def _inputs_of_repair(spec: CellSpec, clients: Clients) -> Tensor | None:
    """The public examples that an average is repaired with; None if it is not."""
    rule = spec.part("aggregation")
    return clients.public_inputs(rule.num_public) if getattr(rule, "repair", False) else None


def _training_set(dataset: Dataset, device: torch.device) -> ClientData:
    return ClientData(dataset.normalise(dataset.train_images).to(device), dataset.train_labels.to(device))


def _is_over(spec: CellSpec, metrics: Mapping[str, float]) -> bool:
    """Whether a run ends with this round: its loss is no longer finite, or it stops at its target."""
    is_there = spec.target_accuracy is not None and metrics["accuracy"] >= spec.target_accuracy
    return not math.isfinite(metrics["loss"]) or (spec.stop_at_target and is_there)


def run_done(run: RunSpec, final: Checkpoint, device: str = "cpu") -> RunDone:
    """The end of a run, judged by its last round."""
    last = final.history[-1]
    verdict, reason = judge(Evaluation(last["loss"], final.confusion.numpy()))
    if unmet := unmet_requirement(run.spec, final.history):
        verdict, reason = Verdict.FAILED, unmet
    tags = version_tags(device) | {"fedbench.computed_with": computed_with(run.spec, device)}
    return RunDone(run, replace(run_result(verdict, reason, last), computed_by=tags), final)


def _aggregation(spec: CellSpec, seed: int, clients: Clients) -> Callable[[], Accumulator]:
    """What makes the accumulators of a run's rounds."""
    rule = spec.part("aggregation")
    if not hasattr(rule, "for_model"):
        return accumulator_of(rule)
    model = initial_model(spec.build_model, seed, client=0).to(clients.device)
    try:
        made: Callable[[], Accumulator] = rule.for_model(model, clients.public_inputs(getattr(rule, "num_public", 0)))
    except RunError as error:
        raise RunError(f"aggregation {spec.aggregation}: {error}") from None
    return made


def fedavg_rounds(
    spec: CellSpec,
    seed: int,
    clients: Clients,
    checkpoint: Checkpoint | None = None,
    num_threads: Threads = lambda: 1,
    observe: Callable[[ClientUpdate], object] | None = None,
) -> Iterator[RoundResult]:
    """Call `fedavg` as `spec` says."""
    return fedavg(
        spec.build_model,
        clients,
        rounds=spec.rounds,
        local_epochs=spec.local_epochs,
        learning_rate=spec.learning_rate,
        batch_size=spec.batch_size,
        client_fraction=spec.client_fraction,
        init=spec.init,
        seed=seed,
        algorithm=spec.part("algorithm"),
        optimiser=spec.part("optimiser"),
        learning_rate_decay=spec.learning_rate_decay,
        clip_norm=spec.clip_norm,
        augmentation=spec.augment,
        aggregation=_aggregation(spec, seed, clients),
        weights=spec.weights,
        average_frozen=spec.average_frozen,
        participants=clients.participants,
        server=checkpoint.server if checkpoint else None,
        observe=observe,
        num_threads=num_threads,
    )
