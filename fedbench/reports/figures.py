"""A suite's figures, as data: numbers by cell and by round, models between two models, and the clients' own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from fedbench.measures import CLIENT_ACCURACY, Verdict
from fedbench.reports.alignment_figures import alignment_figures
from fedbench.reports.class_figures import confusion_figure, partition_figure, recall_figure
from fedbench.reports.figure import BAND, Figure, Kind, Row, measured
from fedbench.reports.layout import over_seeds, seeds_text
from fedbench.reports.measure import ACCURACY, DRIFT, GAIN, LOSS, RISE, Measure
from fedbench.reports.panels import (
    axis_words,
    by_scenario,
    describe,
    grouped,
    in_order,
    panels_of,
    shown,
    varying,
)
from fedbench.stats import Spread, spread
from fedbench.tracking.records import INTERPOLATION, STEPS_PER_THETA, StoredCell, StoredSuite
from fedbench.util.progress import progress

MAX_CURVES = 48  # cells with curves, for which every round of every seed is read
MAX_ROUNDS = 200  # of a line
BY_CELL, BY_ROUND, BETWEEN, CLIENTS = "By cell", "By round", "Between two models", "Clients"
CLIENT_DRIFT = f"{DRIFT.metric}/"  # a metric's name; the client's number follows

Placed = tuple[str, Sequence[tuple[Any, StoredCell]]]  # a panel: its title, and its cells with what sets them apart
Places = Callable[[StoredCell], list[str]]
Curve = Callable[[StoredCell, str], Mapping[int, Spread]]


def suite_figures(stored: StoredSuite) -> list[Figure]:
    """The figures for which a suite has results."""
    cells = stored.measured
    curved = [cell for cell in cells if cell.spec.rounds > 1]
    between = [cell for cell in cells if f"{INTERPOLATION}{LOSS.metric}" in cell.metrics]
    figures = [figure for measure in (ACCURACY, GAIN, RISE, DRIFT) for figure in _by_cell(cells, measure)]
    reads = 3 * len(curved[:MAX_CURVES]) + 2 * len(between)
    with progress(f"reading {stored.name}", reads, "curves") as advance:

        def curve(cell: StoredCell, metric: str) -> Mapping[int, Spread]:
            advance(1, cell.label)
            return stored.curve(cell, metric)

        figures += [_by_round(curved, measure, curve) for measure in (ACCURACY, LOSS, DRIFT)]
        figures += [_interpolation(between, measure, curve) for measure in (LOSS, ACCURACY)]
    figures += [
        _of_clients(cells, ACCURACY, CLIENT_ACCURACY),
        _of_clients(cells, DRIFT, CLIENT_DRIFT),
        *alignment_figures(stored),
    ]
    kept = [figure for figure in figures if figure.rows]
    return [*kept, *partition_figure(stored), *recall_figure(stored), *confusion_figure(stored)]


def _counts(panels: Iterable[Placed]) -> list[int]:
    return [len(cell.finished) for _, cells in panels for _, cell in cells]


def _by_cell(cells: Sequence[StoredCell], measure: Measure) -> Iterator[Figure]:
    """A figure for each set of one or two axes: heat maps over a scenario's last two, or intervals."""
    panels: dict[tuple[str, ...], list[Placed]] = defaultdict(list)
    for scenario, same in by_scenario(cell for cell in cells if measure.metric in cell.metrics).items():
        axes = varying(same)
        last = axes[-2:]
        for words, some in grouped(same, partial(describe, axes=axes[:-2])).items():
            title = f"{scenario}: {words}" if words else scenario if last else "all scenarios"
            names, places = _columns(some, last)
            panels[names].append((title, [(places(cell), cell) for cell in in_order(some, last)]))
    for names, found in panels.items():
        rows: list[Row] = [
            {"panel": title, **dict(zip(names, marked, strict=True)), **measured(over, measure), "shown": words}
            for title, some in found
            for places, cell in some
            for over, marked, words in _shown(cell, places, measure)
        ]
        is_matrix = len(names) == 2
        counts = _counts(found)
        bars = "" if is_matrix or max(counts) == 1 else f" Bars: {BAND}; small dots: the seeds."
        stars = " *: not every seed has the verdict ok." if any(str(row["shown"]).endswith("*") for row in rows) else ""
        title = f"{measure.name} by {' and '.join(names)}"
        caption = f"{measure.column.capitalize()} after the last round, {over_seeds(counts)}.{bars}{stars}"
        if is_matrix:
            y, x = names
            yield Figure(BY_CELL, title, caption, Kind.MATRIX, rows, x, y, value=measure.column, text="shown")
        else:
            levels = {ACCURACY: _majority(found), GAIN: [(panel, 0.0, "") for panel, _ in found]}.get(measure, [])
            x, y, possible = names[0], measure.column, measure.possible
            yield Figure(BY_CELL, title, caption, Kind.DOTS, rows, x, y, text="shown", possible=possible, levels=levels)


