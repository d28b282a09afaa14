"""How many runs a second several processes record: in a SQLite file, and in PostgreSQL behind an MLflow server.

The runs are made up: five rounds of six metrics, the parameters, the dataset, a confusion matrix and an end, through
`MlflowTracker` as `fedbench run` does it; nothing is trained. With models, `simple-cnn` is stored with
each run, too. At the end everything is read back: no run may be lost, doubled, or have another number than was written.

    python benchmarks/tracking_rate.py --writers 4 --runs 400
    python benchmarks/tracking_rate.py --store server --runs 100 --models

It starts a PostgreSQL server (Debian's package postgresql; psycopg) and `mlflow server` by itself, in a temporary
folder.
Exit code 1 if something is lost, doubled or wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))  # which has the servers

SEEDS = 5  # of each cell
ROUNDS = 5
NAMES = ("accuracy", "balanced_accuracy", "loss", "majority_rate", "train_loss", "client_drift")
STORES = ("sqlite", "server", "both")


@dataclass(frozen=True)
class Rate:
    """What was measured of one store; bytes are a run's."""

    store: str
    runs: int
    seconds: float
    database: float
    artifacts: float
    problems: list[str]

    def row(self) -> str:
        """A line of the table."""
        rate = self.runs / self.seconds
        return (
            f"{self.store:<28} {self.runs:>6} {self.seconds:>8.1f} {rate:>10.1f} {self.database / 1000:>12.1f} "
            f"{self.artifacts / 1000:>13.1f} {len(self.problems):>6}"
        )


def suite_of(folder: Path, runs: int) -> Any:
    """A suite of at least so many runs."""
    from fedbench.suites.loading import load_suite

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rate.yaml"
    path.write_text(
        "name: rate\nquestion: How many runs a second?\n"
        f"seeds: {list(range(SEEDS))}\ndefaults: {{rounds: {ROUNDS}}}\n"
        f"scenarios: [{{name: made-up, examples_per_client: {list(range(1, -(-runs // SEEDS) + 1))}}}]\n"
    )
    return load_suite(path)


def measured(number: int, step: int) -> dict[str, float]:
    """The metrics of a round: numbers that tell runs and rounds apart."""
    return dict.fromkeys(NAMES, (number * ROUNDS + step) / 1e6)


def write(number: int, writers: int, runs: int, models: bool, uri: str, folder: Path, barrier: Any, times: Any) -> None:
    """Record every run whose number is ours; puts the seconds that it took into the queue."""
    import numpy as np

    from fedbench.datasets import load_dataset
    from fedbench.measures import RunResult, Verdict
    from fedbench.models import build_model
    from fedbench.tracking import FinalRecord
    from fedbench.tracking.mlflow.run import MlflowRun
    from fedbench.tracking.mlflow.tracker import MlflowTracker

    suite, dataset = suite_of(folder / f"writer-{number}", runs), load_dataset("mnist-5k")
    final = FinalRecord(dataset.class_names, np.eye(10, dtype=np.int64))
    if models:
        example = dataset.normalise(dataset.test_images[:2]).numpy()
        final = replace(final, model=build_model("simple-cnn"), model_name="simple-cnn", example=example)
    tracker = MlflowTracker(suite, uri)
    if models:  # what is imported and exported once a process takes seconds
        first = tracker.start_run(suite.runs[0], f"first_{number}", "first", dataset, 0, False)
        if not isinstance(first, MlflowRun):
            raise TypeError(f"the first run is {first}")
        first.log_final(final)
        tracker.client.delete_run(first.run_id)
    tracker.finished_runs()
    barrier.wait()
    start = time.perf_counter()
    for index in range(number, runs, writers):
        tracked = tracker.start_run(suite.runs[index], f"run_{index}", f"cell_{index // SEEDS}", dataset, 0, False)
        if not isinstance(tracked, MlflowRun):
            raise TypeError(f"run {index} is {tracked}")
        for step in range(1, ROUNDS + 1):
            tracked.log_round(step, measured(index, step))
        tracked.log_final(final)
        tracked.finish(RunResult(Verdict.OK, None, measured(index, ROUNDS)))
    times.put(time.perf_counter() - start)
    barrier.wait()


