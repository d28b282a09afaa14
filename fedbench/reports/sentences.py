"""What a suite's numbers say, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fedbench.measures import PLAIN_GAIN, Verdict
from fedbench.reports.layout import percent
from fedbench.reports.panels import by_scenario
from fedbench.stats import Spread, spread
from fedbench.tracking.records import StoredCell
from fedbench.util.text import counted


def sentences(cells: Sequence[StoredCell]) -> Iterable[str]:
    """The best and the worst cell of each scenario, what averaging gained, and every verdict that is not ok."""
    for scenario, same in by_scenario(cells).items():
        if measured := [cell for cell in same if "accuracy" in cell.metrics]:
            yield _best_and_worst(scenario, measured)
        if gains := [gain for cell in same if (gain := cell.final("averaging_gain"))]:
            yield f"{scenario}: {_gains(gains)}"
        if aligned := [cell for cell in same if PLAIN_GAIN in cell.metrics]:
            yield from _recovered(scenario, aligned)
    for cell in cells:
        if cell.spec.interpolation and cell.result.verdict is not Verdict.DIVERGED and cell.result.client_accuracy:
            yield f"{cell.label}: {_average_of_two(cell)}"
        if cell.result.verdict is not Verdict.OK:
            yield f"{cell.label}: {cell.result.verdict}, {cell.result.reason}."
    if all(cell.result.verdict is Verdict.OK for cell in cells):
        yield "Every run is ok: its model is better than predicting the largest class, by more than chance."


def _best_and_worst(scenario: str, cells: Sequence[StoredCell]) -> str:
    *_, worst = ranked = sorted(cells, key=lambda cell: -_accuracy(cell).mean)
    best = ranked[0]
    if len(ranked) == 1:
        return f"{best.label} has an accuracy of {_shown(best)}."
    if f"{_accuracy(best).mean:.3f}" == f"{_accuracy(worst).mean:.3f}":
        agreed = f"the mean accuracies of {len(ranked)} cells agree to a tenth of a point"
        return f"{scenario}: {agreed}, {percent(_accuracy(best))} %."
    return f"{best.label} has the highest accuracy, {_shown(best)}; {worst.label} has the lowest, {_shown(worst)}."


def _accuracy(cell: StoredCell) -> Spread:
    return spread([run.metrics["accuracy"] for run in cell.finished.values()])


def _shown(cell: StoredCell) -> str:
    count = len(cell.finished)
    return f"{percent(_accuracy(cell))} % ({f'{count} seeds' if count > 1 else 'one seed'})"


def _recovered(scenario: str, aligned: Sequence[StoredCell]) -> Iterable[str]:
    """What aligning models recovers of the gap between their plain average and the clients' own."""
    for cell in aligned:
        if found := cell.result.recovered:
            interval = f"95 % interval {100 * found.low:.0f} to {100 * found.high:.0f}"
            yield (
                f"{cell.label}: the average recovers {100 * found.ratio:.0f} % ({interval}) of the gap between the "
                "plain average and the clients' own models."
            )
    if without := sum(cell.result.recovered is None for cell in aligned):
        yield (
            f"{scenario}: in {without} of {len(aligned)} cells with aligned models there is no gap to recover: the "
            "seeds do not show that the plain average is worse than the clients' own models."
        )


def _average_of_two(cell: StoredCell) -> str:
    """In how many seeds the average is worse than both clients' models, between them, or better than both."""
    pairs = list(zip(cell.result.measures["accuracy"].values, cell.result.client_accuracy, strict=True))
    worse = sum(accuracy < min(clients.values()) for accuracy, clients in pairs)
    better = sum(accuracy > max(clients.values()) for accuracy, clients in pairs)
    between = len(pairs) - worse - better
    return (
        f"the average is worse than both models in {worse} of {counted(len(pairs), 'seed')}, between them in "
        f"{between}, better than both in {better}."
    )


def _gains(gains: Sequence[Spread]) -> str:
    """In how many cells the average is better than the clients' models, as far as the seeds show."""
    better = sum(gain.interval is not None and gain.interval[0] > 0 for gain in gains)
    worse = sum(gain.interval is not None and gain.interval[1] < 0 for gain in gains)
    means = sorted(gain.mean for gain in gains if math.isfinite(gain.mean))
    ends = dict.fromkeys(f"{100 * mean:+.1f}" for mean in (*means[:1], *means[-1:]))
    spanned = f"; mean gains of {' to '.join(ends)} points" if ends else ""
    return (
        f"averaging is better than the clients' own models in {better} of {counted(len(gains), 'cell')}, worse in "
        f"{worse}, inconclusive in {len(gains) - better - worse} (by the 95 % interval of the gain{spanned})."
    )
