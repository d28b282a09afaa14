"""How often a check of the sound copy fails: in the baseline's environment, and elsewhere with seeds of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fault_trees import HERE, PERMUTED_SUM, check, make_baseline, patched_tree, suite_with_seeds

SEEDS = 5  # of a repeat
FIRST_FRESH_SEED = 1_000  # no baseline has it
ALLOWED = 0.05  # of the repeats elsewhere; in the baseline's environment none is


def repeats_here(tree: Path, suite: Path, baselines: Path, repeats: int, say: Callable[[str], None]) -> bool:
    """Check the sound copy against its own baseline with one, two and three workers; whether it always passes."""
    alarms = 0
    for number in range(1, repeats + 1):
        done = check(tree, suite, baselines, workers=1 + number % 3)
        alarms += done.exit_code != 0 or bool(done.not_same)
        say(f"repeat {number} of {repeats}: {alarms} false alarms, {done.seconds:.0f} s {done.stopped}")
    print(f"\n{alarms} false alarms in {repeats} repeats, with 1, 2 and 3 workers in turn")
    return alarms == 0


def repeats_elsewhere(
    tree: Path,
    suite: Path,
    folder: Path,
    settings: Mapping[str, str],
    repeats: int,
    workers: int,
    say: Callable[[str], None],
) -> bool:
    """Compare fresh seeds of the sound copy with themselves elsewhere, and with others; whether alarms are few."""
    seeds = range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + SEEDS * repeats)
    many = suite_with_seeds(suite, folder, seeds)
    permuted = patched_tree(tree, folder / "permuted", PERMUTED_SUM)
    say(f"measuring {len(seeds)} seeds three times")
    before = make_baseline(tree, many, folder / "before", workers=workers)
    say("measured in the baseline's environment")
    other = make_baseline(tree, many, folder / "other", settings, workers)
    say("measured with other instructions")
    reverse = make_baseline(permuted, many, folder / "reverse", workers=workers)
    pairings = (
        ("other instructions, the same seeds", other, 0),
        ("permuted sum, the same seeds", reverse, 0),
        ("other instructions, other seeds", other, 1),
        ("permuted sum, other seeds", reverse, 1),
    )
    print(f"\nFalse alarms elsewhere, {repeats} repeats with {SEEDS} seeds of their own each:\n")
    are_few = True
    for name, now, shift in pairings:
        found = _compare(tree, many, before, now, shift)
        alarms = sum("worse" in judged.values() for judged in found["judged"])
        better = sum("better" in judged.values() for judged in found["judged"])
        are_few = are_few and alarms <= ALLOWED * repeats
        print(f"- {name}: {alarms} worse, {better} better")
        if shift == 0:
            for label, std in found["scatter"].items():
                print(f"  - {label}: the differences scatter by {100 * (std or 0):.2f} points over seeds")
    return are_few


def _compare(tree: Path, suite: Path, before: Path, now: Path, shift: int) -> dict[str, Any]:
    files = ["--suite", str(suite), "--before", str(before), "--now", str(now)]
    done = subprocess.run(
        [sys.executable, str(HERE / "false_alarms.py"), *files, "--size", str(SEEDS), "--shift", str(shift)],
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
