"""How the 2NN rows of the paper's table 1 depend on what the paper leaves open: pixels, initialisation, learning rate.

Rounds until 97 % test accuracy, with one seed: python benchmarks/paper_inputs.py [MOST_ROUNDS]. It is no choice of a
setting, since it looks at the test set; docs/explanation/conformance.md shows its output. With `rows` in place of
MOST_ROUNDS it runs rows of the table with pixels in [0, 1] and one learning rate, chosen so that one of them is the
paper's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedbench.core import evaluate, fedavg
from fedbench.datasets import Dataset, load_dataset
from fedbench.executors import THREADS
from fedbench.executors.allocator import keep_freed_memory
from fedbench.measures import rounds_to_target
from fedbench.models import build_model
from fedbench.runs.clients import clients_of
from fedbench.suites.schema import CellSpec, RunSpec

TARGET = 0.97
LEARNING_RATES = (0.0464, 0.1, 0.215, 0.464)
FIELDS = {"dataset": "mnist", "model": "2nn", "num_clients": 100, "local_epochs": 1, "batch_size": 10, "rounds": 1}
# Partition, client fraction, the paper's rounds, and ours at most.
ROWS = (
    ("iid", 0.1, 87, 200),
    ("iid", 0.0, 316, 1000),
    ("iid", 0.2, 77, 200),
    ("iid", 0.5, 75, 200),
    ("iid", 1.0, 70, 200),
    ("shards", 0.1, 664, 1500),
)
RATE_OF_ROWS = 0.0464


def truncated_normal(weight: Tensor) -> None:
    """Normal with deviation 0.1, truncated at two, as in TensorFlow's MNIST tutorial of 2015."""
    nn.init.trunc_normal_(weight, std=0.1, a=-0.2, b=0.2)


INITS: dict[str, tuple[Callable[[Tensor], object], float] | None] = {  # of weights, and what biases are; None: as built
    "PyTorch's": None,
    "Glorot": (nn.init.xavier_uniform_, 0.0),
    "normal 0.1": (truncated_normal, 0.1),
}


def new_model(init: str) -> nn.Module:
    """A 2NN that begins as `init` says."""
    model = build_model("2nn")
    if (chosen := INITS[init]) is not None:
        of_weights, bias = chosen
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                of_weights(layer.weight)
                nn.init.constant_(layer.bias, bias)
    return model


def rounds_needed(dataset: Dataset, partition: str, fraction: float, rate: float, init: str, most: int) -> str:
    """The rounds until `TARGET` as text, which says so if it is not reached in `most`."""
    spec = CellSpec(**FIELDS, partition=partition, client_fraction=fraction, learning_rate=rate)
    run = RunSpec(suite="", scenario="", cell="", spec=spec, seed=0)
    results = fedavg(
        lambda: new_model(init),
        clients_of(run, dataset, torch.device("cpu")),
        rounds=most,
        local_epochs=spec.local_epochs,
        learning_rate=rate,
        batch_size=spec.batch_size,
        client_fraction=fraction,
    )
    inputs, accuracies = dataset.normalise(dataset.test_images), []
    for result in results:
        accuracies.append(evaluate(result.model, inputs, dataset.test_labels).accuracy)
        if accuracies[-1] >= TARGET:
            break
    found = rounds_to_target(accuracies, TARGET)
    return f"not in {most}" if found is None else f"{found:.0f}"


def main() -> None:
    """Print a table."""
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    standardised = load_dataset("mnist")
    unit = replace(standardised, mean=(0.0,), std=(1.0,))
    if sys.argv[1:] == ["rows"]:
        print("partition", "C", "paper", f"[0, 1], rate {RATE_OF_ROWS}", sep="\t")
        for partition, fraction, paper, most in ROWS:
            needed = rounds_needed(unit, partition, fraction, RATE_OF_ROWS, "PyTorch's", most)
            print(partition, fraction, paper, needed, sep="\t", flush=True)
        return
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print("pixels", "initialisation", *LEARNING_RATES, sep="\t")
    for pixels, dataset in (("standardised", standardised), ("[0, 1]", unit)):
        for init in INITS:
            needed_at = (rounds_needed(dataset, "iid", 0.1, rate, init, most) for rate in LEARNING_RATES)
            print(pixels, init, *needed_at, sep="\t", flush=True)


if __name__ == "__main__":
    main()
