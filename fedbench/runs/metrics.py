"""What is measured of a round and of a run, by the metrics' names. Rates are fractions in [0, 1], losses in nats."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from fedbench.core import (
    ClientUpdate,
    Evaluation,
    FlatModel,
    ModelState,
    RoundResult,
    distance,
    interpolate,
    model_with,
)
from fedbench.measures import AVERAGING_GAIN, BYTES_TO_TARGET, CLIENT_ACCURACY, ROUNDS_TO_TARGET, Line, rounds_to_target
from fedbench.runs.events import Digests

if TYPE_CHECKING:
    from fedbench.suites.schema import CellSpec

T = TypeVar("T")
Measure = Callable[[nn.Module], Evaluation]  # of a model on some examples

THETAS = {  # between the models of the paper's figure 1, which has 50 in [-0.2, 1.2]; by what they are measured on
    "test": tuple(round(-0.2 + 0.05 * step, 2) for step in range(29)),
    "train": tuple(round(-0.2 + 0.02 * step, 2) for step in range(71)),
}


class ClientModels:
    """The clients' own models of a round, before they are averaged: an observer of `fedavg`, cleared each round."""

    def __init__(self) -> None:
        self.updates: list[ClientUpdate] = []
        self._spare: FlatModel | None = None

    def map(
        self, function: Callable[[nn.Module], T], like: nn.Module, aligned: Sequence[ModelState] = ()
    ) -> dict[int, T]:
        """`function` of each client's model, or of the `aligned` ones, by client; `like` has their architecture."""
        if not self.updates:  # with many clients a round none is kept, and no model is copied
            return {}
        spare = self._spare = self._spare or FlatModel(copy.deepcopy(like))
        values = {}
        for update, state in zip(self.updates, aligned or [each.state for each in self.updates], strict=True):
            spare.load(state)
            values[update.client] = function(spare.module)
        return values


def averaged_model(result: RoundResult) -> nn.Module:
    """The average of a round's clients: the server's own model, unless its step moved on from there."""
    return result.model if result.is_average else model_with(result.average, result.model)


def round_metrics(
    result: RoundResult, evaluation: Evaluation, own: ClientModels, class_names: tuple[str, ...]
) -> dict[str, float]:
    """The metrics of every round."""
    average = averaged_model(result) if own.updates else result.model
    drift = own.map(lambda model: distance(model, average), average, result.aligned)
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


def client_metrics(result: RoundResult, own: ClientModels, measure: Measure, accuracy: float) -> dict[str, float]:
    """The accuracy of each client's own model, and what their average gained over the mean of these.

    `accuracy` is that of the server's model. The average is measured too if it is another one.
    """
    accuracies = own.map(lambda model: measure(model).accuracy, result.model)
    if not accuracies:
        return {}
    of_average = accuracy if result.is_average else measure(averaged_model(result)).accuracy
    return {
        AVERAGING_GAIN: of_average - math.fsum(accuracies.values()) / len(accuracies),
        **{f"{CLIENT_ACCURACY}{client}": value for client, value in accuracies.items()},
    }


def target_metrics(spec: CellSpec, history: Sequence[Mapping[str, float]], result: RoundResult) -> dict[str, float]:
    """The rounds to the target, and what the clients send until then; empty if it was not reached, or there is none."""
    if spec.target_accuracy is None:
        return {}
    reached = rounds_to_target([metrics["accuracy"] for metrics in history], spec.target_accuracy)
    return {} if reached is None else {ROUNDS_TO_TARGET: reached, BYTES_TO_TARGET: reached * _upload(spec, result)}


def _upload(spec: CellSpec, result: RoundResult) -> int:
    """Bytes that the selected clients send in a round: what is averaged of their models, and their messages."""
    vector, parameters = result.server.model.vector, result.model.parameters()
    frozen = 0 if spec.average_frozen else sum(each.numel() for each in parameters if not each.requires_grad)
    message = next((each.numel() for each in result.server.sent.values()), 0)
    return len(result.selected_clients) * (vector.numel() - frozen + message) * vector.element_size()


def interpolation(result: RoundResult, own: ClientModels, measure: Measure, thetas: Sequence[float]) -> Line:
    """The line between two clients' models as they were averaged."""
    states = result.aligned or [update.state for update in own.updates]
    w, other = (model_with(state, result.model) for state in states)
    return between((w, other), measure, thetas)


def between(
    models: tuple[nn.Module, nn.Module],
    measure: Measure,
    thetas: Sequence[float],
    model_at: Callable[[nn.Module, nn.Module, float], nn.Module] = interpolate,
) -> Line:
    """(θ, loss, accuracy) of models on the line between two, w and w′: by default of θ·w + (1 − θ)·w′."""
    measured = ((theta, measure(model_at(*models, theta))) for theta in thetas)
    return tuple((theta, evaluation.loss, evaluation.accuracy) for theta, evaluation in measured)


def digests_of(result: RoundResult, own: ClientModels) -> Digests:
    """The digests of a round's averaged model and of its clients' own models."""
    return Digests(digest(result.model), own.map(digest, result.model))


def digest(model: nn.Module) -> str:
    """The first 64 bits of SHA-256 over a model's parameters and buffers, as 16 hexadecimal digits."""
    total = hashlib.sha256()
    for tensor in model.state_dict().values():
        total.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())  # NumPy has no bfloat16
    return total.hexdigest()[:16]


def unmet_requirement(spec: CellSpec, history: Sequence[Mapping[str, float]]) -> str | None:
    """What the scenario requires and the run did not reach; None if all is well."""
    first, last = history[0], history[-1]
    if spec.require_accuracy is not None and not last["accuracy"] >= spec.require_accuracy:
        return f"accuracy {last['accuracy']:.1%} is below the required {spec.require_accuracy:.1%}"
    if spec.require_loss_fall and not last["train_loss"] < first["train_loss"]:
        return f"the training loss did not fall: {first['train_loss']:.3f} at first, {last['train_loss']:.3f} at last"
    return None
