"""Simulate how often the gate errs and how often it finds what it says it finds; takes about three minutes.

    python benchmarks/statistics/simulate.py

The judgements and the promises are those of the package. Nothing is trained: the differences between a check and its
baseline are drawn from a distribution. The tables are Markdown; docs/explanation/statistics.md shows them. The number
in brackets is the standard error of the simulation, √(p(1 − p)/repeats).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedbench.gate.accuracy import judge_all
from fedbench.gate.checks import Judgement
from fedbench.gate.power import minimum_detectable_effect, seeds_needed
from fedbench.stats import Difference, difference_of

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Values]
MARGIN, NUM_CELLS, NUM_SEEDS, NUM_RESERVE = 0.01, 5, 5, 5
SCALES = (0.3, 1, 10)  # standard deviations of the differences, in margins


def discrete(values: Sequence[float], shares: Sequence[float]) -> Draw:
    """Draws from a few values with mean zero, scaled to a standard deviation of 1."""
    std = math.sqrt(np.dot(np.square(values), shares))
    return lambda stream, size: stream.choice(values, p=shares, size=size) / std


def jumps(share: float, height: float) -> Draw:
    """Draws from normal noise and rare seeds that are `height` standard deviations of the noise higher."""
    std = math.sqrt(1 + height**2 * share * (1 - share))
    return lambda stream, size: (stream.normal(size=size) + height * ((stream.random(size) < share) - share)) / std


SHAPES: dict[str, Draw] = {  # each with mean 0 and standard deviation 1
    "normal": lambda stream, size: stream.normal(size=size),
    "heavy tails: Student's t, 3 degrees of freedom": lambda stream, size: stream.standard_t(3, size) / math.sqrt(3),
    "exponential, rare large rises": lambda stream, size: stream.exponential(size=size) - 1,
    "exponential, rare large drops": lambda stream, size: 1 - stream.exponential(size=size),
    "three values: -1 (10 %), 0, 1 (10 %)": discrete((-1, 0, 1), (0.1, 0.8, 0.1)),
    "three values: -1 (30 %), 0, 3 (10 %)": discrete((-1, 0, 3), (0.3, 0.6, 0.1)),
    "two values: -1 (50 %), 1 (50 %)": discrete((-1, 1), (0.5, 0.5)),
    "noise, 1 seed in 10 jumps up by 10 times the noise": jumps(0.1, 10),
    "noise, 1 seed in 20 jumps up by 20 times the noise": jumps(0.05, 20),
    "noise, 1 seed in 10 jumps down by 10 times the noise": lambda stream, size: -jumps(0.1, 10)(stream, size),
}
NOT_COVERED: dict[str, Draw] = {  # shapes that so few seeds cannot tell from a drop
    "noise, 1 seed in 10 jumps up by 20 times the noise": jumps(0.1, 20),
}


def paired(differences: Values) -> Difference:
    """The seeds' differences as the gate compares them."""
    return difference_of(dict.fromkeys(range(len(differences)), 0.0), dict(enumerate(differences.tolist())))


def independent(before: Values, now: Values) -> Difference:
    """Two sets of seeds that have none in common, as the gate compares them."""
    return difference_of(dict(enumerate(before.tolist())), dict(enumerate(now.tolist(), start=len(before))))


def judged(seeds: Values, num_first: int) -> list[Judgement]:
    """The judgements on cells by their seeds' differences: by all of them where the first ones suggest a change."""
    first = [paired(cell[:num_first]) for cell in seeds]  # (cells, seeds)
    return judge_all(
        [paired(cell) if abs(each.mean) > MARGIN else each for cell, each in zip(seeds, first, strict=True)], MARGIN
    )


def any_cell(draw: Draw, scale: float, shift: float, wrong: Sequence[Judgement], num_seeds: int, repeats: int) -> float:
    """How often any of five cells is judged wrongly, if the true difference of each is `shift`."""
    stream = np.random.default_rng(0)
    seeds = shift + scale * MARGIN * draw(stream, (repeats, NUM_CELLS, num_seeds))
    return sum(any(each in wrong for each in judged(suite, NUM_SEEDS)) for suite in seeds) / repeats


def any_cell_of_new_seeds(draw: Draw, scale: float, num_baseline: int, num_seeds: int, repeats: int) -> float:
    """How often any of five unchanged cells is `worse` by seeds that the baseline does not have."""
    stream = np.random.default_rng(0)
    before, now = (scale * MARGIN * draw(stream, (repeats, NUM_CELLS, count)) for count in (num_baseline, num_seeds))
    checks = (judge_all(list(map(independent, *suite)), MARGIN) for suite in zip(before, now, strict=True))
    return sum(Judgement.WORSE in each for each in checks) / repeats


