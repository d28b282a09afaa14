"""A suite's figures of aligned models: the line between two of them, and which of their units are alike."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from fedbench.reports.figure import BAND, Figure, Kind, Row, measured, number
from fedbench.reports.layout import seeds_text
from fedbench.reports.measure import LOSS
from fedbench.reports.panels import describe
from fedbench.tracking.records import (
    CORRELATIONS_FILE,
    INTERPOLATION,
    STEPS_PER_THETA,
    StoredCell,
    StoredSuite,
    parse_correlations,
)

PART = "Aligned models"
MAX_DRAWN = 32  # units of a layer whose correlations are drawn
PLAIN, REPAIRED = "plain_", "repaired_"  # which line; see `fedbench.runs.alignment`
HOW = ("aggregation", "align_by", "repair", "init")  # what lines of one panel differ in


def alignment_figures(stored: StoredSuite) -> list[Figure]:
    """The figures for which a suite has results."""
    cells = [cell for cell in stored.measured if f"{INTERPOLATION}plain_loss" in cell.metrics]
    return [figure for figure in (_lines(stored, cells), _units(stored, cells)) if figure.rows]


def _lines(stored: StoredSuite, cells: list[StoredCell]) -> Figure:
    rows: list[Row] = [
        {"panel": panel, "models": label, "θ": step / STEPS_PER_THETA, **measured(over, LOSS)}
        for (panel, label), (cell, name) in _named_lines(cells).items()
        for step, over in stored.curve(cell, f"{INTERPOLATION}{name}loss").items()
        if 0 <= step <= STEPS_PER_THETA
    ]
    seeds = seeds_text([len(cell.finished) for cell in cells])
    title = "Loss between two models: plain, aligned, repaired"
    caption = (
        "The models θ·w + (1 − θ)·w′ between the two clients' own models w (θ = 1) and w′ (θ = 0); θ = 1/2 is their "
        "average. Aligned: the units of w′ in the order of those of w that they are most like. Repaired: the "
        f"statistics of each unit reset to those of the two models. Mean over {seeds}; band: {BAND}."
    )
    return Figure(PART, title, caption, Kind.LINES, rows, "θ", LOSS.column, series="models", possible=LOSS.possible)


def _named_lines(cells: Iterable[StoredCell]) -> dict[tuple[str, str], tuple[StoredCell, str]]:
    """By panel and label the cell and the name of each line; one that several cells have once."""
    found: dict[tuple[str, str], tuple[StoredCell, str]] = {}
    titles: dict[Hashable, str] = {}
    for cell in cells:
        axes = [axis for axis in cell.result.cell.axes if axis not in HOW]
        settings = frozenset((field, str(value)) for field, value in cell.spec.values.items() if field not in HOW)
        title = titles.setdefault(settings, describe(cell, axes) or cell.scenario)
        if cell.spec.init == "shared":
            found.setdefault((title, "shared start, plain"), (cell, PLAIN))
            continue
        by = f"aligned by {cell.spec.get('align_by')}"
        found.setdefault((title, "plain"), (cell, PLAIN))
        found.setdefault((title, by), (cell, ""))
        if f"{INTERPOLATION}repaired_loss" in cell.metrics:
            found.setdefault((title, f"{by}, repaired"), (cell, REPAIRED))
    return found


def _units(stored: StoredSuite, cells: list[StoredCell]) -> Figure:
    """The first of the settings that differ in more than `HOW`, and in it the last layer that can be drawn."""
    lines = _named_lines(cells)
    first = next((panel for panel, _ in lines), "")
    drawn = {label: line for (panel, label), line in lines.items() if panel == first}
    rows: list[Row] = []
    seed = layer = None
    for label, (cell, name) in drawn.items():
        if name == REPAIRED:
            continue
        seed, run = next(iter(cell.finished.items()))
        try:
            found = parse_correlations(stored.source.text(run.run_id, CORRELATIONS_FILE) or "")
        except ValueError:
            continue
        matrices = {layer: both["before" if name == PLAIN else "after"] for layer, both in found.items()}
        if narrow := [layer for layer, matrix in matrices.items() if len(matrix) <= MAX_DRAWN]:
            layer = narrow[-1]
            rows += [
                {"panel": label, "unit of w": i, "unit of w′": j, "correlation": number(value)}
                for i, row in enumerate(matrices[layer].tolist())
                for j, value in enumerate(row)
            ]
    title, x, y = "Which units of two models are alike", "unit of w′", "unit of w"
    caption = (
        f"Correlation of each unit of layer {layer} of the first client's model w (row) with each of the second's, w′ "
        f"(column), on 1,000 test images, in {first}, seed {seed}. Aligned: the unit of w′ that is averaged with a "
        "unit of w is on the diagonal. Correlations below 0 are as white as 0."
    )
    return Figure(PART, title, caption, Kind.MATRIX, rows, x, y, value="correlation", possible=(0, 1))
