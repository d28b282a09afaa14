"""Kill `fedbench run quickstart` again and again, and see whether anything is lost, doubled or different.

The command and its workers are killed with SIGKILL at moments drawn at random, from its first instant to well after
the first run would be finished; then the same command is started again, until it ends by itself. What the store then
holds is compared with a store that nothing interrupted. If kills are left, it starts over with another store.

    python tests/endurance/kill_quickstart.py --kills 100 --folder /tmp/kills

Exit code 1 if something was lost, doubled, left over or different.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from recorded import CELL, DIFFERENT, DOUBLED, LOST, RUNNING, recorded, violations  # noqa: E402

STATUSES = """
    SELECT tags.value, runs.run_uuid, runs.status FROM runs
    JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'fedbench.kind' WHERE runs.lifecycle_stage = 'active'
"""
LATER = 1.5  # kills come up to so many times the time after which the first run is finished


COUNTS = ("stores", "kills", "during_a_run", "during_its_end", "after_some_finished", "compared")


VIOLATIONS = (LOST, DOUBLED, DIFFERENT, RUNNING, "checkpoint left", CELL, "failed")


@dataclass
class Tally:
    """What was seen over all stores."""

    stores: int = 0
    kills: int = 0
    during_a_run: int = 0
    during_its_end: int = 0
    after_some_finished: int = 0
    compared: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def blame(self, kind: str, what: str) -> None:
        self.violations[kind] += 1
        self.examples.append(f"{kind}: {what}")


def start(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start the command as the first of a group of processes."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fedbench", "run", *arguments],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def runs_in(folder: Path) -> dict[str, dict[str, str]]:
    """Of each kind the runs and their statuses."""
    found: dict[str, dict[str, str]] = {}
    path = folder / "mlruns" / "mlflow.db"
    if path.exists():
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            for kind, run_id, status in connection.execute(STATUSES):
                found.setdefault(kind, {})[run_id] = status
    return found


def seeds_runs(folder: Path, status: str) -> set[str]:
    """The seeds' runs that have this status."""
    return {run_id for run_id, found in runs_in(folder).get("run", {}).items() if found == status}


def finished(folder: Path) -> set[str]:
    """The seeds' runs that are finished; none may get lost."""
    return seeds_runs(folder, "FINISHED")


def uninterrupted(folder: Path, arguments: list[str]) -> float:
    """Run the command to its end; the seconds until its first run was finished."""
    begun = time.monotonic()
    process = start(folder, arguments)
    first = None
    while process.poll() is None:
        with suppress(sqlite3.Error):
            if first is None and finished(folder):
                first = time.monotonic() - begun
        time.sleep(0.05)
    if process.returncode != 0 or first is None:
        raise SystemExit(f"the command failed without being killed: see {folder / 'log.txt'}")
    print(f"uninterrupted: first run finished after {first:.1f} s, all after {time.monotonic() - begun:.1f} s")
    return first


def compare(folder: Path, reference: Path, tally: Tally) -> None:
    """Compare a store whose command was killed with the one that nothing interrupted."""
    expected, actual = (recorded(f"sqlite:///{each}/mlruns/mlflow.db", suite_in(each)) for each in (reference, folder))
    for kind, what in violations(actual, expected):
        tally.blame(kind, what)
    tally.compared += sum(len(runs) == 1 for runs in actual.runs.values())
    for path in (folder / "mlruns" / "checkpoints").iterdir():
        tally.blame("checkpoint left", path.name)


def suite_in(folder: Path) -> str:
    """The name of the suite in a store."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db", timeout=60)) as connection:
        ((name,),) = connection.execute("SELECT name FROM experiments WHERE name != 'Default'")
    return str(name)


def kill_until_done(folder: Path, arguments: list[str], latest: float, kills: int, stream: random.Random) -> Tally:
    """Kill the command at most so many times, then let it end."""
    tally = Tally(stores=1)
    seen: set[str] = set()
    orphaned: set[str] = set()  # runs that an earlier kill left
    while True:
        process = start(folder, arguments)
        with suppress(subprocess.TimeoutExpired):
            process.wait(stream.uniform(0, latest) if tally.kills < kills else None)
        if process.returncode is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        tally.kills += 1
        under_way = seeds_runs(folder, "RUNNING") - orphaned
        orphaned |= under_way
        tally.during_a_run += bool(under_way)
        tally.during_its_end += any(list((folder / "mlruns").rglob(f"{run_id}/artifacts/*")) for run_id in under_way)
        now = finished(folder)
        tally.after_some_finished += bool(now - seen)
        for run_id in seen - now:
            tally.blame("lost", f"run {run_id} was finished before")
        seen |= now
    if process.returncode != 0:
        tally.blame("failed", f"exit code {process.returncode}: see {folder / 'log.txt'}")
    for run_id in seen - finished(folder):
        tally.blame("lost", f"run {run_id} was finished before")
    return tally


def main() -> int:
    """Parse, kill, compare, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many times to kill (default: 100)")
    parser.add_argument("--folder", type=Path, required=True, help="where the stores go; made if it is not there")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("run", nargs="*", help="arguments of `fedbench run` after -- (default: quickstart)")
    options = parser.parse_args()
    arguments = options.run or ["quickstart"]
    folder: Path = options.folder.absolute()
    reference = folder / "reference"
    reference.mkdir(parents=True)
    latest = LATER * uninterrupted(reference, arguments)
    stream = random.Random(options.seed)  # noqa: S311 - no secret
    total = Tally()
    while total.kills < options.kills:
        store = folder / f"store-{total.stores}"
        store.mkdir()
        tally = kill_until_done(store, arguments, latest, options.kills - total.kills, stream)
        compare(store, reference, tally)
        print(f"store {total.stores}: killed {tally.kills} times, {sum(tally.violations.values())} violations")
        sys.stdout.flush()
        for name in COUNTS:
            setattr(total, name, getattr(total, name) + getattr(tally, name))
        total.violations += tally.violations
        total.examples += tally.examples
    print(
        f"{total.kills} kills at 0 to {latest:.1f} s in {total.stores} stores: {total.during_a_run} while a run was "
        f"under way, {total.during_its_end} of them while its end was recorded; {total.after_some_finished} commands "
        "had finished some runs"
    )
    print(f"{total.compared} finished runs compared with the uninterrupted")
    for kind in VIOLATIONS:
        print(f"{kind}: {total.violations[kind]}")
    for example in total.examples[:20]:
        print(f"  {example}")
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
