"""One run computed: a spec, a seed and a dataset in, its rounds and its result out. Only its checkpoint is written."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fedbench.algorithms import make_algorithm
from fedbench.core import (
    ClientData,
    Evaluation,
    OrderedMap,
    RoundResult,
    distance,
    evaluate,
    fedavg,
    interpolate,
)
from fedbench.measures import CLIENT_ACCURACY, ROUNDS_TO_TARGET, RunResult, Verdict, judge, rounds_to_target, run_result
from fedbench.models import build_model
from fedbench.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from fedbench.runs.clients import Clients, clients_of, warn_of_idle
from fedbench.runs.events import Digests, Event, Job, RoundDone, RunDone
from fedbench.util.errors import one_line

if TYPE_CHECKING:
    from fedbench.datasets import Dataset
    from fedbench.suites.schema import CellSpec, RunSpec

Measure = Callable[[nn.Module], Evaluation]  # of a model on some examples

FREE_SAVING = 0.02  # seconds; a checkpoint that is saved as quickly is saved after each round
SHARE_OF_SAVING = 0.05  # of a run's time, otherwise
MAX_CLIENTS_MEASURED = 20  # above this many clients a round, their own models are not measured
THETAS = {  # between the models of the paper's figure 1, which has 50 in [-0.2, 1.2]; by what they are measured on
    "test": tuple(round(-0.2 + 0.05 * step, 2) for step in range(29)),
    "train": tuple(round(-0.2 + 0.02 * step, 2) for step in range(71)),
}


def simulate(job: Job, dataset: Dataset, device: str = "cpu", spread: OrderedMap = map) -> Iterator[Event]:
    """Run Federated Averaging for one spec and one seed, from its checkpoint on if there is one.

    On a CPU `spread` goes through the clients of a round and the batches of the test set. Rounds that the checkpoint
    holds are told again. Whatever error the run dies of ends in a `RunDone` with the verdict `failed` and the error as
    its reason.
    """
    try:
        yield from _rounds(job, dataset, torch.device(device), spread if device == "cpu" else map)
    except Exception as error:
        yield RunDone(job.run, RunResult(Verdict.FAILED, one_line(error)))


def _rounds(job: Job, dataset: Dataset, device: torch.device, spread: OrderedMap) -> Iterator[Event]:
    run, spec = job.run, job.run.spec
    latest = load_checkpoint(job.checkpoint, job.fingerprint) if job.checkpoint else None
    history = list(latest.history) if latest else []
    for t, metrics in enumerate(history, start=1):
        yield RoundDone(run, t, metrics)
    with record_function("fedbench/data"):
        clients = clients_of(run, dataset, device)
        warn_of_idle(run, clients)
        test_set = ClientData(dataset.normalise(dataset.test_images).to(device), dataset.test_labels.to(device))
    measure = partial(_measure, test_set, spread)
    saving = _Saving(job)
    started = time.perf_counter()
    if not (latest and _is_over(spec, history[-1])):
        for result in fedavg_rounds(spec, run.seed, clients, latest, spread):
            trained = time.perf_counter()
            evaluation = measure(result.model)
            metrics = round_metrics(result, evaluation, dataset.class_names)
            line: tuple[tuple[float, float, float], ...] = ()
            is_last = result.round == spec.rounds or _is_over(spec, metrics)
            if is_last:
                metrics |= client_metrics(result, measure, metrics["accuracy"])
                metrics |= target_metrics(spec, [*history, metrics])
                if spec.interpolation:
                    line = interpolation(result, spec, measure, partial(_training_set, dataset, device), spread)
            times = {"training_seconds": trained - started, "evaluation_seconds": time.perf_counter() - trained}
            history.append(metrics | times)
            if is_last or saving.is_due():
                confusion = torch.from_numpy(evaluation.confusion)
                latest = Checkpoint(_copy(result.model), tuple(history), confusion, line, result.memory)
                saving.save(latest)
            yield RoundDone(run, result.round, history[-1], digests_of(result) if job.digests else None)
            if is_last:
                break
            started = time.perf_counter()
    assert latest is not None  # noqa: S101 - there is at least one round
    yield run_done(run, latest)


@dataclass
class _Saving:
    """Saves a run's checkpoint after a round, but not so often that it takes much of the run's time."""

    job: Job
    next_time: float = 0.0

    def is_due(self) -> bool:
        return self.job.checkpoint is not None and time.monotonic() >= self.next_time

    def save(self, checkpoint: Checkpoint) -> None:
        if self.job.checkpoint is None:
            return
        began = time.monotonic()
        save_checkpoint(self.job.checkpoint, self.job.fingerprint, checkpoint)
        ended = time.monotonic()
        if ended - began > FREE_SAVING:
            self.next_time = ended + (ended - began) / SHARE_OF_SAVING


def _measure(examples: ClientData, spread: OrderedMap, model: nn.Module) -> Evaluation:
    with record_function("fedbench/evaluation"):
        return evaluate(model, examples.inputs, examples.labels, spread)


def _training_set(dataset: Dataset, device: torch.device) -> ClientData:
    return ClientData(dataset.normalise(dataset.train_images).to(device), dataset.train_labels.to(device))


def _is_over(spec: CellSpec, metrics: Mapping[str, float]) -> bool:
    """Whether a run ends with this round: it has diverged, so that its loss can only stay not finite, or is to stop."""
    is_there = spec.target_accuracy is not None and metrics["accuracy"] >= spec.target_accuracy
    return not math.isfinite(metrics["loss"]) or (spec.stop_at_target and is_there)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def run_done(run: RunSpec, final: Checkpoint) -> RunDone:
    """The end of a run, judged by its last round."""
    last = final.history[-1]
    verdict, reason = judge(Evaluation(last["loss"], final.confusion.numpy()))
    if unmet := unmet_requirement(run.spec, final.history):
        verdict, reason = Verdict.FAILED, unmet
    return RunDone(run, run_result(verdict, reason, last), final)


def fedavg_rounds(
    spec: CellSpec,
    seed: int,
    clients: Clients,
    checkpoint: Checkpoint | None = None,
    spread: OrderedMap = map,
    keep_client_models: bool = True,
) -> Iterator[RoundResult]:
    """Call `fedavg` as `spec` says; the clients' own models are kept if wanted and few enough to measure."""
    few = keep_client_models and spec.clients_per_round <= MAX_CLIENTS_MEASURED
    return fedavg(
        partial(build_model, spec.model),
        clients,
        rounds=spec.rounds,
        local_epochs=spec.local_epochs,
        learning_rate=spec.learning_rate,
        batch_size=spec.batch_size,
        client_fraction=spec.client_fraction,
        init=spec.init,
        seed=seed,
        algorithm=make_algorithm(spec.algorithm, spec.options_of("algorithm")),
        participants=clients.participants,
        keep_client_models=range(1, spec.rounds + 1) if few else (),
        resume_from=(checkpoint.round, checkpoint.state, checkpoint.memory) if checkpoint else None,
        map_clients=spread,
    )


