"""Checks with made numbers: what a reader can work out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fedbench.gate.checks import AccuracyCheck, BenchmarkCheck, CellCheck, Gate, Judgement, SpeedCheck
from fedbench.stats import difference_of, spread
from fedbench.suites.schema import Cell, CellSpec

NASTY = "a|b <img src=x> `c` *d* [e](f) @g\n\x00#1"  # what Markdown, HTML or XML would take for its own
COMMIT = "c0ffee1" + 33 * "0"
OTHER = ("torch 2.14.1, was 2.13.0", "processor GenuineIntel, was AuthenticAMD")


def made_cell(init: str = "shared", scenario: str = "pair") -> Cell:
    spec = CellSpec(dataset="mnist-5k", model="simple-cnn", init=init, examples_per_client=20)
    return Cell(suite="made", scenario=scenario, spec=spec, axes=("init",), seeds=(0, 1, 2))


def same_cell(init: str = "shared") -> CellCheck:
    values = spread([0.86, 0.87, 0.88])
    return CellCheck(made_cell(init), values, values, 0.0, (0.0, 0.0), True, Judgement.SAME, fresh_seeds_needed=28)


def made_check(
    init: str = "shared",
    differences: Sequence[float] = (-0.05, -0.06, -0.07),
    judgement: Judgement = Judgement.WORSE,
    changed: str | None = None,
    reason: str | None = None,
) -> CellCheck:
    """A cell whose seeds were 0.86, 0.87 and 0.88, and are that plus `differences`."""
    before = {seed: 0.86 + 0.01 * seed for seed in range(len(differences))}
    now = {seed: before[seed] + each for seed, each in enumerate(differences)}
    difference = difference_of(before, now)
    return CellCheck(
        cell=made_cell(init),
        baseline=spread(list(before.values())),
        now=spread(list(now.values())),
        difference=difference.mean,
        interval=difference.interval,
        is_paired=difference.is_paired,
        judgement=judgement,
        changed=changed,
        reason=reason,
        detectable_effect=0.021 if difference.error is not None else None,
        seeds_needed=12 if difference.error is not None else None,
        fresh_seeds_needed=1_400,
    )


def made_accuracy(*cells: CellCheck, other: tuple[str, ...] = ()) -> AccuracyCheck:
    return AccuracyCheck("made", "accuracy", 0.01, COMMIT, other, not other, cells, seconds=12.3456)


def made_benchmark(
    name: str = "step[cnn-10]",
    ratio: float = 1.0,
    judgement: Judgement = Judgement.NOT_WORSE,
    reason: str | None = None,
    group: str = "training",
) -> BenchmarkCheck:
    interval = (ratio - 0.02, ratio + 0.02) if math.isfinite(ratio) else None
    samples = 120 if math.isfinite(ratio) else 0
    before = 0.02 if samples else math.nan
    return BenchmarkCheck(name, group, ratio, interval, before, 0.02 * ratio, samples, judgement, reason)


def made_speed(*benchmarks: BenchmarkCheck, against: str = "main") -> SpeedCheck:
    return SpeedCheck(against, COMMIT, 1.05, "a processor, 2 cores", benchmarks, seconds=200.0)


PASSED = Gate(
    made_accuracy(same_cell(), made_check("independent", (0.001, 0.002, 0.0), Judgement.EQUIVALENT), other=OTHER),
    made_speed(made_benchmark(), made_benchmark("average", 0.8, Judgement.BETTER, group="averaging")),
)
CHANGED = Gate(
    made_accuracy(
        same_cell(),
        made_check(
            "independent",
            (0.001, 0.002, 0.0),
            Judgement.EQUIVALENT,
            changed="3 of 3 seeds, first in seed 0: round 2, client 1",
        ),
    ),
    None,
)
FAILED = Gate(
    made_accuracy(made_check(), made_check("independent", (0.01,), Judgement.INCONCLUSIVE, reason="one seed")),
    made_speed(
        made_benchmark("step[cnn-10]", 1.3, Judgement.WORSE),
        made_benchmark("evaluate", math.nan, Judgement.WORSE, "fails: ZeroDivisionError: division by zero"),
        made_benchmark("average", 1.04, Judgement.INCONCLUSIVE, "not clear after 9 sessions"),
    ),
)
STRICT = replace(
    FAILED,
    accuracy=made_accuracy(
        made_check("independent", (0.01,), Judgement.INCONCLUSIVE, reason="one seed"),
        made_check("shared", (0.05, 0.06, 0.07), Judgement.BETTER),
    ),
    speed=None,
    is_strict=True,
)
SPEED_ALONE = Gate(None, made_speed(made_benchmark("step", 1.02)))
NASTY_NAMES = Gate(
    made_accuracy(replace(made_check(reason=f"1 of 3 seeds failed: {NASTY}"))),
    made_speed(made_benchmark(NASTY, 1.3, Judgement.WORSE), against=NASTY),
)
GATES = (PASSED, CHANGED, FAILED, STRICT, SPEED_ALONE, NASTY_NAMES)