def problems_of(uri: str, runs: int, models: bool) -> Iterator[str]:
    """What should be in the store and is not, or is and should not be; read by MLflow's own client."""
    from mlflow import MlflowClient

    from fedbench.tracking.mlflow.reading import each_run

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("rate")
    found: dict[str, list[Any]] = {}
    for run in each_run(client, experiment.experiment_id, ""):
        found.setdefault(run.data.tags["fedbench.fingerprint"], []).append(run)
    for index in range(runs):
        same = found.pop(f"run_{index}", [])
        if [run.info.status for run in same] != ["FINISHED"]:
            yield f"run {index}: {[run.info.status for run in same]}"
            continue
        (run,) = same
        history = client.get_metric_history(run.info.run_id, "client_drift")
        if [(each.step, each.value) for each in sorted(history, key=lambda each: each.step)] != [
            (step, measured(index, step)["client_drift"]) for step in range(1, ROUNDS + 1)
        ]:
            yield f"run {index}: its rounds are {[each.step for each in history]}"
        if len(run.inputs.dataset_inputs) != 1 or len(run.data.params) < 10:
            yield f"run {index}: its parameters or its dataset are lost"
        if [each.path for each in client.list_artifacts(run.info.run_id) if not each.is_dir] != ["confusion.csv"]:
            yield f"run {index}: its confusion matrix is lost"
        if models != bool(run.outputs and len(run.outputs.model_outputs) == 1):
            yield f"run {index}: its model is lost"
    yield from (f"{fingerprint}: nobody recorded that" for fingerprint in found)


def folder_bytes(folder: Path) -> int:
    """What the files of a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rate_of(store: str, folder: Path, options: argparse.Namespace) -> Rate:
    """Let the writers write into a new store."""
    with ExitStack() as stack:
        if store == "sqlite":
            uri, artifacts = f"sqlite:///{folder}/mlflow.db", folder / "artifacts"

            def database() -> int:
                return (folder / "mlflow.db").stat().st_size
        else:
            import mlflow_server
            import postgresql

            machine = stack.enter_context(postgresql.server(is_durable=True))
            backend = machine.create("mlflow")
            run_server = mlflow_server.mlflow_server(
                folder, backend, options=options.server_option, workers=options.workers
            )
            uri, artifacts = stack.enter_context(run_server).uri, folder / "artifacts"

            def database() -> int:
                return machine.bytes_of("mlflow")

        from fedbench.tracking.mlflow.tracker import MlflowTracker

        MlflowTracker(suite_of(folder, options.runs), uri)  # makes the experiment
        empty = database()
        seconds = _record(uri, folder, options)
        grown, stored = database() - empty, folder_bytes(artifacts)
        problems = list(problems_of(uri, options.runs, options.models))
    name = "SQLite" if store == "sqlite" else f"PostgreSQL, server of {options.workers}"
    return Rate(name, options.runs, seconds, grown / options.runs, stored / options.runs, problems)


def _record(uri: str, folder: Path, options: argparse.Namespace) -> float:
    """Start the writers; the seconds from the first run's begin to the last one's end."""
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(options.writers), context.Queue()
    writers = [
        context.Process(
            target=write, args=(number, options.writers, options.runs, options.models, uri, folder, barrier, times)
        )
        for number in range(options.writers)
    ]
    for writer in writers:
        writer.start()
    seconds = max(times.get(timeout=1800) for _ in writers)
    for writer in writers:
        writer.join()
    return float(seconds)


def main() -> int:
    """Parse, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=STORES, default="both", help="where to record (default: both)")
    parser.add_argument("--writers", type=int, default=4, help="how many processes write at once (default: 4)")
    parser.add_argument("--runs", type=int, default=400, help="how many runs in all (default: 400)")
    parser.add_argument("--models", action="store_true", help="store a model with each run")
    parser.add_argument("--workers", type=int, default=2, help="processes of the MLflow server (default: 2)")
    parser.add_argument(
        "--server-option", action="append", default=[], metavar="OPTION", help="another option of `mlflow server`"
    )
    options = parser.parse_args()
    print(f"{'store':<28} {'runs':>6} {'seconds':>8} {'runs a s':>10} {'kB database':>12} {'kB artifacts':>13} wrong")
    wrong = False
    for store in STORES[:2] if options.store == "both" else (options.store,):
        with tempfile.TemporaryDirectory(prefix="rate-") as name:
            rate = rate_of(store, Path(name), options)
        print(rate.row(), flush=True)
        wrong = wrong or bool(rate.problems)
        for problem in rate.problems[:20]:
            print(f"  {problem}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
