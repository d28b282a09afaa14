"""The notebook's loop over the cells of a grid: the averaged model evaluated each round, the clients' own in the last.

`grid.py` runs this in the peers' environment. A cell is given in JSON by the names of its fields in a suite file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import work
from notebook import client_loaders, load_mnist, one_round, test
from torch.utils.data import DataLoader, Dataset


def run_cell(cell: Mapping[str, Any], seed: int, train_set: Dataset, test_loader: DataLoader) -> float:
    """One run; returns the averaged model's last accuracy."""
    torch.manual_seed(seed)
    loaders = client_loaders(train_set, cell["num_clients"], cell["examples_per_client"], cell["batch_size"])
    server = work.SimpleCNN()
    accuracy, clients = 0.0, []
    for _ in range(cell["rounds"]):
        clients = one_round(server, loaders, cell["local_epochs"], cell["learning_rate"])
        _, accuracy = test(server, test_loader)
    for client in clients:
        test(client, test_loader)
    return accuracy


def main() -> None:
    """Run every seed of every cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--cells", type=json.loads, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    options = parser.parse_args()
    train_set, test_loader = load_mnist(options.data_dir)
    accuracies = []
    for cell in options.cells:
        accuracies.append([run_cell(cell, seed, train_set, test_loader) for seed in options.seeds])
        print(f"{len(accuracies)}/{len(options.cells)} cells", file=sys.stderr, flush=True)
    print(json.dumps(accuracies))


if __name__ == "__main__":
    main()
