"""Each metric of docs/reference/mlflow.md, recomputed by its definition there in loops written out plainly."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from fedbench.core import (
    ClientUpdate,
    Evaluation,
    Purpose,
    ServerState,
    evaluate,
    model_with,
    numpy_stream,
    permutation,
)
from fedbench.datasets import Dataset, load_dataset
from fedbench.models import build_model
from fedbench.partitions.table import label_skew
from fedbench.runs import simulation
from fedbench.runs.clients import Clients, clients_of, partition_table
from fedbench.runs.events import Job, RoundDone
from fedbench.runs.metrics import target_metrics
from fedbench.runs.simulation import fedavg_rounds, simulate
from fedbench.suites.schema import CellSpec, RunSpec

FIELDS: dict[str, Any] = {"model": "2nn", "partition": "quantity-skew", "examples_per_client": 40, "num_clients": 6}
FIELDS |= {"client_fraction": 0.5, "local_epochs": 2, "batch_size": 16, "learning_rate": 0.1, "rounds": 3}
FIELDS |= {"partition_sigma": 0.7, "target_accuracy": 0.61}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("mnist-5k")


def vector(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().double() for parameter in model.parameters()])


def answers(model: nn.Module, dataset: Dataset) -> Tensor:
    """(N, 10) logits for the test set."""
    with torch.no_grad():
        scores: Tensor = model.eval()(dataset.normalise(dataset.test_images))
    return scores


def share(right: Tensor) -> float:
    return int(right.sum()) / len(right)


def loss_of_steps(server: ServerState, clients: Clients, k: int, t: int) -> float:
    """Client k's SGD in round t: the mean over its epochs and examples of the losses before the steps."""
    model = model_with(server.model, build_model("2nn")).train()
    sgd, order, total = torch.optim.SGD(model.parameters(), lr=0.1), numpy_stream(0, Purpose.BATCH_ORDER, t, k), 0.0
    data = clients[k]
    for _ in range(2):
        for chosen in torch.from_numpy(permutation(order, len(data))).split(16):
            sgd.zero_grad()
            loss = F.cross_entropy(model(data.inputs[chosen]), data.labels[chosen])
            loss.backward()
            sgd.step()
            total += loss.item() * len(chosen)
    return total / (2 * len(data))


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithm": "fedavg"},
        {"algorithm": "fedavgm", "weights": "uniform"},
        {"algorithm": "fedadam"},
        {"algorithm": "fedprox", "proximal_weight": 0.0, "aggregation": "median"},
    ],
    ids=str,
)
def test_each_metric_is_what_its_definition_says(
    fields: dict[str, Any], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[nn.Module] = []

    def counting(model: nn.Module, *arguments: Any) -> Evaluation:
        measured.append(model)
        return evaluate(model, *arguments)

    monkeypatch.setattr(simulation, "evaluate", counting)
    run = RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(**FIELDS | fields), seed=0)
    rounds = [event.metrics for event in simulate(Job(run), dataset) if isinstance(event, RoundDone)]
    found = rounds[-1]
    has_own_step = fields["algorithm"] not in ("fedavg", "fedprox")
    assert 3 + 3 + has_own_step == len(measured)  # rounds, clients' own models, and the average where it is another one

    updates: list[ClientUpdate] = []
    clients = clients_of(run, dataset, torch.device("cpu"))
    *_, before, last = fedavg_rounds(run.spec, 0, clients, observe=updates.append)
    selected = last.selected_clients
    own = [model_with(update.state, build_model("2nn")) for update in updates[-len(selected) :]]
    weights = [1.0 if run.spec.weights == "uniform" else len(clients[k]) for k in selected]
    shares = [weight / sum(weights) for weight in weights]
    average = sum(share * vector(model) for share, model in zip(shares, own, strict=True))
    if run.spec.aggregation == "median":
        average = torch.stack([vector(model) for model in own]).median(dim=0).values
    assert isinstance(average, Tensor)
    averaged = build_model("2nn")
    torch.nn.utils.vector_to_parameters(average.float(), averaged.parameters())

    scores, labels = answers(last.model, dataset), dataset.test_labels
    is_right = scores.argmax(dim=1) == labels
    recalls = [share(is_right[labels == digit]) for digit in range(10)]
    assert share(is_right) == found["accuracy"]
    assert pytest.approx(recalls) == [found[f"recall/{digit}"] for digit in range(10)]
    assert pytest.approx(sum(recalls) / 10) == found["balanced_accuracy"]
    assert pytest.approx(-scores.double().log_softmax(1)[range(1000), labels].mean().item()) == found["loss"]
    assert max(share(labels == digit) for digit in range(10)) == found["majority_rate"]

    losses = [loss_of_steps(before.server, clients, k, 3) for k in selected]
    assert pytest.approx(sum(a * b for a, b in zip(shares, losses, strict=True)), rel=1e-4) == found["train_loss"]

    drift = [(vector(model) - average).norm().item() for model in own]
    assert pytest.approx(drift, rel=1e-4) == [found[f"client_drift/{k}"] for k in selected]
    assert pytest.approx(sum(drift) / len(drift), rel=1e-4) == found["client_drift"]
    accuracies = [share(answers(model, dataset).argmax(dim=1) == labels) for model in own]
    assert accuracies == [found[f"client_accuracy/{k}"] for k in selected]
    gain = share(answers(averaged, dataset).argmax(dim=1) == labels) - sum(accuracies) / len(accuracies)
    assert pytest.approx(gain, abs=0.0011) == found["averaging_gain"]  # one image may go the other way by rounding

    best_so_far = list(accumulate((metrics["accuracy"] for metrics in rounds), max))
    crossed = [t - (b - 0.61) / (b - a) for t, (a, b) in enumerate(pairwise(best_so_far), start=2) if a < 0.61 <= b]
    assert [pytest.approx(each) for each in crossed] == [found[key] for key in found if key == "rounds_to_target"]
    upload = 4 * vector(last.model).numel() * len(selected)  # bytes of a round: 32-bit parameters
    assert [pytest.approx(each * upload) for each in crossed] == [found[key] for key in found if "bytes" in key]


