"""Simulate studies of six cells with five seeds: how often intervals hold, and claims of a difference are false.

    python benchmarks/statistics/contrasts.py

The intervals and claims are those of `fedbench answer`. Nothing is trained: each cell's values are drawn. In a study
all 15 pairs of cells are compared. The tables are Markdown; docs/explanation/statistics.md shows them. It takes about
eight minutes.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr

from fedbench.stats import (
    LEVEL,
    Spread,
    detectable_difference,
    difference_of,
    holm,
    interval_of,
    p_differs,
    p_lower,
    seeds_to_show,
    spread,
)

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Values]  # the values of (cells, seeds)
NUM_CELLS, NUM_SEEDS = 6, 5
SCALES = np.array([1.0, 1, 2, 2, 4, 4])[:, np.newaxis]  # of the cells; some scatter four times as much as others
TEST_SET = 1_000  # examples, of which an accuracy is a multiple


def rates(mean: float, sizes: Sequence[float], common: float = 0) -> Draw:
    """Accuracies with a beta distribution: the larger its size, the less a cell's seeds scatter.

    `common` is the correlation of the normal numbers behind a seed's accuracies in two cells (a Gaussian copula).
    Rounding to the test set moves the means by at most 0.003 points.
    """
    alike = np.array(sizes)[:, np.newaxis]

    def draw(stream: np.random.Generator, size: tuple[int, int]) -> Values:
        normal = math.sqrt(common) * stream.normal(size=size[1]) + math.sqrt(1 - common) * stream.normal(size=size)
        drawn = betaincinv(mean * alike, (1 - mean) * alike, ndtr(normal))
        return np.asarray(np.round(drawn * TEST_SET) / TEST_SET - mean)

    return draw


def lognormal(stream: np.random.Generator, size: tuple[int, int]) -> Values:
    """Values with rare low ones, each pair of cells more skewed than the one before: 0.6, 1.8 and 3.7."""
    spreads = np.array([0.2, 0.2, 0.5, 0.5, 0.8, 0.8])[:, np.newaxis]
    return np.asarray(np.exp(spreads**2 / 2) - np.exp(spreads * stream.normal(size=size)))


SHAPES: dict[str, Draw] = {  # each with mean zero in every cell
    "normal": lambda stream, size: stream.normal(size=size),
    "normal, seeds in common": lambda stream, size: SCALES * stream.normal(size=size) + 3 * stream.normal(size=size[1]),
    "heavy tails: Student's t, 3 degrees of freedom": lambda stream, size: SCALES * stream.standard_t(3, size),
    "exponential, rare low values, alike": lambda stream, size: 1 - stream.exponential(size=size),
    "exponential, rare low values, scatter 1 to 4": lambda stream, size: SCALES * (1 - stream.exponential(size=size)),
    "log-normal, skewness 0.6 to 3.7": lognormal,
    "accuracies about 97 %, scatter 0.9 to 3.1 points": rates(0.97, (400, 400, 100, 100, 30, 30)),
    "accuracies about 97 %, correlated by 0.8": rates(0.97, (400, 400, 100, 100, 30, 30), common=0.8),
    "accuracies about 3 %, scatter 0.9 to 3.1 points": rates(0.03, (400, 400, 100, 100, 30, 30)),
    "accuracies about 99.5 %, scatter 0.1 to 0.2 points": rates(0.995, (5000, 5000, 2500, 2500, 1250, 1250)),
}
NOT_COVERED: dict[str, Draw] = {
    # Cells of which most seeds are perfect and a rare one is not.
    "accuracies about 99.5 %, scatter 0.4 to 1.3 points": rates(0.995, (400, 400, 100, 100, 30, 30)),
    # A rare bad seed is as bad in all cells, but costs one of them four times as much.
    "accuracies about 97 %, correlated by 0.95": rates(0.97, (400, 400, 100, 100, 30, 30), common=0.95),
}


def pairs_of(values: Values) -> Iterator[Spread]:
    """The differences of all pairs of cells, (cells, seeds)."""
    for one, other in combinations(values, 2):
        yield spread((other - one).tolist())


def simulate(draw: Draw, studies: int, num_seeds: int = NUM_SEEDS, num_cells: int = NUM_CELLS) -> Counter[str]:
    """Compare all cells of so many studies, of which all true differences are zero.

    Counted are ``pairs`` that have an interval, those where it ``held`` the truth, and Student's; the pairs without
    one, whose differences are ``equal``; and the studies with a ``claim``, which is false, also by Student's test.
    """
    stream, counts = np.random.default_rng(0), Counter[str]()
    chosen = [0, -1] if num_cells == 2 else list(range(num_cells))  # the two that are least alike
    for _ in range(studies):
        pairs = list(pairs_of(draw(stream, (NUM_CELLS, num_seeds))[chosen]))
        intervals = [interval_of(each) for each in pairs]
        for each, interval in zip(pairs, intervals, strict=True):
            counts["equal" if interval is None else "pairs"] += 1
            counts["held"] += _holds(interval)
            counts["held by Student's"] += interval is not None and _holds(each.interval)
        adjusted = holm([p_differs(each) for each in pairs])
        counts["claim"] += any(
            p <= LEVEL and not _holds(interval) for p, interval in zip(adjusted, intervals, strict=True)
        )
        counts["claim by Student's"] += min(holm([_student(each) for each in pairs])) <= LEVEL
    return counts


def _holds(interval: tuple[float, float] | None) -> bool:
    return interval is not None and interval[0] <= 0 <= interval[1]


def _student(differences: Spread) -> float:
    """The two-sided p-value of Student's test, where the differences are not all equal."""
    if not differences.error:
        return 1.0
    one = difference_of(dict.fromkeys(range(len(differences.values)), 0.0), dict(enumerate(differences.values)))
    return 2 * min(p_lower(one, 0.0), 1 - p_lower(one, 0.0))


