"""Let several processes record many runs into one SQLite store at once, and count what is lost.

The runs are made up: five rounds of six metrics, the parameters, the dataset, a confusion matrix and an end, through
`MlflowTracker` as `fedbench run` does it; nothing is trained, and no models are stored, which take
0.1 s each. The seeds of a cell are dealt to different processes; at the end each process sums up a share of the cells.

    python tests/endurance/many_writers.py --processes 4 --runs 2000 --folder /tmp/writers

Exit code 1 if a run or a number is lost, or a process met an error.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEEDS = 5  # of each cell
ROUNDS = 5


def suite_of(folder: Path, runs: int) -> Any:
    """A suite of at least so many runs."""
    from fedbench.suites.loading import load_suite

    cells = -(-runs // SEEDS)
    path = folder / "writers.yaml"
    path.write_text(
        "name: writers\nquestion: Is anything lost when many write?\n"
        f"seeds: {list(range(SEEDS))}\ndefaults: {{rounds: {ROUNDS}}}\n"
        f"scenarios: [{{name: made-up, examples_per_client: {list(range(1, cells + 1))}}}]\n"
    )
    return load_suite(path)


def value(number: int, step: int) -> float:
    """A number that tells runs and rounds apart."""
    return (number * ROUNDS + step) / 1e6


def metrics(number: int, step: int) -> dict[str, float]:
    """What a run of this number measured in a round."""
    names = ("accuracy", "balanced_accuracy", "loss", "majority_rate", "train_loss", "client_drift")
    return dict.fromkeys(names, value(number, step))


@dataclass
class Report:
    """What a process has to tell: the seconds of its runs and of its cells, and its errors."""

    recording: float
    summing: float
    errors: list[str]


def write(number: int, processes: int, folder: Path, runs: int, barrier: Any, reports: Any) -> None:
    """Record every run whose number is ours, then sum up the cells whose number is."""
    import numpy as np

    from fedbench.datasets import load_dataset
    from fedbench.measures import RunResult, Verdict
    from fedbench.tracking import FinalRecord
    from fedbench.tracking.mlflow.tracker import MlflowRun, MlflowTracker

    errors: list[str] = []
    suite, dataset = suite_of(folder / str(number), runs), load_dataset("mnist-5k")
    tracker = MlflowTracker(suite, f"sqlite:///{folder}/mlruns/mlflow.db")
    barrier.wait()
    started = time.perf_counter()
    for index in range(number, runs, processes):
        try:
            tracked = tracker.start_run(
                suite.runs[index], f"run_{index}", f"cell_{index // SEEDS}", dataset, rounds=0, fresh=False
            )
            if not isinstance(tracked, MlflowRun):
                raise TypeError(f"run {index} is {tracked}")
            for step in range(1, ROUNDS + 1):
                tracked.log_round(step, metrics(index, step))
            tracked.log_final(FinalRecord(dataset.class_names, np.eye(10, dtype=np.int64)))
            tracked.finish(RunResult(Verdict.OK, None, metrics(index, ROUNDS)))
        except Exception:
            errors.append(traceback.format_exc(limit=-1).strip().splitlines()[-1])
    recorded = time.perf_counter()
    barrier.wait()
    summing = time.perf_counter()
    for cell in range(number, -(-runs // SEEDS), processes):
        try:
            tracker.cells.touch(f"cell_{cell}")
            tracker.finish_cell(f"cell_{cell}")
        except Exception:
            errors.append(traceback.format_exc(limit=-1).strip().splitlines()[-1])
    reports.put(Report(recorded - started, time.perf_counter() - summing, errors))


def lost(folder: Path, runs: int) -> list[str]:
    """What should be in the store and is not, or is and should not be; read by MLflow's own client."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("writers")
    assert experiment is not None

    def of_kind(kind: str) -> list[Any]:
        wanted = f"tags.`fedbench.kind` = '{kind}'"
        return list(client.search_runs([experiment.experiment_id], wanted, max_results=50_000))

    problems = []
    found: dict[str, list[Any]] = {}
    for run in of_kind("run"):
        found.setdefault(run.data.tags["fedbench.fingerprint"], []).append(run)
    for index in range(runs):
        same = found.pop(f"run_{index}", [])
        if [run.info.status for run in same] != ["FINISHED"]:
            problems.append(f"run {index}: {[run.info.status for run in same]}")
            continue
        history = client.get_metric_history(same[0].info.run_id, "client_drift")
        expected = [(step, value(index, step)) for step in range(1, ROUNDS + 1)]
        if sorted((each.step, each.value) for each in history) != expected:
            problems.append(f"run {index}: its rounds are {[each.step for each in history]}")
        if not metrics(index, ROUNDS).items() <= same[0].data.metrics.items():
            problems.append(f"run {index}: its last metrics are others")
        if not same[0].inputs.dataset_inputs or len(same[0].data.params) < 10:
            problems.append(f"run {index}: its parameters or its dataset are lost")
    problems += [f"{fingerprint}: nobody recorded that" for fingerprint in found]
    cells = [run.data.tags["fedbench.cell_fingerprint"] for run in of_kind("cell")]
    if sorted(cells) != sorted(f"cell_{cell}" for cell in range(-(-runs // SEEDS))):
        problems.append(f"{len(cells)} runs of cells, {len(set(cells))} different")
    return problems


def main() -> int:
    """Parse, let them write, count, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=4, help="how many write at once (default: 4)")
    parser.add_argument("--runs", type=int, default=2000, help="how many runs in all (default: 2000)")
    parser.add_argument("--folder", type=Path, required=True, help="where the store goes; made if it is not there")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    context = multiprocessing.get_context("spawn")
    barrier, reports = context.Barrier(options.processes), context.Queue()
    processes = []
    for number in range(options.processes):
        (folder / str(number)).mkdir(parents=True)
        arguments = (number, options.processes, folder, options.runs, barrier, reports)
        processes.append(context.Process(target=write, args=arguments))
        processes[-1].start()
    told: list[Report] = [reports.get() for _ in processes]
    for process in processes:
        process.join()
    recording, summing = (max(getattr(each, name) for each in told) for name in ("recording", "summing"))
    errors = [error for each in told for error in each.errors]
    problems = lost(folder, options.runs)
    per_run = 1000 * recording / options.runs
    print(f"{options.runs} runs by {options.processes} processes: {recording:.1f} s, {per_run:.0f} ms a run")
    print(f"{-(-options.runs // SEEDS)} cells summed up: {summing:.1f} s")
    print(f"errors: {len(errors)}")
    print(f"lost or wrong: {len(problems)}")
    for line in [*errors, *problems][:20]:
        print(f"  {line}")
    return 1 if errors or problems else 0


if __name__ == "__main__":
    sys.exit(main())
