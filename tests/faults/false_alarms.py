"""How often the gate's statistics find a sound tree worse: two measurements of one suite, cut into repeats by seeds.

The measurements are baseline files of the same code in two environments (or twice in one) with many seeds. Repeat i
compares a few seeds of the first with as many of the second: the same ones, or with --shift 1 those of repeat i + 1.
Prints JSON. It is started by prove.py with the tree whose suite it is in PYTHONPATH.

    python tests/faults/false_alarms.py --suite FILE --before FILE --now FILE --size 5
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fedbench.gate.against_baseline import check_against_baseline

from fedbench.gate.baseline import CellRecord, read_baseline
from fedbench.stats import spread
from fedbench.suites.loading import load_suite


def cut(cells: Sequence[CellRecord], seeds: Sequence[int]) -> tuple[CellRecord, ...]:
    """The cells with these seeds alone."""
    return tuple(
        cell.model_copy(update={"seeds": tuple(record for record in cell.seeds if record.seed in seeds)})
        for cell in cells
    )


def scatter(before: Sequence[CellRecord], now: Sequence[CellRecord], metric: str) -> dict[str, float | None]:
    """Of each cell the standard deviation over seeds of the difference of its last round."""
    found: dict[str, float | None] = {}
    for one, other in zip(before, now, strict=True):
        values = [
            [record.rounds[-1].metrics[metric] or 0.0 for _, record in sorted(each.by_seed.items())]
            for each in (one, other)
        ]
        found[one.label] = spread([second - first for first, second in zip(*values, strict=True)]).std
    return found


def main() -> int:
    """Cut, compare, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, required=True, help="the suite's file, with all seeds")
    parser.add_argument("--before", type=Path, required=True, help="a baseline of it")
    parser.add_argument("--now", type=Path, required=True, help="another one")
    parser.add_argument("--size", type=int, default=5, help="seeds a repeat (default: 5)")
    parser.add_argument("--shift", type=int, default=0, help="how many repeats further the second's seeds are")
    options = parser.parse_args()
    suite = load_suite(options.suite)
    before, now = (read_baseline(path, suite.name) for path in (options.before, options.now))
    seeds = suite.cells[0].seeds
    repeats = [seeds[start : start + options.size] for start in range(0, len(seeds), options.size)]
    judged: list[dict[str, str]] = []
    for number, chosen in enumerate(repeats):
        theirs = repeats[(number + options.shift) % len(repeats)]
        old = before.model_copy(update={"cells": cut(before.cells, chosen)})
        result = check_against_baseline(suite, old, cut(now.cells, theirs), "cpu", 0.0, ignore_bits=True)
        judged.append({each.cell.label: str(each.judgement) for each in result.cells})
    print(json.dumps({"judged": judged, "scatter": scatter(before.cells, now.cells, before.metric)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