def _columns(
    cells: Sequence[StoredCell], axes: Sequence[str]
) -> tuple[tuple[str, ...], Callable[[StoredCell], list[str]]]:
    """The columns that set cells apart, and a cell's values there: two axes whose grid is half empty are one."""
    size = math.prod(len({cell.spec.get(axis) for cell in cells}) for axis in axes)
    if len(axes) == 2 and 2 * len(cells) <= size:
        return ("cell",), lambda cell: [describe(cell, axes)]
    if not axes:
        return ("scenario",), lambda cell: [cell.scenario]
    return tuple(map(axis_words, axes)), lambda cell: [shown(cell, axis) for axis in axes]


def _shown(cell: StoredCell, places: list[str], measure: Measure) -> Iterator[tuple[Spread, list[str], str]]:
    """A cell's number, its places with its mark, and how it is written; nothing if the number is not finite."""
    over = cell.final(measure.metric)
    if over and math.isfinite(over.mean):
        mark = "" if cell.result.verdict is Verdict.OK else " *"
        text = measure.over_seeds(over).replace(" ±", "\n±")
        yield over, places if len(places) == 2 else [places[0] + mark], text + mark


def _majority(panels: Iterable[Placed]) -> list[tuple[str, float, str]]:
    """The level of always predicting the largest class, in each panel."""
    rates = {
        (title, round(100 * over.mean, 2))
        for title, cells in panels
        for over in (cell.final("majority_rate") for _, cell in cells)
        if over
    }
    return [(title, rate, "always the largest class") for title, rate in sorted(rates)]


def _targets(panels: Iterable[Placed]) -> list[tuple[str, float, str]]:
    levels = {(title, cell.spec.target_accuracy) for title, cells in panels for _, cell in cells}
    return [(title, 100 * each, "target") for title, each in levels if each is not None]


def _by_round(curved: Sequence[StoredCell], measure: Measure, curve: Curve) -> Figure:
    cells = curved[:MAX_CURVES]
    panels = list(panels_of([cell for cell in cells if measure.metric in cell.metrics]))
    rows: list[Row] = [
        {"panel": title, "cell": words, "round": step, **measured(over, measure)}
        for title, some in panels
        for words, cell in some
        for step, over in _thinned(curve(cell, measure.metric)).items()
    ]
    caption = _means(_counts(panels))
    if any(_stopped_apart(cell) for cell in cells):
        caption += " A seed that stopped at its target before the others counts in later rounds with its last value."
    if any(cell.spec.rounds > MAX_ROUNDS for cell in cells):
        caption += f" Of more than {MAX_ROUNDS} rounds every second, third, and so on is shown, and the last."
    if len(curved) > len(cells):
        caption += f" The first {len(cells)} of {len(curved)} cells are shown."
    levels = [*_majority(panels), *_targets(panels)] if measure is ACCURACY else []
    title, y, possible = f"{measure.name} by round", measure.column, measure.possible
    return Figure(
        BY_ROUND, title, caption, Kind.LINES, rows, "round", y, series="cell", possible=possible, levels=levels
    )


