"""Run very many tiny runs on a Ray cluster of this machine, and watch what they cost and whether any is lost.

Each run is real: two clients with 25 images of MNIST each, one round. Ten seeds make a cell. The store is a SQLite
file, or what --tracking-uri names; the final models are left out, as --no-models does.

    python tests/endurance/many_runs.py --runs 10000 --folder /tmp/many

Prints now and then the runs that have ended, the runs a second, and the memory of this process, which is the command's.
Exit code 1 if a run is lost, doubled or failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import psutil

SEEDS = 10  # of each cell
LINES = 20  # of progress


def suite_of(folder: Path, runs: int) -> Any:
    """A suite of so many tiny runs, rounded up to whole cells."""
    from fedbench.suites.loading import load_suite

    rates = [round(0.01 + 1e-5 * cell, 5) for cell in range(-(-runs // SEEDS))]
    content = {
        "name": "many",
        "question": "What do very many runs cost?",
        "seeds": list(range(SEEDS)),
        "defaults": {"dataset": "mnist-5k", "model": "simple-cnn", "num_clients": 2, "examples_per_client": 25},
        "scenarios": [{"name": "tiny", "rounds": 1, "local_epochs": 1, "batch_size": 25, "learning_rate": rates}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "many.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return load_suite(str(path))


def ended_in_store(uri: str) -> tuple[Counter[str], int]:
    """How often each fingerprint has a finished run in the store, and how many cells have a run of their own."""
    from fedbench.tracking.mlflow.reading import is_finished, search_runs
    from fedbench.tracking.mlflow.store import open_store

    client = open_store(uri)
    experiment = client.get_experiment_by_name("many")
    assert experiment is not None
    runs = search_runs(client, experiment.experiment_id, "tags.`fedbench.kind` = 'run'")
    cells = search_runs(client, experiment.experiment_id, "tags.`fedbench.kind` = 'cell'")
    return Counter(run.data.tags["fedbench.fingerprint"] for run in runs if is_finished(run)), len(cells)


def main() -> int:
    """Parse, run, count, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="how many runs (default: 10000)")
    parser.add_argument("--folder", type=Path, required=True, help="a folder for the suite and the store")
    parser.add_argument("--tracking-uri", help="a store (default: a SQLite file in the folder)")
    parser.add_argument("--executor", choices=["ray", "local"], default="ray", help="where to compute (default: ray)")
    parser.add_argument("--workers", type=int, default=2, help="how many runs at once (default: 2)")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
    from ray_nodes import ray_nodes

    with ray_nodes(arguments.workers) if arguments.executor == "ray" else nullcontext() as cluster:
        return compute(arguments, cluster.address if cluster else None)


def compute(arguments: argparse.Namespace, address: str | None) -> int:
    """Run the suite, and compare what is in the store with what should be."""
    from fedbench.executors import choose_executor, cluster_executor
    from fedbench.executors.needs import Needs
    from fedbench.measures import Verdict
    from fedbench.runs.data import DataSource
    from fedbench.runs.suite_run import run_suite
    from fedbench.tracking.mlflow.tracker import MlflowTracker

    suite = suite_of(arguments.folder, arguments.runs)
    uri = arguments.tracking_uri or f"sqlite:///{arguments.folder.absolute()}/mlruns/mlflow.db"
    execute = cluster_executor(address, Needs()) if address else choose_executor(arguments.workers)
    tracker = MlflowTracker(suite, uri)
    process, total = psutil.Process(), len(suite.runs)
    failed, memory = 0, []
    started = last = time.perf_counter()
    print(f"{'runs':>7} {'runs/s':>7} {'MB':>6}")
    with closing(run_suite(suite.runs, DataSource(), tracker, execute, store_models=False)) as outcomes:
        for count, outcome in enumerate(outcomes, start=1):
            failed += outcome.result is None or outcome.result.verdict in (Verdict.FAILED, Verdict.SKIPPED)
            if count % max(total // LINES, 1) == 0:
                now = time.perf_counter()
                memory.append(process.memory_info().rss >> 20)
                print(f"{count:>7} {max(total // LINES, 1) / (now - last):>7.1f} {memory[-1]:>6}", flush=True)
                last = now
    seconds = time.perf_counter() - started
    in_store, cells = ended_in_store(uri)
    lost, doubled = total - len(in_store), sum(in_store.values()) - len(in_store)
    print(f"{total} runs in {seconds:.0f} s: {total / seconds:.1f} a second, {1000 * seconds / total:.0f} ms each")
    print(f"memory: {memory[len(memory) // 10]} MB after a tenth, {memory[-1]} MB at the end")
    print(f"failed: {failed}\nlost: {lost}\ndoubled: {doubled}\ncells: {cells} of {total // SEEDS}")
    return int(bool(failed or lost or doubled or cells != total // SEEDS))


if __name__ == "__main__":
    sys.exit(main())
