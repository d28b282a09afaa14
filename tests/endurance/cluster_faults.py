"""Run a suite on a cluster while parts of it fail, and check that nothing is lost, doubled or different.

`fedbench run --executor ray` computes on a Ray cluster of two nodes and records through an MLflow server on PostgreSQL,
all of them real and on this machine. At random moments a worker process is killed; a node is killed with all its
processes, and another one joins; the MLflow server is killed and is away for a while; PostgreSQL is restarted. Each
happens once, in random order, then the command finishes. If more faults are wanted, it starts again with another
experiment. The store is compared with what one process without faults records in a SQLite file.

    python tests/endurance/cluster_faults.py --faults 20 --folder /tmp/faults

Exit code 1 if something was lost, doubled, left over or different.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import mlflow_server  # noqa: E402
import postgresql  # noqa: E402
from ray_nodes import Nodes, ray_nodes  # noqa: E402
from recorded import CELL, DIFFERENT, DOUBLED, LOST, RUNNING, Recorded, recorded, violations  # noqa: E402

VIOLATIONS = (LOST, DOUBLED, DIFFERENT, RUNNING, "checkpoint left", CELL, "failed")
PAUSE_SECONDS = (0.5, 4.0)  # between two faults
POLL_SECONDS = 0.1


@dataclass
class Parts:
    """What can fail."""

    nodes: Nodes
    service: mlflow_server.MlflowServer
    database: postgresql.Server
    away: float  # seconds that the MLflow server is

    def faults(self) -> dict[str, Callable[[], object]]:
        """How to cause each kind; False if it could not be caused."""
        return {
            "worker": self.nodes.kill_worker,
            "node": self._replace_node,
            "server": self._lose_server,
            "database": lambda: self.database.restart(2),
        }

    def _replace_node(self) -> None:
        self.nodes.kill_node()
        self.nodes.add_node()

    def _lose_server(self) -> None:
        self.service.kill()
        time.sleep(self.away)
        self.service.start()


def start(folder: Path, suite: Path, options: list[str], **environment: str) -> subprocess.Popen[bytes]:
    """Start the command; what it prints goes to the file ``log.txt``."""
    hidden = ("MLFLOW_", "FEDBENCH_", "RAY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fedbench", "run", str(suite), *options],
            cwd=folder,
            env=kept | {"PYTHONPATH": str(ROOT), **environment},
            stdout=log,
            stderr=log,
        )


def suite_named(folder: Path, suite: str, name: str) -> Path:
    """A copy of a suite under another name, which is that of its experiment."""
    from fedbench.suites.loading import load_suite

    found = load_suite(suite)
    path = folder / f"{name}.yaml"
    path.write_text(found.path.read_text().replace(f"name: {found.name}\n", f"name: {name}\n"))
    return path


def wait_for_first_run(service: mlflow_server.MlflowServer, name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the store has a run of the suite, or until the command has ended."""
    from mlflow import MlflowClient

    client = MlflowClient(service.uri)
    while process.poll() is None:
        experiment = client.get_experiment_by_name(name)
        if experiment and client.search_runs([experiment.experiment_id], max_results=1):
            return
        time.sleep(POLL_SECONDS)


def one_command(
    parts: Parts, folder: Path, suite: str, name: str, kinds: list[str], options: list[str], stream: random.Random
) -> tuple[list[str], list[tuple[str, str]], Recorded]:
    """Run the suite under a name, with faults of these kinds: those made, what is wrong, and what was recorded."""
    checkpoints = folder / f"{name}-checkpoints"
    process = start(
        folder,
        suite_named(folder, suite, name),
        ["--executor", "ray", "--address", parts.nodes.address, *options],
        MLFLOW_TRACKING_URI=parts.service.uri,
        FEDBENCH_CHECKPOINT_DIR=str(checkpoints),
    )
    wait_for_first_run(parts.service, name, process)
    faults, made = parts.faults(), []
    for kind in kinds:
        time.sleep(stream.uniform(*PAUSE_SECONDS))
        if process.poll() is not None:
            break
        if faults[kind]() is not False:
            made.append(kind)
    wrong = []
    if code := process.wait():
        wrong.append(("failed", f"exit code {code} of {name}: see {folder / 'log.txt'}"))
    wrong += [("checkpoint left", path.name) for path in checkpoints.glob("*")]
    return made, wrong, recorded(parts.service.uri, name)


def main() -> int:
    """Parse, break, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=20, help="how many faults (default: 20)")
    parser.add_argument("--folder", type=Path, required=True, help="where everything goes; made if it is not there")
    parser.add_argument("--suite", default="quickstart", help="a suite's name or file (default: quickstart)")
    parser.add_argument("--away", type=float, default=20, help="seconds that the MLflow server is away (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    parser.add_argument("run", nargs="*", help="more options of `fedbench run` after --")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True)
    stream = random.Random(arguments.seed)  # noqa: S311 - no secret
    alone = start(folder, suite_named(folder, arguments.suite, "alone"), ["--workers", "1", *arguments.run])
    kinds: Counter[str] = Counter()
    wrong: list[tuple[str, str]] = []
    compared, number = 0, itertools.count()
    with (
        postgresql.server() as database,
        mlflow_server.mlflow_server(folder / "server", database.create("mlflow")) as service,
        ray_nodes(2) as nodes,
    ):
        if alone.wait():
            raise SystemExit(f"the command failed by itself: see {folder / 'log.txt'}")
        expected = recorded(f"sqlite:///{folder}/mlruns/mlflow.db", "alone")
        parts = Parts(nodes, service, database, arguments.away)
        while kinds.total() < arguments.faults:
            name, left = f"suite-{next(number)}", arguments.faults - kinds.total()
            shuffled = stream.sample([*parts.faults()], len(parts.faults()))
            next_kinds = sorted(shuffled, key=kinds.__getitem__)[:left]
            begun = time.monotonic()
            made, found, actual = one_command(parts, folder, arguments.suite, name, next_kinds, arguments.run, stream)
            found += violations(actual, expected)
            kinds.update(made)
            wrong += found
            compared += len(actual.runs)
            seconds = time.monotonic() - begun
            print(f"{name}: {seconds:.0f} s; {', '.join(made) or 'no fault'}; {len(found)} violations", flush=True)
    print(f"{kinds.total()} faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    print(f"{compared} finished runs compared with those of one process")
    tally = Counter(kind for kind, _ in wrong)
    for kind in VIOLATIONS:
        print(f"{kind}: {tally[kind]}")
    for kind, what in wrong[:20]:
        print(f"  {kind}: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