def _thinned(curve: Mapping[int, Spread]) -> dict[int, Spread]:
    """At most `MAX_ROUNDS` rounds, evenly spaced, with the last one."""
    steps = list(curve)
    every = -(-len(steps) // MAX_ROUNDS)
    return {step: curve[step] for step in steps[(len(steps) - 1) % every :: every]} if steps else {}


def _means(counts: Collection[int]) -> str:
    """What lines and bands are."""
    seeds = seeds_text(counts)
    return "One seed, so no band." if seeds == "one seed" else f"Mean over {seeds}; band: {BAND}."


def _stopped_apart(cell: StoredCell) -> bool:
    """Whether some seeds of a cell stopped at its target before others."""
    reached = cell.result.rounds_to_target
    ends = {None if rounds is None else math.ceil(rounds) for rounds in reached}  # it is crossed within a round
    return cell.spec.stop_at_target and len(ends) > 1


def _interpolation(cells: Sequence[StoredCell], measure: Measure, curve: Curve) -> Figure:
    others = {name: [axis for axis in varying(same) if axis != "init"] for name, same in by_scenario(cells).items()}
    rows: list[Row] = [
        {
            "panel": f"{cell.scenario} {describe(cell, others[cell.scenario])}".strip(),
            "init": cell.spec.init,
            "θ": step / STEPS_PER_THETA,
            **measured(over, measure),
        }
        for cell in cells
        for step, over in curve(cell, f"{INTERPOLATION}{measure.metric}").items()
    ]
    sets = sorted({cell.spec.interpolation_set for cell in cells})
    where = " or ".join({"test": "the test set", "train": "all training data"}[each] for each in sets)
    title, y = f"{measure.name} between two models", measure.column
    caption = (
        f"The models θ·w + (1 − θ)·w′ on the line through the two clients' own models w (θ = 1) and w′ (θ = 0), on "
        f"{where}; θ = 1/2 is their average. {_means([len(cell.finished) for cell in cells])} "
        "After figure 1 of McMahan et al. (2017), who show the training loss."
    )
    return Figure(BETWEEN, title, caption, Kind.LINES, rows, "θ", y, series="init", possible=measure.possible)


def _of_clients(cells: Sequence[StoredCell], measure: Measure, prefix: str) -> Figure:
    """How far the clients of a cell lie apart: each client's own model, and for accuracy the server's."""
    panels = list(panels_of([cell for cell in cells if any(name.startswith(prefix) for name in cell.metrics)]))
    rows: list[Row] = [
        {"panel": title, "cell": words, "model": model, "client": client, **measured(over, measure)}
        for title, some in panels
        for words, cell in some
        for model, client, over in _models(cell, measure, prefix)
    ]
    what = {
        ACCURACY: "Each client's own model before the last average, on the whole test set, and the server's model.",
        DRIFT: "Euclidean distance between each client's own model and their average, in the last round.",
    }[measure]
    title, y = f"{measure.name} of each client", measure.column
    caption = f"{what} A dot is a client's mean over {seeds_text(_counts(panels))}."
    return Figure(CLIENTS, title, caption, Kind.DOTS, rows, "cell", y, series="model", possible=measure.possible)


def _models(cell: StoredCell, measure: Measure, prefix: str) -> Iterator[tuple[str, int | None, Spread]]:
    """Each client's number over the seeds in which it was measured, and the server's."""
    values: dict[int, list[float]] = defaultdict(list)
    for run in cell.finished.values():
        for name, value in run.metrics.items():
            if name.startswith(prefix):
                values[int(name.removeprefix(prefix))].append(value)
    for client, found in sorted(values.items()):
        yield "a client's own", client, spread(found)
    if measure is ACCURACY and (over := cell.final(measure.metric)):
        yield "the server's", None, over
