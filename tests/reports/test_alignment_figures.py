"""The figures of aligned models, from made lines and correlations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_suite import MadeSource, made_suite, stored_suite

from fedbench.reports.alignment_figures import alignment_figures
from fedbench.reports.figure import Figure
from fedbench.tracking.records import StoredSuite

TEXT = """
name: made
question: Why?
seeds: [0, 1]
defaults: {rounds: 1, interpolation: true, examples_per_client: 600}
scenarios:
  - {name: pair, init: [shared, independent], aggregation: [mean, {use: aligned, align_by: weights}]}
  - {name: more, init: [shared, independent], aggregation: {use: aligned, align_by: activations}}
"""
BEFORE, AFTER = [[0.1, 0.9], [0.8, 0.2]], [[0.9, 0.1], [0.2, 0.8]]
WIDE = {"before": [[0.0] * 40] * 40, "after": [[0.0] * 40] * 40}


@pytest.fixture
def stored(tmp_path: Path) -> StoredSuite:
    """Plain lines are 1 + θ, aligned ones half of that; with activations a repaired one is a quarter."""
    stored = stored_suite(made_suite(tmp_path, TEXT))
    assert isinstance(stored.source, MadeSource)
    cells = []
    for cell in stored.cells:
        runs = dict(cell.runs)
        heights = {"plain_": 1.0, "": 0.5} | ({"repaired_": 0.25} if cell.spec.get("align_by") == "activations" else {})
        for seed, run in cell.runs.items() if cell.spec.aggregation == "aligned" else ():
            for name, height in heights.items():
                series = {step: height * (1 + step / 100) for step in (-20, 0, 50, 100)}
                stored.source.histories[run.run_id, f"interpolation/{name}loss"] = series
            more = {f"interpolation/{name}loss": 1.0 for name in heights}
            runs[seed] = replace(run, metrics={**run.metrics, **more})
            found = {"conv1": {"before": BEFORE, "after": AFTER}, "fc1": WIDE}
            stored.source.texts[run.run_id, "correlations.json"] = json.dumps(found)
        cells.append(replace(cell, runs=runs))
    return replace(stored, cells=tuple(cells))


def figures_of(stored: StoredSuite) -> dict[str, Figure]:
    return {figure.name: figure for figure in alignment_figures(stored)}


def test_the_lines_of_all_cells_of_one_setting_are_in_one_panel_each_of_them_once(stored: StoredSuite) -> None:
    rows = figures_of(stored)["loss-between-two-models-plain-aligned-repaired"].rows
    assert {"pair"} == {row["panel"] for row in rows}
    middle = {row["models"]: row["loss (nats)"] for row in rows if row["θ"] == 0.5}
    aligned = {"aligned by weights": 0.75, "aligned by activations": 0.75, "aligned by activations, repaired": 0.375}
    assert {"shared start, plain": 1.5, "plain": 1.5} | aligned == middle
    assert {0.0, 0.5, 1.0} == {row["θ"] for row in rows}


def test_the_units_are_those_of_the_last_layer_that_can_be_drawn(stored: StoredSuite) -> None:
    figure = figures_of(stored)["which-units-of-two-models-are-alike"]
    assert "layer conv1" in figure.caption
    panels = {panel: [row["correlation"] for row in figure.rows if row["panel"] == panel] for panel in PANELS}
    before, after = ([value for row in matrix for value in row] for matrix in (BEFORE, AFTER))
    assert dict(zip(PANELS, (before, before, after, after), strict=True)) == panels
    assert 4 * 4 == len(figure.rows)


PANELS = ("shared start, plain", "plain", "aligned by weights", "aligned by activations")


@pytest.mark.parametrize("text", [None, "", "[]", '{"conv1": {"after": [[1.0]]}}', '{"a": {"before": [["x"]]}}'])
def test_correlations_that_are_gone_or_damaged_are_not_drawn(stored: StoredSuite, text: str | None) -> None:
    assert isinstance(stored.source, MadeSource)
    for key in list(stored.source.texts):
        if text is None:
            del stored.source.texts[key]
        else:
            stored.source.texts[key] = text
    assert ["loss-between-two-models-plain-aligned-repaired"] == list(figures_of(stored))


def test_a_suite_without_aligned_models_has_no_such_figures(tmp_path: Path) -> None:
    assert [] == list(alignment_figures(stored_suite(made_suite(tmp_path))))
