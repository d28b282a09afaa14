"""Compare the suite `client-grid-mnist` with the notebook's loop over the same cells, seeds and rounds.

    .venv/bin/python benchmarks/peers/grid.py --out grid.json

fedbench computes in two processes and tracks in a fresh store; the notebook's loop is one process and tracks nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import Measurement, cpu_model, end_on_request, fedbench_command, measure, versions

from fedbench.bench import yardsticks
from fedbench.suites.loading import load_suite

SUITE = "client-grid-mnist"
FIELDS = ("num_clients", "examples_per_client", "batch_size", "local_epochs", "rounds", "learning_rate")


def cells(seeds: int) -> tuple[list[dict[str, Any]], list[int]]:
    """The suite's cells and the first of its seeds."""
    suite = load_suite(SUITE)
    return [{field: getattr(cell.spec, field) for field in FIELDS} for cell in suite.cells], list(range(seeds))


def run_fedbench(options: argparse.Namespace, seeds: list[int], folder: Path) -> tuple[Measurement, list[list[float]]]:
    """The suite by the command line; the accuracies by cell and seed."""
    arguments = ["--seeds", ",".join(map(str, seeds)), "--workers", str(options.workers), "--json"]
    places = ["--data-dir", str(options.data_dir.resolve()), "--tracking-uri", f"sqlite:///{folder}/mlflow.db"]
    measurement = measure(fedbench_command("run", SUITE, *arguments, *places), folder)
    return measurement, [cell["accuracy"]["values"] for cell in json.loads(measurement.output)["cells"]]


def run_notebook(
    options: argparse.Namespace, grid: list[dict[str, Any]], seeds: list[int], folder: Path
) -> tuple[Measurement, list[list[float]]]:
    """The notebook's loop in the peers' environment; the accuracies by cell and seed."""
    script = Path(__file__).absolute().with_name("notebook_grid.py")
    command = [str(options.peers_python.absolute()), str(script), "--data-dir", str(options.data_dir.resolve())]
    measurement = measure([*command, "--cells", json.dumps(grid), "--seeds", *map(str, seeds)], folder)
    return measurement, json.loads(measurement.output)


def main() -> None:
    """Run both, one after the other, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="what fedbench data fetch mnist fills")
    parser.add_argument("--peers-python", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--workers", type=int, default=2, help="of fedbench")
    parser.add_argument("--seeds", type=int, default=5, help="so many seeds, from 0 on")
    parser.add_argument("--out", type=Path, help="a JSON file for every number")
    options = parser.parse_args()
    end_on_request()
    grid, seeds = cells(options.seeds)
    speed = yardsticks.measure().flop_rate_all_cores / 1e9
    results: dict[str, Measurement] = {}
    accuracies: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        print(f"fedbench: {len(grid)} cells, {len(seeds)} seeds", file=sys.stderr, flush=True)
        results["fedbench"], accuracies["fedbench"] = run_fedbench(options, seeds, Path(folder))
        print("notebook: the same", file=sys.stderr, flush=True)
        results["notebook"], accuracies["notebook"] = run_notebook(options, grid, seeds, Path(folder))
    print("| contender | all of it, s | peak memory, MB | mean accuracy of all runs, % |\n| --- | --- | --- | --- |")
    for name, result in results.items():
        mean = statistics.mean(value for cell in accuracies[name] for value in cell)
        print(f"| {name} | {result.seconds:.1f} | {result.peak_bytes / 1e6:.0f} | {100 * mean:.1f} |")
    print(f"\nnotebook / fedbench: {results['notebook'].seconds / results['fedbench'].seconds:.2f}×")
    print(f"{len(grid)} cells, {len(seeds)} seeds, {options.workers} workers.")
    print(f"Processor: {cpu_model()}, {yardsticks.usable_cores()} cores; {speed:.0f} GFLOP/s.")
    if options.out:
        content = {
            "cpu": cpu_model(),
            "cores": yardsticks.usable_cores(),
            "yardstick_gflops": speed,
            "versions": versions(Path(sys.executable), ("torch", "torchvision", "mlflow", "fedbench-mlflow")),
            "cells": grid,
            "accuracies": accuracies,
            "runs": {name: asdict(result) for name, result in results.items()},
        }
        options.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
