"""One run computed: a spec, a seed and a dataset in, its rounds and its result out. Nothing is recorded here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from fedbench.core import ClientData, Evaluation, Purpose, RoundResult, evaluate, fedavg, num_selected, numpy_stream
from fedbench.errors import one_line
from fedbench.measures import RunResult, Verdict, judge
from fedbench.models import build_model
from fedbench.partitions import make_partition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedbench.datasets import Dataset
    from fedbench.specs import CellSpec, RunSpec

State = Mapping[str, "NDArray[np.generic]"]  # a model's parameters and buffers, by name
MAX_CLIENTS_MEASURED = 20  # above this many clients a round, their own models are not measured


@dataclass(frozen=True)
class Started:
    """A run began to be computed."""

    run: RunSpec


@dataclass(frozen=True)
class RoundDone:
    """A run ended a round, counted from 1. The metrics are those of `round_metrics`."""

    run: RunSpec
    round: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RunDone:
    """A run ended. `state` is the final model's state, by name; None if there is none."""

    run: RunSpec
    result: RunResult
    state: State | None = None


Event = Started | RoundDone | RunDone


def simulate(run: RunSpec, dataset: Dataset, device: str = "cpu") -> Iterator[Event]:
    """Run Federated Averaging for one spec and one seed.

    Whatever error the run dies of ends in a `RunDone` with the verdict `failed` and the error as its reason.
    """
    yield Started(run)
    try:
        yield from _rounds(run, dataset, torch.device(device))
    except Exception as error:
        yield RunDone(run, RunResult(Verdict.FAILED, one_line(error)))


def _rounds(run: RunSpec, dataset: Dataset, device: torch.device) -> Iterator[Event]:
    spec = run.spec
    clients = client_data(run, dataset, device)
    test_inputs = dataset.normalise(dataset.test_images).to(device)
    test_labels = dataset.test_labels.to(device)
    history: list[dict[str, float]] = []
    for result in fedavg_rounds(spec, run.seed, clients):
        evaluation = evaluate(result.model, test_inputs, test_labels)
        history.append(round_metrics(result, evaluation))
        yield RoundDone(run, result.round, history[-1])
        if not math.isfinite(evaluation.loss):
            break  # it can only stay so
    kept = zip(result.selected_clients, result.client_models, strict=False)  # the models are all there, or none is
    client_accuracy = {client: evaluate(model, test_inputs, test_labels).accuracy for client, model in kept}
    verdict, reason = judge(evaluation)
    if unmet := unmet_requirement(spec, history):
        verdict, reason = Verdict.FAILED, unmet
    state: State = {name: tensor.cpu().numpy() for name, tensor in result.model.state_dict().items()}
    yield RunDone(run, RunResult(verdict, reason, history[-1], client_accuracy), state)


def client_data(run: RunSpec, dataset: Dataset, device: torch.device) -> list[ClientData]:
    """Each client's training examples, as the run's partition deals them."""
    spec = run.spec
    stream = numpy_stream(run.seed, Purpose.PARTITION)
    labels = dataset.train_labels.numpy()
    parts = make_partition(spec.partition, labels, spec.num_clients, spec.num_examples, stream)
    return [
        ClientData(dataset.normalise(dataset.train_images[index]).to(device), dataset.train_labels[index].to(device))
        for index in map(torch.from_numpy, parts)
    ]


def fedavg_rounds(spec: CellSpec, seed: int, clients: list[ClientData]) -> Iterator[RoundResult]:
    """Call `fedavg` as `spec` says; the last round keeps the clients' own models if they are few enough to measure."""
    few = num_selected(spec.client_fraction, spec.num_clients) <= MAX_CLIENTS_MEASURED
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
        keep_client_models={spec.rounds} if few else (),
    )


def round_metrics(result: RoundResult, evaluation: Evaluation) -> dict[str, float]:
    """What is recorded of a round, by the metric's name. Rates are fractions in [0, 1], losses in nats."""
    return {
        "accuracy": evaluation.accuracy,
        "balanced_accuracy": evaluation.balanced_accuracy,
        "loss": evaluation.loss,
        "majority_rate": evaluation.majority_rate,
        "train_loss": result.train_loss,
    }


def unmet_requirement(spec: CellSpec, history: list[dict[str, float]]) -> str | None:
    """What the scenario requires and the run did not reach, in words; None if all is well."""
    first, last = history[0], history[-1]
    if spec.require_accuracy is not None and not last["accuracy"] >= spec.require_accuracy:
        return f"accuracy {last['accuracy']:.1%} is below the required {spec.require_accuracy:.1%}"
    if spec.require_loss_fall and not last["train_loss"] < first["train_loss"]:
        return f"the training loss did not fall: {first['train_loss']:.3f} at first, {last['train_loss']:.3f} at last"
    return None
