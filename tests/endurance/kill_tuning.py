"""Kill a study with two workers repeatedly, and check that no trial is lost, doubled or different.

At random moments one of the command's workers, or the command with all of them, is killed with SIGKILL; a killed
command is started again, until the study finishes. Then every trial's numbers are compared with those that its
parameters give without interruption.

    python tests/endurance/kill_tuning.py --kills 20 --folder /tmp/kills

Exit code 1 if something was lost, doubled, left over or different.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
SUITE = """
name: kills
question: Is a trial lost?
seeds: [0, 1]
defaults: {examples_per_client: 200, rounds: 3, local_epochs: 5, learning_rate: 0.05}
scenarios:
  - {name: pair, num_clients: 2}
tune:
  space: {local_epochs: {low: 1, high: 8}, learning_rate: {low: 0.001, high: 1}}
  validation: 0.1
  fresh_seeds: [10, 11]
"""
VIOLATIONS = ("lost", "doubled", "different", "left running", "failed")


def start(folder: Path, trials: int) -> subprocess.Popen[bytes]:
    """Start the command as the first of a group of processes."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fedbench", "tune", "kills.yaml", "--workers", "2", "--trials", str(trials)],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that compute trials."""
    try:
        children = psutil.Process(process.pid).children()
        servers = [child for child in children if "forkserver" in " ".join(child.cmdline())]
        return [worker for server in servers for worker in server.children()]
    except psutil.Error:
        return []


def kill_until_done(folder: Path, trials: int, kills: int, stream: random.Random) -> tuple[Counter[str], int]:
    """Kill so many times, then let the study finish; how often what was killed, and the command's last exit code."""
    killed: Counter[str] = Counter()
    process = start(folder, trials)
    while killed.total() < kills:
        while process.poll() is None and not workers_of(process):
            time.sleep(0.1)  # on a busy machine it takes long until there is something to kill
        with suppress(subprocess.TimeoutExpired):
            process.wait(stream.uniform(1, 8))
            break  # it ended by itself
        workers = workers_of(process)
        if workers and stream.random() < 0.5:
            stream.choice(workers).kill()
            killed["worker"] += 1
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed["command"] += 1
            process = start(folder, trials)
    return killed, process.wait()


def check(folder: Path, trials: int) -> Counter[str]:
    """What is wrong with the study and with its record in MLflow."""
    import torch
    from mlflow import MlflowClient

    from fedbench.datasets.validation import load_held_out
    from fedbench.runs.identity import ALGORITHM_REVISION
    from fedbench.suites.loading import load_suite
    from fedbench.tuning.plan import identity, make_plan
    from fedbench.tuning.search import trial_results
    from fedbench.tuning.storage import open_storage, open_study
    from fedbench.tuning.trial import TrialWork, mean_rounds, train_and_validate

    plan = make_plan(load_suite(folder / "kills.yaml"), trials=trials)
    held_out = load_held_out(plan.spec.dataset, plan.spec.split, plan.validation)
    name = identity(plan, held_out.digest, "cpu", ALGORITHM_REVISION)
    study_url = f"sqlite:///{folder}/mlruns/optuna.db"
    study = open_study(open_storage(study_url), plan, name)
    found = trial_results(study, plan)
    wrong: Counter[str] = Counter()
    wrong["lost"] += max(trials - len(found), 0)
    wrong["doubled"] += max(len(found) - trials, 0) + len(found) - len({str(trial.params) for trial in found})
    wrong["failed"] += sum(trial.state == "failed" for trial in found)
    wrong["left running"] += sum(not trial.state.is_finished() for trial in study.trials)
    torch.set_num_threads(1)  # as in every process that computes; see `fedbench.executors`
    work = TrialWork(plan, name, study_url, None, "cpu", held_out)
    for trial in found:
        progress: Any = None
        for progress in train_and_validate(plan.spec_of(trial.params), plan.seeds, work):
            if len(progress[0].rounds) == len(trial.rounds):
                break
        wrong["different"] += mean_rounds(progress) != trial.rounds
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("kills.tuning")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=10_000)
    numbers = Counter(run.data.tags.get("fedbench.trial") for run in runs if run.data.tags["fedbench.kind"] == "trial")
    wrong["lost"] += trials - len(numbers)
    wrong["doubled"] += numbers.total() - len(numbers)
    wrong["doubled"] += sum(run.data.tags["fedbench.kind"] == "study" for run in runs) - 1
    wrong["left running"] += sum(run.info.status == "RUNNING" for run in runs)
    wrong["left running"] += len(list((folder / "mlruns" / "checkpoints").glob("*")))
    return wrong


def main() -> int:
    """Parse, kill, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many times to kill (default: 20)")
    parser.add_argument("--trials", type=int, default=40, help="trials of the study (default: 40)")
    parser.add_argument("--folder", type=Path, required=True, help="where the stores go; made if it is not there")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True)
    (folder / "kills.yaml").write_text(SUITE)
    began = time.monotonic()
    stream = random.Random(options.seed)  # noqa: S311 - no secret
    killed, code = kill_until_done(folder, options.trials, options.kills, stream)
    wrong = check(folder, options.trials)
    wrong["failed"] += code != 0
    print(
        f"{killed.total()} kills, {killed['worker']} of a worker and {killed['command']} of the whole command, in "
        f"{time.monotonic() - began:.0f} s; {options.trials} trials asked for"
    )
    for kind in VIOLATIONS:
        print(f"{kind}: {wrong[kind]}")
    return 1 if wrong.total() else 0


if __name__ == "__main__":
    sys.exit(main())
