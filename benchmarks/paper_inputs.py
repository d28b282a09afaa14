"""How a 2NN row of the paper (IID, B = 10, C = 0.1) depends on what the paper leaves open: pixels and learning rate.

Rounds until 97 % test accuracy, with one seed: python benchmarks/paper_inputs.py [MOST_ROUNDS]. It is no choice of a
setting, since it looks at the test set; docs/conformance.md shows what it gave.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from fedbench.clients import clients_of
from fedbench.core import evaluate
from fedbench.datasets import Dataset, load_dataset
from fedbench.executors import THREADS
from fedbench.executors.allocator import keep_freed_memory
from fedbench.measures import rounds_to_target
from fedbench.simulation import fedavg_rounds
from fedbench.specs import CellSpec, RunSpec

TARGET = 0.97
LEARNING_RATES = (0.0464, 0.1, 0.215, 0.464)
FIELDS = {"dataset": "mnist", "model": "2nn", "partition": "iid", "batch_size": 10, "local_epochs": 1}


def rounds_needed(dataset: Dataset, learning_rate: float, most: int) -> float | None:
    """The rounds until `TARGET`; None if it is not reached in `most`."""
    spec = CellSpec(**FIELDS, num_clients=100, client_fraction=0.1, learning_rate=learning_rate, rounds=most)
    run = RunSpec(suite="", scenario="", cell="", spec=spec, seed=0)
    clients = clients_of(run, dataset, torch.device("cpu"))
    inputs, accuracies = dataset.normalise(dataset.test_images), [0.0]
    for result in fedavg_rounds(spec, run.seed, clients, keep_client_models=False):
        accuracies.append(evaluate(result.model, inputs, dataset.test_labels).accuracy)
        if accuracies[-1] >= TARGET:
            break
    return rounds_to_target(accuracies[1:], TARGET)


def main() -> None:
    """Print a table."""
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    standardised = load_dataset("mnist")
    scales = {"standardised": standardised, "[0, 1]": replace(standardised, mean=(0.0,), std=(1.0,))}
    print("learning rate", *scales, sep="\t")
    for learning_rate in LEARNING_RATES:
        needed = [rounds_needed(dataset, learning_rate, most) for dataset in scales.values()]
        print(learning_rate, *(f"not in {most}" if each is None else f"{each:.0f}" for each in needed), sep="\t")


if __name__ == "__main__":
    main()