def power(num_seeds: int, num_tests: int, repeats: int) -> tuple[float, float]:
    """How often a normal difference is shown: the minimum detectable effect, and another with the seeds needed."""
    stream = np.random.default_rng(0)
    scatter = np.linspace(-1, 1, num_seeds)
    stated = spread((scatter / scatter.std(ddof=1)).tolist())
    effect = detectable_difference(stated, num_tests) or math.nan
    wanted = spread([value + 0.6 for value in stated.values])
    needed = seeds_to_show(wanted, num_tests) or 0

    def shown(size: float, count: int) -> float:
        drawn = stream.normal(size, 1, (repeats, count))
        return sum(p_differs(spread(each)) * num_tests <= LEVEL for each in drawn.tolist()) / repeats

    return shown(effect, num_seeds), shown(0.6, needed)


def percent(share: float, repeats: int) -> str:
    """A share and its Monte Carlo error."""
    return f"{100 * share:.1f} ({100 * math.sqrt(share * (1 - share) / repeats):.1f})"


def row(*entries: object) -> None:
    """Print a row of a table."""
    print(f"| {' | '.join(map(str, entries))} |", flush=True)


def print_errors(shapes: dict[str, Draw], studies: int, num_seeds: int, num_cells: int) -> None:
    """Print how often intervals hold and differences are claimed wrongly, by shape."""
    print(f"\n{num_cells} cells, {num_seeds} seeds, {studies:,} studies; percent:\n")
    row("values", "the interval holds", "Student's", "a false claim", "by Student's test")
    row("---", *["---:"] * 4)
    for name, draw in shapes.items():
        found = simulate(draw, studies, num_seeds, num_cells)
        shares = (found[each] / found["pairs"] for each in ("held", "held by Student's"))
        claims = (percent(found[each] / studies, studies) for each in ("claim", "claim by Student's"))
        row(name, *(f"{100 * each:.1f}" for each in shares), *claims)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2_000, help="of each number (default: 2000)")
    studies = parser.parse_args().studies
    print_errors(SHAPES, studies, NUM_SEEDS, NUM_CELLS)
    print_errors(NOT_COVERED, studies, NUM_SEEDS, NUM_CELLS)
    for num_seeds in (3, 10):
        print_errors(SHAPES, studies, num_seeds, NUM_CELLS)
    print_errors(SHAPES, studies, NUM_SEEDS, 2)
    print(f"\nA difference is shown, in percent of {studies:,} comparisons; 80 is stated:\n")
    row("seeds", "comparisons", "of the minimum detectable effect", "of 0.6 standard deviations, with the seeds needed")
    row(*["---:"] * 4)
    for num_seeds, num_tests in ((3, 1), (5, 1), (5, 15), (10, 15)):
        row(num_seeds, num_tests, *(percent(each, studies) for each in power(num_seeds, num_tests, studies)))


if __name__ == "__main__":
    main()
