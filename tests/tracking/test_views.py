"""The views are what MLflow's UI can read. tests/test_ui_browser.py looks at what it makes of them."""

from __future__ import annotations

import json
from typing import Any

from fedbench.tracking.views import CELLS, SEEDS, view_address, view_tags

MAX_TAG = 5_000  # characters in an experiment's tag, MLflow's limit


def state(view: str) -> dict[str, Any]:
    saved = json.loads(view_tags()[f"mlflow.sharedViewState.{view}"])
    return dict(json.loads(saved["state"]))


def test_each_view_is_a_tag_that_mlflow_lists_by_name() -> None:
    saved = {key: json.loads(value) for key, value in view_tags().items()}
    assert ["mlflow.sharedViewState.seeds", "mlflow.sharedViewState.cells"] == list(saved)
    assert ["Seeds by cell", "Cells, mean and spread"] == [view["name"] for view in saved.values()]
    assert all(isinstance(view["createdAt"], int) and isinstance(view["state"], str) for view in saved.values())


def test_a_view_fits_into_a_tag() -> None:
    assert all(len(value) < MAX_TAG for value in view_tags().values())


def test_the_seeds_are_not_sorted_by_their_creation_which_would_bring_in_the_cells_own_runs() -> None:
    assert "attributes.start_time" != state(SEEDS)["orderByKey"]


def test_lines_are_drawn_as_measured() -> None:
    lines = [chart for chart in state(SEEDS)["compareRunCharts"] if chart["type"] == "LINE"]
    assert [0] * 3 == [chart["lineSmoothness"] for chart in lines]


def test_every_chart_is_in_a_section_that_is_open() -> None:
    (open_section,) = (section for section in state(SEEDS)["compareRunSections"] if section["display"])
    assert {open_section["uuid"]} == {chart["metricSectionId"] for chart in state(SEEDS)["compareRunCharts"]}


def test_the_addresses_name_the_views() -> None:
    runs = "http://host:1/#/experiments/7/runs"
    query = "compareRunsMode=CHART&workflowType=machine_learning"
    assert f"{runs}?viewStateShareKey=seeds&{query}" == view_address("http://host:1", "7", SEEDS)
    assert f"{runs}?viewStateShareKey=cells&workflowType=machine_learning" == view_address("http://host:1", "7", CELLS)