@pytest.mark.parametrize(("algorithm", "vectors"), [("fedavg", 1), ("scaffold", 2)])
def test_the_upload_counts_models_and_messages(algorithm: str, vectors: int, dataset: Dataset) -> None:
    """The 2NN has 199,210 parameters (McMahan et al., section 3) of 4 bytes, and two clients send them."""
    fields = {"model": "2nn", "examples_per_client": 10, "rounds": 1, "local_epochs": 1, "target_accuracy": 0.01}
    run = RunSpec(suite="s", scenario="a", cell="a", spec=CellSpec(algorithm=algorithm, **fields), seed=1)
    (result,) = fedavg_rounds(run.spec, 1, clients_of(run, dataset, torch.device("cpu")))
    found = target_metrics(run.spec, [{"accuracy": 0.5}], result)
    assert {"rounds_to_target": 1.0, "bytes_to_target": vectors * 2 * 4 * 199_210} == found


def test_label_skew_is_the_distance_of_the_clients_labels_from_those_of_all_clients(dataset: Dataset) -> None:
    spec = CellSpec(num_clients=5, examples_per_client=30, partition="dirichlet", partition_alpha=0.3)
    run = RunSpec(suite="s", scenario="a", cell="a", spec=spec, seed=1)
    labels = [client.labels.tolist() for client in clients_of(run, dataset, torch.device("cpu")) if len(client)]
    pooled = [label for own in labels for label in own]

    def rate(digit: int, among: list[int]) -> float:
        return among.count(digit) / len(among)

    distances = [sum(abs(rate(digit, own) - rate(digit, pooled)) for digit in range(10)) / 2 for own in labels]
    assert pytest.approx(sum(distances) / len(distances)) == label_skew(partition_table(run, dataset).counts)