def round_metrics(result: RoundResult, evaluation: Evaluation, class_names: tuple[str, ...]) -> dict[str, float]:
    """What is measured of every round, by the metric's name. Rates are fractions in [0, 1], losses in nats."""
    drift = {
        client: distance(model, result.model)
        for client, model in zip(result.selected_clients, result.client_models, strict=False)  # all are there, or none
    }
    return {
        "accuracy": evaluation.accuracy,
        "balanced_accuracy": evaluation.balanced_accuracy,
        "loss": evaluation.loss,
        "majority_rate": evaluation.majority_rate,
        "train_loss": result.train_loss,
        **({"client_drift": math.fsum(drift.values()) / len(drift)} if drift else {}),
        **{f"client_drift/{client}": value for client, value in drift.items()},
        **{
            f"recall/{name.replace('/', ' or ')}": float(recall)
            for name, recall in zip(class_names, evaluation.per_class_recall, strict=True)
            if math.isfinite(recall)  # a class without test images has none
        },
    }


def digests_of(result: RoundResult) -> Digests:
    """The digests of a round's averaged model and of its clients' own models."""
    clients = zip(result.selected_clients, result.client_models, strict=False)  # all are there, or none
    return Digests(digest(result.model), {client: digest(model) for client, model in clients})


def digest(model: nn.Module) -> str:
    """The first 64 bits of SHA-256 over a model's parameters and buffers, as 16 hexadecimal digits."""
    total = hashlib.sha256()
    for tensor in model.state_dict().values():
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def client_metrics(result: RoundResult, measure: Measure, accuracy: float) -> dict[str, float]:
    """The accuracy of each selected client's own model, and what the average gained on their mean."""
    accuracies = [measure(model).accuracy for model in result.client_models]
    if not accuracies:
        return {}
    return {
        "averaging_gain": accuracy - math.fsum(accuracies) / len(accuracies),
        **{f"{CLIENT_ACCURACY}{k}": each for k, each in zip(result.selected_clients, accuracies, strict=True)},
    }


def target_metrics(spec: CellSpec, history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """After how many rounds the target was reached; empty if it was not, or there is none."""
    if spec.target_accuracy is None:
        return {}
    reached = rounds_to_target([metrics["accuracy"] for metrics in history], spec.target_accuracy)
    return {} if reached is None else {ROUNDS_TO_TARGET: reached}


def interpolation(
    result: RoundResult,
    spec: CellSpec,
    measure: Measure,
    training_set: Callable[[], ClientData],
    spread: OrderedMap,
) -> tuple[tuple[float, float, float], ...]:
    """(θ, loss, accuracy) of θ·w + (1 − θ)·w′ for `THETAS`, w and w′ being two clients' own models.

    `measure` does so on the test set.
    """
    if spec.interpolation_set == "train":
        measure = partial(_measure, training_set(), spread)
    w, other = result.client_models
    between = ((theta, measure(interpolate(w, other, theta))) for theta in THETAS[spec.interpolation_set])
    return tuple((theta, evaluation.loss, evaluation.accuracy) for theta, evaluation in between)


def unmet_requirement(spec: CellSpec, history: Sequence[Mapping[str, float]]) -> str | None:
    """What the scenario requires and the run did not reach, in words; None if all is well."""
    first, last = history[0], history[-1]
    if spec.require_accuracy is not None and not last["accuracy"] >= spec.require_accuracy:
        return f"accuracy {last['accuracy']:.1%} is below the required {spec.require_accuracy:.1%}"
    if spec.require_loss_fall and not last["train_loss"] < first["train_loss"]:
        return f"the training loss did not fall: {first['train_loss']:.3f} at first, {last['train_loss']:.3f} at last"
    return None