def power_of_effect(num_seeds: int, num_cells: int, repeats: int, std: float = 0.005, is_paired: bool = True) -> float:
    """How often a drop is `worse` that is as large as the minimum detectable effect."""
    stream = np.random.default_rng(0)
    error = std / math.sqrt(num_seeds)
    freedom = num_seeds - 1 if is_paired else 2 * (num_seeds - 1)
    stated = Difference(0, error if is_paired else math.sqrt(2) * error, freedom, is_paired)
    effect = minimum_detectable_effect(stated, MARGIN, num_cells)
    if effect is None:
        raise ValueError("the scatter is known")
    found = 0
    for _ in range(repeats):
        before, now = stream.normal(0, std, (2, num_seeds))
        unchanged = [Difference(0.0, error, num_seeds - 1, is_paired=True)] * (num_cells - 1)
        cell = paired(now - effect) if is_paired else independent(before, now - effect)
        found += judge_all([cell, *unchanged], MARGIN)[0] is Judgement.WORSE
    return found / repeats


def power_of_seeds(std: float, num_seeds: int, num_baseline: int | None, repeats: int) -> float:
    """How often one of five unchanged cells is `equivalent`; the others are inconclusive."""
    stream = np.random.default_rng(0)
    unclear = [Difference(0.0, 1.0, num_seeds - 1, is_paired=True)] * (NUM_CELLS - 1)
    found = 0
    for _ in range(repeats):
        now = stream.normal(0, std, num_seeds)
        cell = independent(stream.normal(0, std, num_baseline), now) if num_baseline else paired(now)
        found += judge_all([cell, *unclear], MARGIN)[0] is Judgement.EQUIVALENT
    return found / repeats


def percent(share: float, repeats: int) -> str:
    """A share and its Monte Carlo error."""
    return f"{100 * share:.1f} ({100 * math.sqrt(share * (1 - share) / repeats):.1f})"


def row(*entries: object) -> None:
    """Print a row of a table."""
    print(f"| {' | '.join(map(str, entries))} |", flush=True)


def print_errors(
    title: str,
    shapes: dict[str, Draw],
    repeats: int,
    shift: float = 0.0,
    wrong: Sequence[Judgement] = (Judgement.WORSE,),
    scales: Sequence[float] = SCALES,
) -> None:
    """Print how often any cell is judged wrongly, by shape, scale and number of seeds."""
    print(f"\n{title}, in percent of {repeats:,} checks of {NUM_CELLS} cells, by deviation in margins:\n")
    counts = (NUM_SEEDS, NUM_SEEDS + NUM_RESERVE)
    row("differences", *(f"{scale:g}, {count} seeds" for scale in scales for count in counts))
    row("---", *["---:"] * len(scales) * len(counts))
    for name, draw in shapes.items():
        rates = (any_cell(draw, scale, shift, wrong, count, repeats) for scale in scales for count in counts)
        row(name, *(percent(rate, repeats) for rate in rates))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5_000, help="of each number (default: 5000)")
    repeats = parser.parse_args().repeats
    print_errors("False alarms: `worse` where nothing changed", SHAPES, repeats)
    print_errors("The same outside of what is assumed", NOT_COVERED, repeats)
    passed = (Judgement.EQUIVALENT, Judgement.NOT_WORSE, Judgement.BETTER)
    print_errors(
        "Misses: `not worse` or better where all cells lost the margin", SHAPES, repeats, -MARGIN, passed, (1,)
    )
    print(
        f"\nFalse alarms with new seeds, of a deviation of {SCALES[-1]:g} margins, in percent of {repeats:,} checks:\n"
    )
    row("seeds of the baseline", "new seeds", *list(SHAPES)[:4])
    row(*["---:"] * 6)
    for sizes in ((5, 5), (5, 10), (10, 5), (5, 20), (20, 5)):
        rates = (any_cell_of_new_seeds(draw, SCALES[-1], *sizes, repeats) for draw in list(SHAPES.values())[:4])
        row(*sizes, *(percent(rate, repeats) for rate in rates))
    print(f"\nMinimum detectable effect: `worse`, in percent of {repeats:,} checks; 90 is stated:\n")
    row("seeds", "cells", "compared", "found")
    row("---:", "---:", "---", "---:")
    for num_seeds, num_cells, is_paired in (
        (3, 5, True),
        (3, 15, True),
        (5, 5, True),
        (10, 5, True),
        (20, 5, True),
        (5, 5, False),
        (10, 5, False),
    ):
        found = power_of_effect(num_seeds, num_cells, repeats, is_paired=is_paired)
        row(num_seeds, num_cells, "in pairs" if is_paired else "as new seeds", percent(found, repeats))
    print(f"\nSeeds needed: `equivalent`, in percent of {repeats:,} checks; 90 or more is stated:\n")
    row("deviation, in margins", "seeds of the baseline", "seeds needed", "equivalent")
    row("---:", "---:", "---:", "---:")
    for deviation, num_baseline in (
        (0.3, None),
        (0.5, None),
        (1, None),
        (2, None),
        (0.5, 10),
        (1, 30),
        (1, 50),
        (1, 5),
    ):
        needed = seeds_needed(deviation * MARGIN, MARGIN, NUM_CELLS, not num_baseline, num_baseline)
        if needed:
            found = power_of_seeds(deviation * MARGIN, needed, num_baseline, repeats)
            row(deviation, num_baseline or "the same", needed, percent(found, repeats))
        else:
            both = seeds_needed(deviation * MARGIN, MARGIN, NUM_CELLS)
            row(deviation, num_baseline, f"impossible: the baseline needs {both}", "")


if __name__ == "__main__":
    main()
